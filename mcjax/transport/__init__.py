"""Transport between the units of two networks: exact assignment, entropic plans, searches."""

from .decomposition import birkhoff

__all__ = ["birkhoff"]
