"""The arc connection of a traced network: the mean over neurons (anokhin2020, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._tree import is_inexact
from .._types import Params
from ..network.axes import Atom, atoms
from ..network.network import Network


def neuron_mean(
    network: Network, a: Params, b: Params, groups: Collection[Atom] | None = None
) -> Params:
    """µ of Eq. 6: per coordinate, the mean over the neurons of both networks.

    A parameter belongs to the neurons of the group it is written to (its incoming weights and
    bias), else to those of the group it reads from (outgoing weights); with `groups` to theirs.
    One that belongs to no neuron, an output bias, has the mean of its two values; so have
    batch-normalisation statistics, whose arc around another mean could make a variance negative.

    **Returns:** a pytree whose leaves broadcast to those of `a`.
    """
    wanted = network.by_atom if groups is None else groups
    writers = {
        layer.weight: {network.groups[g].atom for g in layer.groups_out} for layer in network.layers
    }
    statistics = network.normalisations.leaves
    over = []
    for i, (axes, name) in enumerate(zip(network.leaf_axes, network.leaf_names, strict=True)):
        units = [[t for t in atoms(e) if t in wanted] for e in axes]
        written = writers.get(name, set())
        dims = [d for d, found in enumerate(units) if written.intersection(found)]
        dims = dims or [d for d, found in enumerate(units) if found]
        over.append(() if i in statistics else tuple(dims))
    means = _pooled(network.flatten(a, "a"), network.flatten(b, "b"), tuple(over))
    return jax.tree.unflatten(network.treedef, means)


@partial(jax.jit, static_argnames="over")
def _pooled(a: list[Any], b: list[Any], over: tuple[tuple[int, ...], ...]) -> list[Any]:
    """The mean of each leaf over both networks and over axes of its own."""
    return [
        jnp.mean((x + y) / 2, dims, keepdims=True) if is_inexact(x) else x
        for x, y, dims in zip(a, b, over, strict=True)
    ]
