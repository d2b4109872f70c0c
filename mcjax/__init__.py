"""mcjax: connect, align, compare and merge trained networks, in JAX."""

from . import path
from .evaluation import evaluate
from .network.trace import trace

__all__ = ["evaluate", "path", "trace"]
