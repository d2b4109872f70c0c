"""Arrays known at trace time."""

from __future__ import annotations

import numpy as np

from ..algebra import Algebra
from ..axes import Axes
from ..program import Constant

KNOWN = "a constant array"  # begins the reason for axes that one fixes


def constant_axes(algebra: Algebra, constant: Constant, key: object) -> Axes:
    """A known array: uniform along every axis on which it does not vary, fixed along others."""
    shape = np.shape(constant.value)
    if not shape:
        return ()
    known = algebra.constants.get(constant)
    if known is None:
        known = algebra.constants[constant] = _varies(constant.value)
    why = f"{KNOWN} of shape {shape} that apply_fn closes over"
    return tuple(
        algebra.fixed(("constant", key, d), n, why) if varies else algebra.uniform(n)
        for d, (n, varies) in enumerate(zip(shape, known, strict=True))
    )


def _varies(value) -> tuple[bool, ...]:
    """Along which axes a known array is not the same, bit by bit: 0 and −0 are two values."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # random keys and other extended types
        return (True,) * len(np.shape(value))
    if array.size == 0 or array.dtype == object:
        return (True,) * array.ndim
    bits = np.ascontiguousarray(array)[..., None].view(np.uint8)
    return tuple(bool((bits != bits.take([0], axis=d)).any()) for d in range(array.ndim))
