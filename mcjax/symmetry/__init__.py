"""Symmetries: actions on parameters that keep the function."""

from .permutation import apply, compose, identity, invert, random

__all__ = ["apply", "compose", "identity", "invert", "random"]
