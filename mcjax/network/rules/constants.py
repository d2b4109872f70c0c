"""Arrays known at trace time."""

from __future__ import annotations

import numpy as np

from ..algebra import Algebra
from ..axes import Axes, Uniform
from ..program import Constant


def constant_axes(algebra: Algebra, constant: Constant, key: object) -> Axes:
    """A known array: uniform along every axis on which it does not vary, fixed along others."""
    shape = np.shape(constant.value)
    if not shape:
        return ()
    known = algebra.constants.get(id(constant))
    if known is None:
        known = _varies(constant.value)
        algebra.constants[id(constant)] = known
    return tuple(
        algebra.fixed(("constant", key, d), n, "constant array")
        if varies
        else algebra.resolve((Uniform(n),))
        for d, (n, varies) in enumerate(zip(shape, known, strict=True))
    )


def _varies(value) -> tuple[bool, ...]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # random keys and other extended types
        return (True,) * len(np.shape(value))
    if array.size == 0 or array.dtype == object:
        return (True,) * array.ndim
    return tuple(not bool(np.all(array == np.take(array, [0], axis=d))) for d in range(array.ndim))
