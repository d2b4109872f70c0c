"""Elements of groups that act on units, as arrays: they know no network (`mcjax.Action` does)."""

from .permutation import compose, identity, invert, random

__all__ = ["compose", "identity", "invert", "random"]
