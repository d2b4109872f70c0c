"""Checks of arguments that name what came, where, and what was expected."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._tree import is_inexact, named_leaves
from ._types import Params


def is_concrete(value: Any) -> bool:
    """Whether a value is at hand on the host (not a tracer)."""
    return not isinstance(value, jax.core.Tracer)


def same_structure(a: Params, b: Params, *, names: tuple[str, str] = ("a", "b")) -> None:
    """Raise unless two parameter trees have the same structure, shapes and dtypes."""
    leaves_a, leaves_b = dict(named_leaves(a)), dict(named_leaves(b))
    for missing, here, there in ((leaves_a, names[0], names[1]), (leaves_b, names[1], names[0])):
        other = leaves_b if missing is leaves_a else leaves_a
        only = [n for n in missing if n not in other]
        if only:
            raise ValueError(
                f"{names[0]} and {names[1]} have different structures: leaf {only[0]!r} is in "
                f"{here} but not in {there} ({len(only)} such leaves)"
            )
    if jax.tree.structure(a) != jax.tree.structure(b):
        raise ValueError(
            f"{names[0]} and {names[1]} have the same leaves in different containers: "
            f"{jax.tree.structure(a)} and {jax.tree.structure(b)}"
        )
    for name, x in leaves_a.items():
        y = leaves_b[name]
        if np.shape(x) != np.shape(y):
            raise ValueError(
                f"leaf {name!r}: {names[1]} has shape {np.shape(y)}, expected {np.shape(x)} "
                f"as in {names[0]}"
            )
        if jnp.result_type(x) != jnp.result_type(y):
            raise ValueError(
                f"leaf {name!r}: {names[1]} has dtype {jnp.result_type(y)}, expected "
                f"{jnp.result_type(x)} as in {names[0]}"
            )


def finite(tree: Params, name: str) -> None:
    """Raise if a floating-point leaf holds NaN or infinity (skipped while tracing)."""
    for path, leaf in named_leaves(tree):
        if not is_inexact(leaf) or not is_concrete(leaf):
            continue
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            continue  # spread over hosts: nobody here can look at all of it
        # On a CPU NumPy looks without compiling; elsewhere only the count leaves the device.
        xp = np if jax.default_backend() == "cpu" or isinstance(leaf, np.ndarray) else jnp
        bad = int(np.size(leaf) - xp.isfinite(xp.asarray(leaf)).sum())
        if bad:
            raise ValueError(
                f"{name}: leaf {path!r} holds {bad} NaN or infinite values of {np.size(leaf)}"
            )


def parameters(tree: Params, name: str) -> None:
    """Raise unless `tree` holds at least one floating-point leaf and all are finite."""
    if not any(is_inexact(leaf) for leaf in jax.tree.leaves(tree)):
        kinds = sorted({str(getattr(v, "dtype", type(v).__name__)) for v in jax.tree.leaves(tree)})
        raise ValueError(
            f"{name} has no floating-point leaf (found {', '.join(kinds) or 'no leaves'}); "
            "parameters must be a pytree of float arrays"
        )
    finite(tree, name)


def interval(t: Any, name: str = "t") -> None:
    """Raise unless every concrete t lies in [0, 1]."""
    if is_concrete(t):
        values = np.asarray(t)
        outside = values[~((values >= 0) & (values <= 1))]
        if outside.size:
            raise ValueError(f"{name} must lie in [0, 1], got {outside.ravel()[0]}")


def one_of(value: Any, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def batched(x: Any, name: str) -> int:
    """The common length of the leading axes of x; raise on an empty batch or unequal lengths."""
    shapes = [(n or name, np.shape(v)) for n, v in named_leaves(x)]
    if not shapes:
        raise ValueError(f"{name} holds no arrays")
    for leaf, shape in shapes:
        if not shape:
            raise ValueError(f"{name}: leaf {leaf!r} is a scalar, expected a batch on axis 0")
    lengths = {shape[0] for _, shape in shapes}
    if len(lengths) != 1:
        raise ValueError(f"{name}: leaves have different batch lengths {sorted(lengths)}")
    (length,) = lengths
    if length == 0:
        raise ValueError(f"{name} is an empty batch")
    return length


def hashable(function: Any, name: str) -> None:
    """Raise unless a function can be the key of a compiled program."""
    try:
        hash(function)
    except TypeError:
        raise ValueError(
            f"{name} cannot be hashed ({type(function).__name__}), so nothing could be compiled "
            "for it once and for all; wrap it in a function"
        ) from None


def positive(value: int, name: str) -> int:
    """`value` if it is a positive integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)
