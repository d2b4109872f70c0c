"""The arc connection of a traced network: the mean over neurons (anokhin2020, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._tree import is_inexact
from .._types import Params
from ..network.network import Network
from ..network.units import Units, partition


def neuron_mean(
    network: Network, a: Params, b: Params, groups: Collection[str] | None = None
) -> Params:
    """µ of Eq. 6: per coordinate, the mean over the neurons of both networks.

    A parameter belongs to the neurons of the group it is written to (its incoming weights and
    bias), else to those of the group it reads from (outgoing weights), see
    `mcjax.network.units.partition`; with `groups` to one of these. The mean is over all units of
    a group, those inside other units of all of these (heads), but for each layer of a scan apart.
    What belongs to no neuron, an output bias, has the mean of its two values; so have
    batch-normalisation statistics, whose arc around another mean could make a variance negative.

    **Returns:** a pytree whose leaves broadcast to those of `a`.
    """
    units = partition(network, groups, statistics=False)
    over = tuple(tuple(o is not None for o in network.groups[u.group].over) for u in units)
    means = _pooled(network.flatten(a, "a"), network.flatten(b, "b"), units, over)
    return jax.tree.unflatten(network.treedef, means)


@partial(jax.jit, static_argnames=("units", "over"))
def _pooled(
    a: list[Any], b: list[Any], units: tuple[Units, ...], over: tuple[tuple[bool, ...], ...]
) -> list[Any]:
    """The means of rows over units, and over those outer units for which `over` says so."""
    leaves = [(x + y) / 2 if is_inexact(x) else x for x, y in zip(a, b, strict=True)]
    for of, outer in zip(units, over, strict=True):
        axes = tuple(i for i, pooled in enumerate((*outer, True)) if pooled)
        rows = of.rows(leaves)
        mean = jnp.mean(rows, axes, keepdims=True)
        leaves = of.put(leaves, jnp.broadcast_to(mean, rows.shape))
        for leaf, whole in of.whole_axes().items():
            for axis in whole:  # along which the mean is the same
                leaves[leaf] = jax.lax.slice_in_dim(leaves[leaf], 0, 1, axis=axis)
    return leaves
