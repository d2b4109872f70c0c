"""The arc connection of a traced network: the mean over neurons (anokhin2020, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Collection

import jax
import jax.numpy as jnp

from .._tree import is_inexact
from .._types import Params
from ..network.axes import Atom, atoms
from ..network.batch_norm import statistics_pairs
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
    writers = {
        layer.weight: {network.groups[g].atom for g in layer.groups_out} for layer in network.layers
    }
    statistics = {i for pair in statistics_pairs(a) for i in pair}
    means = []
    leaves = zip(network.flatten(a, "a"), network.flatten(b, "b"), strict=True)
    named = zip(leaves, network.leaf_axes, network.leaf_names, strict=True)
    for i, ((x, y), axes, name) in enumerate(named):
        if not is_inexact(x):
            means.append(x)
            continue
        wanted = network.by_atom if groups is None else groups
        units = [[t for t in atoms(e) if t in wanted] for e in axes]
        written = writers.get(name, set())
        over = [d for d, found in enumerate(units) if written.intersection(found)]
        over = over or [d for d, found in enumerate(units) if found]
        pooled = (jnp.asarray(x) + jnp.asarray(y)) / 2
        alone = i in statistics or not over
        means.append(pooled if alone else jnp.mean(pooled, tuple(over), keepdims=True))
    return jax.tree.unflatten(network.treedef, means)
