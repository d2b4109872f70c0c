"""Symmetries: actions on parameters that keep the function."""

from .permutation import apply, compose, identity, invert, random
from .relaxation import matrices_of, transport

__all__ = ["apply", "compose", "identity", "invert", "matrices_of", "random", "transport"]
