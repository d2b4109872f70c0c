"""The neurons of a network as the rows of a matrix, one for each group of units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp

from .._types import Params
from ..network.network import Network
from ..network.units import Units, partition

# A flow of one coordinate has nothing to couple.
_LEAST = 2


@dataclasses.dataclass(frozen=True)
class Rows:
    """What makes up the neurons' rows of each group: every parameter is in at most one row.

    A parameter belongs to the group that it is written to (incoming weights and bias), else to
    the one it reads from (outgoing weights), see `mcjax.network.units.partition`; with one hidden
    layer the rows are the butterflies of anokhin2020, Fig. 1. Units inside others (heads, the
    layers of a scan) are neurons of one group. Statistics of a batch normalisation are in no row,
    nor are groups with rows of one parameter.
    """

    units: tuple[Units, ...]

    @classmethod
    def of(cls, network: Network) -> Self:
        found = partition(network, statistics=False)
        return cls(tuple(u for u in found if u.width() >= _LEAST))

    @property
    def dims(self) -> dict[str, int]:
        """Group name → length of a row."""
        return {u.group: u.width() for u in self.units}

    @property
    def leaves(self) -> frozenset[int]:
        """Numbers of the leaves in some row."""
        return frozenset[int]().union(*(u.leaves() for u in self.units))

    def take(self, params: Params) -> dict[str, jax.Array]:
        """Group name → (units, row length)."""
        return {u.group: jnp.asarray(u.rows(params)).reshape(-1, u.width()) for u in self.units}

    def put(self, rows: Mapping[str, jax.Array], params: Params) -> Params:
        """The parameters with the rows written into them."""
        for u in self.units:
            params = u.put(params, rows[u.group].reshape(*u.shape, -1))
        return params
