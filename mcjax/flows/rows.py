"""The neurons of a network as the rows of a matrix, one for each group of units."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._tree import is_inexact
from .._types import Params
from ..network.network import Network


@dataclasses.dataclass(frozen=True)
class Column:
    """A leaf (by number) whose axis holds the units of a group; its shape without that axis."""

    leaf: int
    axis: int
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Group name → the leaves that make up its neurons' rows.

    A parameter belongs to the group that it is written to (incoming weights and bias), else to
    the one it reads from (outgoing weights); with one hidden layer the rows are the butterflies
    of anokhin2020, Fig. 1. What fills no whole axis (concatenations, heads) is in no row.
    """

    columns: tuple[tuple[str, tuple[Column, ...]], ...]

    @classmethod
    def of(cls, network: Network) -> Rows:
        whole: dict[Any, str] = {
            (g.atom,): name for name, g in network.groups.items() if not g.outer
        }
        written = {layer.weight: set(layer.groups_out) for layer in network.layers}
        statistics = network.normalisations.leaves
        found: dict[str, list[Column]] = {}
        leaves = zip(network.leaf_axes, network.leaf_names, network.leaf_types, strict=True)
        for leaf, (axes, name, type_) in enumerate(leaves):
            places = [(axis, whole[expr]) for axis, expr in enumerate(axes) if expr in whole]
            places.sort(key=lambda p: p[1] not in written.get(name, ()))
            if places and is_inexact(type_) and leaf not in statistics:
                axis, group = places[0]
                shape = (*type_.shape[:axis], *type_.shape[axis + 1 :])
                found.setdefault(group, []).append(Column(leaf, axis, shape))
        return cls(tuple((group, tuple(columns)) for group, columns in found.items()))

    @property
    def dims(self) -> dict[str, int]:
        """Group name → length of a row."""
        return {g: sum(math.prod(c.shape) for c in columns) for g, columns in self.columns}

    @property
    def leaves(self) -> frozenset[int]:
        """Numbers of the leaves in some row."""
        return frozenset(c.leaf for _, columns in self.columns for c in columns)

    def take(self, params: Params) -> dict[str, jax.Array]:
        """Group name → (units, row length)."""
        leaves = jax.tree.leaves(params)
        return {
            group: jnp.concatenate(
                [jnp.moveaxis(jnp.asarray(leaves[c.leaf]), c.axis, 0).reshape(
                    leaves[c.leaf].shape[c.axis], -1) for c in columns], axis=1
            )
            for group, columns in self.columns
        }  # fmt: skip

    def put(self, rows: Mapping[str, jax.Array], leaves: Sequence[Any]) -> list[Any]:
        """The leaves with the rows written into them."""
        out = list(leaves)
        for group, columns in self.columns:
            first = 0
            for c in columns:
                last = first + math.prod(c.shape)
                block = rows[group][:, first:last].reshape(-1, *c.shape)
                out[c.leaf] = jnp.moveaxis(block, 0, c.axis).astype(leaves[c.leaf].dtype)
                first = last
        return out
