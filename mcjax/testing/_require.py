"""Assertions that `python -O` leaves standing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._static import pack
from .._tree import is_inexact, named_leaves


def require(condition: Any, message: str) -> None:
    """Raise `AssertionError` with a message unless a condition holds."""
    if not condition:
        raise AssertionError(message)


def require_error(function: Callable[[], Any], kind: type[Exception], what: str) -> None:
    """Raise `AssertionError` unless a function raises an error of a kind."""
    try:
        function()
    except kind:
        return
    raise AssertionError(f"{what} must raise {kind.__name__}")


def require_same(a: Any, b: Any, what: str, tolerance: float = 0.0) -> None:
    """Raise `AssertionError` unless two trees have the same structure, types and values."""
    a, b = pack(a), pack(b)
    require(
        jax.tree.structure(a) == jax.tree.structure(b),
        f"{what}: the structures differ, {jax.tree.structure(a)} and {jax.tree.structure(b)}",
    )
    for (name, x), (_, y) in zip(named_leaves(a), named_leaves(b), strict=True):
        types = [(np.shape(v), jnp.result_type(v)) for v in (x, y)]
        require(types[0] == types[1], f"{what}: leaf {name!r} is {types[0]} and {types[1]}")
        if not is_inexact(x) or not tolerance:
            same = np.array_equal(np.asarray(x), np.asarray(y))
            require(same, f"{what}: leaf {name!r} differs, and should be the very same")
            continue
        x, y = (np.asarray(v, np.complex128) for v in (x, y))
        scale = max(1.0, float(np.abs(y).max(initial=0)))
        off = float(np.abs(x - y).max(initial=0)) / scale
        require(off <= tolerance, f"{what}: leaf {name!r} differs by {off:.3g} of its size")


def require_value(value: Any, again: Any, kind: str) -> None:
    """Options that cannot be set; equality, hash and repr of a copy. `kind`: as messages say it."""
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    for name in dict.fromkeys([*(f.name for f in fields), *getattr(value, "__dict__", {})]):
        require_error(
            lambda n=name: setattr(value, n, getattr(value, n)), AttributeError,
            f"a {kind} must be frozen (@dataclasses.dataclass(frozen=True)): setting {name!r}",
        )  # fmt: skip
    require_equal(again, value, f"a copy of the {kind}")


def require_equal(value: Any, other: Any, what: str) -> None:
    """Results tell values by their repr."""
    require(repr(value) == repr(other), f"{what} must have its repr: {value!r} and {other!r}")
    try:
        alike = hash(value) == hash(other)
    except TypeError as error:
        raise AssertionError(f"{what} must have a hash: {error}") from None
    if type(value).__eq__ is not object.__eq__:
        require(value == other, f"{what} must be equal to it")
        require(alike, f"{what} must hash alike")
