"""Permutations of a network's units as a group: apply, compose, invert, random."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Params, Permutations
from ..network.network import Group, Network


def apply(network: Network, permutations: Permutations, params: Params) -> Params:
    """`network.permute(permutations, params)`: unit i becomes unit `permutations[group][i]`."""
    return network.permute(permutations, params)


def identity(network: Network) -> dict[str, np.ndarray]:
    """The permutations that change nothing."""
    return network.identity_permutations()


def random(network: Network, key: jax.Array) -> dict[str, jax.Array]:
    """Uniformly random permutations of every group."""
    return network.random_permutations(key)


def compose(network: Network, first: Permutations, second: Permutations) -> dict[str, Any]:
    """The permutations that act as `second`, then `first`.

    `apply(compose(p, q), θ) = apply(p, apply(q, θ))`: entry i is q[p[i]], inside a dependent
    group q[outer p[i], p[i, j]]. Groups that are absent from both stay absent.

    **Raises:** `ValueError` for what is no permutation of the network's groups.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.ones((2, 3)), "w2": jnp.ones((3, 1))}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 2)))
        >>> turn = {"w1": np.array([1, 2, 0])}
        >>> mcjax.symmetry.compose(network, turn, turn)["w1"].tolist()
        [2, 0, 1]
    """
    network.check_permutations(first)
    network.check_permutations(second)
    names = [n for n in network.groups if n in first or n in second]
    p, q = _complete(network, first), _complete(network, second)
    touched = _with_dependents(network, names)
    return {n: _entries(network, network.groups[n], q[n], p) for n in touched}


def invert(network: Network, permutations: Permutations) -> dict[str, Any]:
    """The permutations that undo: `compose(p, invert(p))` is the identity.

    **Raises:** `ValueError` for what is no permutation of the network's groups.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.ones((2, 3)), "w2": jnp.ones((3, 1))}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 2)))
        >>> mcjax.symmetry.invert(network, {"w1": np.array([1, 2, 0])})["w1"].tolist()
        [2, 0, 1]
    """
    network.check_permutations(permutations)
    p = _complete(network, permutations)
    undone: dict[str, Any] = {}
    for name in sorted(network.groups, key=lambda n: len(network.groups[n].outer)):
        inverse = _xp(p[name]).argsort(p[name], axis=-1)
        group = network.groups[name]
        if group.outer:  # the inner inverse is looked up where the outer unit has come from
            inverse = inverse[_outer_indices(network, group, undone)]
        undone[name] = inverse
    touched = _with_dependents(network, list(permutations))
    return {n: undone[n] for n in network.groups if n in touched}


def _xp(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np


def _complete(network: Network, permutations: Permutations) -> dict[str, Any]:
    return {**network.identity_permutations(), **permutations}


def _with_dependents(network: Network, names: list[str]) -> list[str]:
    return [
        n
        for n, g in network.groups.items()
        if n in names or any(o in names for o in g.over if o is not None)
    ]


def _outer_indices(network: Network, group: Group, p: dict[str, Any]) -> tuple[Any, ...]:
    """For each outer index of a group, the index of the outer unit that comes to stand there."""
    n = len(group.outer)
    grid = [np.arange(s).reshape([-1 if k == i else 1 for k in range(n)])
            for i, s in enumerate(group.shape[:-1])]  # fmt: skip
    out = []
    for i, name in enumerate(group.over):
        if name is None:
            out.append(np.broadcast_to(grid[i], group.shape[:-1]))
            continue
        outer = network.groups[name]
        own = [grid[group.outer.index(o)] for o in outer.outer]
        out.append(_broadcast(p[name][(*own, grid[i])], group.shape[:-1]))
    return tuple(out)


def _broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    return _xp(array).broadcast_to(array, shape)


def _entries(network: Network, group: Group, q: Any, p: dict[str, Any]) -> Any:
    inner = p[group.name]
    if not group.outer:
        return q[inner]
    outer = _outer_indices(network, group, p)
    return q[(*(o[..., None] for o in outer), inner)]


__all__ = ["apply", "compose", "identity", "invert", "random"]
