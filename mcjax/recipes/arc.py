"""The arc connection of a traced network: the mean over neurons (anokhin2020, Sec. 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._tree import is_inexact
from .._types import Params
from ..network.axes import atoms
from ..network.network import Network


def neuron_mean(network: Network, a: Params, b: Params) -> Params:
    """µ of Eq. 6: per coordinate, the mean over the neurons of both networks.

    A parameter belongs to the neurons of the group it is written to (its incoming weights and
    bias), else to those of the group it reads from (outgoing weights). One that belongs to no
    neuron, an output bias, has the mean of its two values.

    **Returns:** a pytree whose leaves broadcast to those of `a`.
    """
    writers = {
        layer.weight: {network.groups[g].atom for g in layer.groups_out} for layer in network.layers
    }
    means = []
    leaves = zip(network.flatten(a, "a"), network.flatten(b, "b"), strict=True)
    for (x, y), axes, name in zip(leaves, network.leaf_axes, network.leaf_names, strict=True):
        if not is_inexact(x):
            means.append(x)
            continue
        units = [[t for t in atoms(e) if t in network.by_atom] for e in axes]
        written = writers.get(name, set())
        over = [d for d, found in enumerate(units) if written.intersection(found)]
        over = over or [d for d, found in enumerate(units) if found]
        pooled = (jnp.asarray(x) + jnp.asarray(y)) / 2
        means.append(jnp.mean(pooled, tuple(over), keepdims=True) if over else pooled)
    return jax.tree.unflatten(network.treedef, means)
