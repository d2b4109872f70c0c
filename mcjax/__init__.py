"""mcjax: connect, align, compare and merge trained networks, in JAX."""

from . import align, path, symmetry
from .evaluation import evaluate
from .network.trace import trace

__all__ = ["align", "evaluate", "path", "symmetry", "trace"]
