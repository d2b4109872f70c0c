"""Inputs kept within their bounds, and in a hyperplane all the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._tree import at_least_single

# Halvings of the logarithm of the multiplier of the hyperplane, of 1e-6 to 1e6 times the distance;
# then steps of Newton's method, exact once no entry changes sides.
_HALVINGS, _WIDE, _STEPS, _LEAST = 24, 1e6, 3, 1e-6

_KEEP: Any = {"keepdims": True}
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
    n · (clip(b − ν n) − start) = 0, which falls as ν rises. The bounds hold exactly.
    """
    if bounds is None:
        return b
    dtype, wide = b.dtype, at_least_single(b.dtype)  # squares of images may not fit in 16 bits
    b, (low, high) = b.astype(wide), (jnp.asarray(v, wide) for v in bounds)
    if normal is None:
        return jnp.clip(b, low, high).astype(dtype)
    start = start.astype(wide)
    axes = tuple(range(1, b.ndim))

    def off(shift: Any) -> Any:
        return jnp.sum(normal * (jnp.clip(b - shift * normal, low, high) - start), axes, **_KEEP)

    def halve(_: int, ends: Any) -> Any:
        middle = (ends[0] + ends[1]) / 2
        over = sign * off(sign * jnp.exp(middle)) > 0
        return jnp.where(over, middle, ends[0]), jnp.where(over, ends[1], middle)

    sign = jnp.sign(off(0.0))
    distance = jnp.sqrt(jnp.sum((b - start) ** 2, axes, **_KEEP))
    size = jnp.log(jnp.where(distance > 0, distance, 1))
    ends = size - jnp.log(_WIDE), size + jnp.log(_WIDE)
    ends = jax.lax.fori_loop(0, _HALVINGS, halve, ends)
    shift = sign * jnp.exp((ends[0] + ends[1]) / 2)
    for _ in range(_STEPS):
        at = b - shift * normal
        slope = jnp.sum(jnp.where((at > low) & (at < high), normal**2, 0), axes, **_KEEP)
        shift = shift + jnp.where(slope > _LEAST, off(shift) / jnp.maximum(slope, _LEAST), 0)
    return jnp.clip(b - shift * normal, low, high).astype(dtype)


__all__ = ["Bounds", "as_bounds", "check_inside", "inside"]
