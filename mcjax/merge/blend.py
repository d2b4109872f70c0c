"""Arrays of two networks as one of a merged network: means of paired units, beside those alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..network.axes import Atom, Axes, Concat, Expr, Family
from ..network.blocks import cut, join, plan


class Pairing(NamedTuple):
    """What each unit of the merged network is made of, (units,): the number of A's and of B's
    unit, −1 for none."""

    a: Any
    b: Any

    @classmethod
    def of(cls, pairs: np.ndarray, n: int, m: int) -> Pairing:
        """The pairs in order, then A's units that are in none, then B's."""
        alone = [np.setdiff1d(np.arange(k), p) for k, p in ((n, pairs[:, 0]), (m, pairs[:, 1]))]
        none = [np.full(len(v), -1) for v in alone]
        return cls(
            np.concatenate([pairs[:, 0], alone[0], none[1]]),
            np.concatenate([pairs[:, 1], none[0], alone[1]]),
        )


def blend(
    arrays: tuple[Any, Any],
    axes: tuple[Axes, Axes, Axes],
    shape: tuple[int, ...],
    pairings: Mapping[Atom, Pairing],
    name: str,
) -> Any:
    """½ (a's unit + b's unit) for pairs, the one there is for others; ½ (a + b) without units.

    **Arguments:**
    - `arrays`: a's and b's
    - `axes`: of a's, b's and the merged network's array
    - `shape`: of the merged network's
    - `pairings`: by the atoms of a's network
    - `name`: of the array, for errors

    **Raises:** `ValueError` where units of two groups stand on one block, or sizes differ.
    """
    plans = [plan(a) for a in axes]
    found = [cut(array, how) for array, (how, _) in zip(arrays, plans, strict=False)]
    out = []
    for a, b, dims in zip(*found, plans[0][1], strict=True):
        held = [i for i, d in enumerate(dims) if d.factor in pairings]
        if len(held) > 1:
            raise ValueError(
                f"{name}: units of two groups stand on it, and it cannot be solved for by least "
                "squares"
            )
        one = None
        if held:
            one = pairings[dims[held[0]].factor]  # type: ignore[index]
            a, b = _units(a, held[0], one.a, one.b), _units(b, held[0], one.b, one.a)
        if a.shape != b.shape:
            raise ValueError(f"{name}: sizes that no group explains differ, {a.shape}, {b.shape}")
        out.append(a + b if one is not None else (a + b) / 2)
    return join(out, plans[2][0], shape)


def _units(array: Any, axis: int, own: Any, other: Any) -> Any:
    """One network's part of the merged units."""
    own, other = jnp.asarray(own), jnp.asarray(other)
    weight = jnp.where(own < 0, 0.0, jnp.where(other < 0, 1.0, 0.5)).astype(array.dtype)
    taken = jnp.take(array, jnp.maximum(own, 0), axis=axis)
    return taken * jnp.expand_dims(weight, [i for i in range(array.ndim) if i != axis])


def width(expr: Expr, widths: Mapping[Atom, int]) -> int:
    """The size of an axis where groups have these widths."""
    n = 1
    for factor in expr:
        if isinstance(factor, Concat):
            n *= sum(width(part, widths) for part in factor.parts)
        elif isinstance(factor, Family):
            n *= width(factor.members[0], widths)
        else:
            n *= widths.get(factor, factor.size)  # type: ignore[arg-type]
    return n


__all__ = ["Pairing", "blend", "width"]
