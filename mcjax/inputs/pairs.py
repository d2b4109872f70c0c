"""Pairs of inputs, the labels that go with them, and the grid between them, checked."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._inputs import on_auto_axes
from .._static import unpack
from .._types import ApplyFn, Params
from ..network import Network
from ..tasks import Task


def checked_pairs(pairs: Any) -> tuple[Any, Any]:
    """(x_a, x_c), two arrays of floats of one shape (pairs, …), all finite.

    **Raises:** `ValueError` for anything else, and for a pair of one and the same input.
    """
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise ValueError(
            f"pairs must be (x_a, x_c), two arrays of inputs, got a {type(pairs).__name__}"
        )
    for name, x in zip(("x_a", "x_c"), pairs, strict=True):
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"pairs: {name} must be one array of floats, as between two integers there is no "
                f"path; got {jax.tree.map(jnp.result_type, x)}"
            )
        _check.batched(x, name)
        _check.finite(x, name)
    a, c = on_auto_axes(pairs)
    if a.shape != c.shape or a.dtype != c.dtype:
        raise ValueError(
            f"pairs: x_c is {c.dtype} of shape {c.shape}, expected {a.dtype} of shape {a.shape} "
            "as x_a"
        )
    same = np.flatnonzero(np.all(np.asarray(a == c).reshape(len(a), -1), axis=1))
    if len(same):
        raise ValueError(f"pairs: A = C in pair {same[0]} ({len(same)} of {len(a)}): no path")
    return a, c


def checked_grid(t: Any) -> np.ndarray:
    """t in [0, 1]: `t` even points from 0 to 1, or an array that rises from 0 to 1."""
    if isinstance(t, int | np.integer) and not isinstance(t, bool):
        if t < 2:
            raise ValueError(f"t must be 2 points or more, got {t}")
        return np.linspace(0, 1, int(t))
    ts = np.asarray(t, np.float64)
    if ts.ndim != 1 or len(ts) < 2 or ts[0] != 0 or ts[-1] != 1 or not (np.diff(ts) > 0).all():
        raise ValueError(
            f"t must be a number of points, or an array that rises from 0 to 1, got {t!r}"
        )
    return ts


def checked_labels(y: Any, count: int, of: str = "pairs") -> tuple[Any, ...]:
    """The labels that a loss is taken to: (y,), or (y_a, y_c), one for each of the pairs."""
    found = tuple(y) if isinstance(y, tuple) else (y,)
    if len(found) not in (1, 2):
        raise ValueError(f"y must be labels or (y_a, y_c), got a tuple of {len(found)}")
    for labels in found:
        n = _check.batched(labels, "y")
        if n != count:
            raise ValueError(f"y: {n} labels for {count} {of}")
    return on_auto_axes(found)


def checked_model(
    model: ApplyFn | Network, params: Params, x: Any, labels: tuple[Any, ...], task: Task
) -> Params:
    """The parameters, packed; raise unless outputs and labels are the task's."""
    apply, packed = _check_model.apply_fn_of(model), _check.parameters(params, "params")
    outputs = _check_model.output_types(lambda p, x: apply(unpack(p), x), packed, x)
    for y in labels:
        task.check(jax.eval_shape(task.outputs, outputs), y)
    return packed


__all__ = ["checked_grid", "checked_labels", "checked_model", "checked_pairs"]
