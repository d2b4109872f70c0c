"""Parameters on the host, and their units of measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._tree import at_least_single, is_inexact

Arrays = Sequence[Any]  # float leaves as NumPy arrays, None for others


def float_arrays(leaves: Sequence[Any]) -> Arrays:
    """The float leaves on the host, in at least float32."""
    return [
        np.asarray(v, np.promote_types(v.dtype, np.float32)) if is_inexact(v) else None
        for v in leaves
    ]


def host_arrays(leaves: Sequence[Any]) -> Arrays:
    """The float leaves on the host, as they are: 16 bits are widened where they are used."""
    return [np.asarray(v) if is_inexact(v) else None for v in leaves]


def single(array: np.ndarray) -> np.ndarray:
    return array.astype(at_least_single(array.dtype), copy=False)


# Leaves of a mean square outside 4^±_PLAIN are matched in units of their largest entry.
_PLAIN = 30


def scaled(arrays: Arrays) -> tuple[Arrays, list[int]]:
    """(arrays, exponents) with leaf = array · 2^exponent, so that products neither overflow nor
    vanish; leaves of ordinary size are not touched."""
    exponents = [0 if v is None else exponent_of(v) for v in arrays]
    pairs = zip(arrays, exponents, strict=True)
    return [v if v is None or not e else times_power(single(v), -e) for v, e in pairs], exponents


def exponent_of(array: np.ndarray) -> int:
    """e where the largest entry is about 2^e and entries are of extraordinary size, else 0."""
    array = single(array)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        square = float(np.vdot(array, array).real) / max(array.size, 1)
    if 4.0**-_PLAIN < square < 4.0**_PLAIN:  # the usual case costs one product
        return 0
    return math.frexp(float(np.abs(array).max(initial=0)))[1]


def inner_product(a: Arrays, b: Arrays, exponents: Sequence[int] | None = None) -> float:
    """Σ over all float parameters, each leaf's times 2^exponent; infinite beyond float64."""
    total = 0.0
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if x is not None and y is not None:
            with np.errstate(over="ignore"):
                product = float(np.vdot(single(x), single(y)).real)
                total += float(np.ldexp(product, exponents[i] if exponents else 0))
    return total


def times_power(array: np.ndarray, exponent: int) -> np.ndarray:
    """array · 2^exponent, without a factor that could overflow itself."""
    if not exponent:
        return array
    if np.iscomplexobj(array):
        real, imaginary = (np.ldexp(v, exponent) for v in (np.real(array), np.imag(array)))
        return (real + 1j * imaginary).astype(array.dtype)
    return np.ldexp(array, exponent)
