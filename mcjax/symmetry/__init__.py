"""Elements of groups that act on units, as arrays: they know no network (`mcjax.Action` does)."""

from .logarithm import Logarithm, log
from .matrices import (
    nearest_orthogonal,
    random_general_linear,
    random_orthogonal,
    random_scaling,
    random_signs,
)
from .permutation import compose, identity, invert, random

__all__ = [
    "Logarithm",
    "compose",
    "identity",
    "invert",
    "log",
    "nearest_orthogonal",
    "random",
    "random_general_linear",
    "random_orthogonal",
    "random_scaling",
    "random_signs",
]
