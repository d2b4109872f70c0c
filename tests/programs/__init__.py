"""Random programs over jax's primitives, for fuzzing the tracer.

A program carries a pool of arrays of shape (batch, …) and applies random operations to random
members of it; parameters are made on demand. Sizes are few, so that axes meet by accident.
Thresholds are not zero: a sum that vanishes but for rounding would decide by its rounding.

A new operation is a function of a `Builder`, registered by `@operation` in the module of its kind.
"""

from __future__ import annotations

from . import control, indices, linear, shapes, sorting, values, windows
from .builder import OPERATIONS, Builder

__all__ = [
    "OPERATIONS", "Builder", "control", "indices", "linear", "shapes", "sorting", "values",
    "windows",
]  # fmt: skip
