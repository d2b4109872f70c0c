"""How activations answer the elements of each factor: found by running the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compiled import compiled_for
from .._inputs import length, per_example, type_of
from .._stream import Inputs
from .._types import Params
from .activations import analysis_for, axes_of
from .axes import Atom
from .blocks import blocks
from .coarse import coarse
from .draws import Parameter
from .elements import Key, apply_to, factors
from .groups import Group
from .network import Network
from .pools import Pool, kept, pools
from .program import run
from .symmetry.act import random_element

_EXAMPLES = 2
_POWERS = (0, 1, -1, 2, -2, 3, -3)
# Of the largest entry: float32's rounding is far less, another exponent far more.
_TOLERANCE = 1e-2


def responses(network: Network, params: Params, x: Inputs, tap: str) -> list[dict[Key, int | None]]:
    """For each pool of activations, factor → k: an element c multiplies the units by cᵏ.

    For matrices g, k = 1 says g, −1 says g⁻ᵀ, 0 nothing. None where entries differ in k.

    **Arguments:**
    - `params`: of which random ones nearby are drawn (so that nothing is 0)
    """
    some = per_example(lambda v: jnp.asarray(v[:_EXAMPLES]), x.first())
    found = pools(network, some, length(some), tap, ())[0]
    given = network.flatten(params, "params")
    leaves = [np.asarray(Parameter(v, i).drawn(0)) for i, v in enumerate(given)]
    before = _seen(network, tap, leaves, some)
    rng = np.random.default_rng(0)
    answers: list[dict[Key, int | None]] = [{} for _ in found]
    for group in network.groups.values():
        here = [i for i, pool in enumerate(found) if group.atom in pool.units]
        for key, factor in factors(group) if here else ():
            element = random_element(factor.kind, group.shape, rng)
            after = _seen(network, tap, apply_to(network, {key: element}, leaves), some)
            for i in here:
                both = before[i], after[i]
                answers[i][key] = _power(group, factor.matrices, element, found[i], *both)
    return answers


@compiled_for("network", "tap")
def _seen(network: Network, tap: str, leaves: Sequence[Any], x: Any) -> list[list[list[Any]]]:
    """For each pool and each of its indices, its blocks as (fixed…, samples, units…)."""
    found = pools(network, x, length(x), tap, ())[0]
    analysis, _ = analysis_for(network, jax.tree.map(type_of, x))
    observe = {pool.value: (lambda array: array) for pool in found}
    values = run(analysis.program, [*leaves, *jax.tree.leaves(x)], observe=observe)[1]
    keep = kept(network, ())
    cut = {
        v: [b for b, _ in blocks(values[v], coarse(axes_of(analysis, v), keep))] for v in observe
    }

    def read(array: Any, fixed: Sequence[int], units: Sequence[int]) -> Any:
        samples = [i for i in range(array.ndim) if i not in (*fixed, *units)]
        moved = jnp.transpose(array, [*fixed, *samples, *units])
        sizes = [[array.shape[i] for i in of] for of in (fixed, units)]
        return moved.reshape(*sizes[0], -1, *sizes[1])

    return [
        [[read(cut[pool.value][p.block], p.fixed, p.units) for p in of] for _, of in pool.pieces]
        for pool in found
    ]


def _power(
    group: Group, matrices: bool, element: np.ndarray, pool: Pool, before: Any, after: Any
) -> int | None:
    """The one exponent that explains all blocks of a pool; None if there is none."""
    options = (0, 1, -1) if matrices else _POWERS
    worst = dict.fromkeys(options, 0.0)
    for (index, _), olds, news in zip(pool.pieces, before, after, strict=True):
        own = dict(zip(pool.only, index, strict=True))
        at = tuple(own.get(o, slice(None)) for o in group.outer)
        left = [o for o in group.outer if o not in own]
        for old, new in zip(olds, news, strict=True):
            y, z = (np.asarray(v, np.float64) for v in (old, new))
            size = max(float(np.abs(z).max(initial=0)), np.finfo(float).tiny)
            for k in options:
                moved = _moved(element[at], left, group.atom, matrices, k, pool, y)
                worst[k] = max(worst[k], float(np.abs(moved - z).max(initial=0)) / size)
    best = min(options, key=worst.__getitem__)
    return best if worst[best] <= _TOLERANCE else None


def _moved(
    element: np.ndarray, outer: Sequence[Atom], atom: Atom, matrices: bool, k: int, pool: Pool,
    array: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Units of an array (fixed…, samples, units…) multiplied by cᵏ, or by g or g⁻ᵀ."""
    if k == 0:
        return array
    names: list[Any] = [*pool.fixed, None, *pool.units]
    letters = {name: i for i, name in enumerate(names)}
    own = [letters[o] for o in outer]
    here, there = letters[atom], len(names)
    every = list(range(len(names)))
    if not matrices:
        return np.einsum(element**k, [*own, here], array, every, every)
    g: Any = element if k == 1 else np.linalg.inv(element).swapaxes(-1, -2)
    result = [there if i == here else i for i in every]
    return np.einsum(g, [*own, there, here], array, every, result)


__all__ = ["responses"]
