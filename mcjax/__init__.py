"""mcjax: connect, align, compare and merge trained networks, in JAX."""

from .network.trace import trace

__all__ = ["trace"]
