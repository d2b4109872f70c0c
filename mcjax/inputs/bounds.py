"""Inputs kept within their bounds, and in a hyperplane all the same."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

# Of Newton's method for the multiplier of the hyperplane: it is exact once no entry changes sides.
_ROUNDS = 8

Bounds = tuple[float | tuple[float, ...], float | tuple[float, ...]]


def as_bounds(bounds: Any) -> Bounds | None:
    """(least, greatest), each a number or one for each channel; None for none.

    **Raises:** `ValueError` for anything else, and for bounds with nothing between them.
    """
    if bounds is None:
        return None
    try:
        low, high = (np.asarray(v, np.float64) for v in bounds)
        good = low.ndim < 2 and high.ndim < 2 and bool((low < high).all())
    except (TypeError, ValueError):
        good = False
    if not good or not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(
            "bounds must be (least, greatest), both finite, each a number or one for each channel, "
            f"got {bounds!r}"
        )
    return tuple(float(v) if v.ndim == 0 else tuple(v.tolist()) for v in (low, high))  # type: ignore[return-value]


def check_inside(x: Any, bounds: Bounds | None, name: str) -> None:
    """Raise unless inputs (n, …, channels) lie within bounds."""
    if bounds is None:
        return
    for side in bounds:
        if isinstance(side, tuple) and len(side) not in (1, np.shape(x)[-1]):
            raise ValueError(
                f"bounds: {len(side)} values for inputs of shape {np.shape(x)}; expected one, or "
                f"one for each of {np.shape(x)[-1]} channels (the last axis)"
            )
    low, high = (np.asarray(v, np.float64) for v in bounds)
    slack = 1e-6 * np.max(high - low)
    if not (np.all(x >= low - slack) and np.all(x <= high + slack)):
        raise ValueError(
            f"{name}: values lie in [{np.min(x):.4g}, {np.max(x):.4g}], outside the bounds "
            f"{bounds} of what the network is given (images in [0, 1], standardised, lie in "
            "(−mean / std, (1 − mean) / std))"
        )


def inside(b: Any, bounds: Bounds | None, start: Any = None, normal: Any = None) -> Any:
    """Rows b put within bounds; with unit normals, in the hyperplanes through `start` too.

    The point of both that is nearest to b is clip(b − ν n), ν the root of
    n · (clip(b − ν n) − start) = 0, which Newton's method finds. The bounds hold exactly.
    """
    if bounds is None:
        return b
    low, high = (jnp.asarray(v, b.dtype) for v in bounds)
    if normal is None:
        return jnp.clip(b, low, high)
    axes = tuple(range(1, b.ndim))
    shift = jnp.zeros((len(b), *[1] * (b.ndim - 1)), b.dtype)
    for _ in range(_ROUNDS):
        at = b - shift * normal
        off = jnp.sum(normal * (jnp.clip(at, low, high) - start), axes, keepdims=True)
        slope = jnp.sum(normal**2 * ((at > low) & (at < high)), axes, keepdims=True)
        shift = shift + jnp.where(slope > 0, off / jnp.where(slope > 0, slope, 1), 0)
    return jnp.clip(b - shift * normal, low, high)


__all__ = ["Bounds", "as_bounds", "check_inside", "inside"]
