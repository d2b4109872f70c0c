"""Permutations of units as a group, units inside others too.

A permutation is an index array p: unit p[i] comes to stand at i. The units inside others (those
of each head of an attention layer) have a permutation for each outer unit, p[i, j]: the unit
inside the outer one that comes to stand at i. What is nested in what is told by names:

- `nesting`: name of a group → what each axis of its index array but the last runs over: the name
  of another group, or anything else for an axis that stays
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Nesting = Mapping[str, tuple[Hashable, ...]]
Indices = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


def identity(shapes: Shapes) -> dict[str, np.ndarray]:
    """The permutations that change nothing, for index arrays of these shapes."""
    return {n: np.broadcast_to(np.arange(s[-1]), s).copy() for n, s in shapes.items()}


def random(shapes: Shapes, key: jax.Array) -> dict[str, jax.Array]:
    """Uniformly random permutations, each outer index its own."""
    with jax.transfer_guard("allow"):  # jax.random transfers bounds
        keys = jax.random.split(key, max(len(shapes), 1))
        return {
            name: jnp.argsort(jax.random.uniform(k, shape, jnp.float32), axis=-1)
            for (name, shape), k in zip(shapes.items(), keys, strict=False)
        }


def compose(first: Indices, second: Indices, nesting: Nesting) -> dict[str, Any]:
    """The permutations that act as `second`, then `first`.

    Entry i is q[p[i]], inside other units q[outer p[i], p[i, j]].

    **Arguments:**
    - `first`, `second`: index arrays of the same groups; a group inside others stands with these,
      unless they stay

        >>> turn = {"units": np.array([1, 2, 0])}
        >>> compose(turn, turn, {"units": ()})["units"].tolist()
        [2, 0, 1]
    """
    return {n: gather(n, first, second[n], nesting) for n in first}


def invert(permutations: Indices, nesting: Nesting) -> dict[str, Any]:
    """The permutations that undo: `compose(p, invert(p))` is the identity.

    >>> invert({"units": np.array([1, 2, 0])}, {"units": ()})["units"].tolist()
    [2, 0, 1]
    """
    undone: dict[str, Any] = {}
    for name in sorted(permutations, key=lambda n: len(nesting[n])):
        p = permutations[name]
        inverse = _xp(p).argsort(p, axis=-1)
        if nesting[name]:  # looked up where the outer unit has come from
            inverse = inverse[_outer(name, inverse.shape, undone, nesting)]
        undone[name] = inverse
    return {n: undone[n] for n in permutations}


def _xp(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np


def gather(name: str, p: Indices, q: Any, nesting: Nesting) -> Any:
    """What stands at each unit of a group after permutations: of unit p[i], at i.

    **Arguments:**
    - `q`: (*shape of the index array, …), a value or several for each unit
    """
    inner = p[name]
    if not nesting[name]:
        return q[inner]
    outer = _outer(name, inner.shape, p, nesting)
    return q[(*(o[..., None] for o in outer), inner)]


def _outer(name: str, shape: tuple[int, ...], p: Indices, nesting: Nesting) -> tuple[Any, ...]:
    """For each outer index of a group, the index of the outer unit that comes to stand there."""
    axes, shape = nesting[name], shape[:-1]
    grid = np.ogrid[tuple(map(slice, shape))]
    out = []
    for i, axis in enumerate(axes):
        if axis in p:
            assert isinstance(axis, str)
            own = [grid[axes.index(o)] for o in nesting[axis]]
            out.append(_xp(p[axis]).broadcast_to(p[axis][(*own, grid[i])], shape))
        else:
            out.append(np.broadcast_to(grid[i], shape))
    return tuple(out)


__all__ = ["compose", "gather", "identity", "invert", "random"]
