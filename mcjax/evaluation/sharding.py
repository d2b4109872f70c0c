"""A sweep shared by the devices of a mesh, on one host or several."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._compiled import compiled
from .._inputs import is_shared, length, per_example
from ..path import Family
from ..path._base import count
from .sweep import Plan, Sums, sweep

AXES = ("t", "data")


class Sharded:
    """`sweep` of one piece, with points and data shared by a mesh.

    The mesh has axes named `"t"` and/or `"data"`. Both are padded to a multiple of its axes;
    padded examples weigh nothing. Every host passes the same arrays and gets the whole result.
    """

    def __init__(
        self, mesh: Mesh, plan: Plan, family: Family, coordinates: Any,
        replaced: Mapping[int, jax.Array],
    ) -> None:  # fmt: skip
        check_mesh(mesh)
        self.mesh, self.plan, self.points = mesh, plan, count(coordinates)
        self.t_axis, self.data_axis = (a if a in mesh.axis_names else None for a in AXES)
        n_t = mesh.shape[self.t_axis] if self.t_axis else 1
        given = jax.tree.map(
            lambda v: _pad(np.asarray(v), n_t, "edge"), (coordinates, dict(replaced))
        )
        self.family = self._on_mesh(family, PartitionSpec())
        self.coordinates, self.replaced = self._on_mesh(given, PartitionSpec(self.t_axis))

    def __call__(self, x: Any, y: Any, weights: np.ndarray) -> Sums:
        n_data = self.mesh.shape[self.data_axis] if self.data_axis else 1
        weights = _pad(weights, n_data, "zero")
        x, y = per_example(lambda v: _pad(np.asarray(v), n_data, "edge"), (x, y))
        local = length((x, y)) // n_data
        plan = Plan(self.plan.model, self.plan.task, min(self.plan.chunk, local), self.plan.t_batch)
        data = (x, y, weights)
        specs = jax.tree.map(partial(_spec_of_data, self.data_axis), data, is_leaf=is_shared)
        leaves, treedef = jax.tree.flatten(specs)
        run = compiled(
            _sharded, self.mesh, plan, self.t_axis, self.data_axis, treedef, tuple(leaves),
            of=jax.tree.structure(self.family),
        )  # fmt: skip
        placed = jax.tree.map(lambda s, part: self._on_mesh(part, s), specs, data)
        sums = run(self.family, self.coordinates, self.replaced, *placed)
        return jax.tree.map(lambda v: np.asarray(v)[: self.points], sums)

    def _on_mesh(self, tree: Any, spec: PartitionSpec) -> Any:
        return jax.tree.map(lambda v: _place(self.mesh, v, spec), tree)


def check_mesh(mesh: Mesh) -> None:
    """Raise unless a mesh has axes that a sweep can use."""
    unknown = [a for a in mesh.axis_names if a not in AXES]
    if unknown or not mesh.axis_names:
        raise ValueError(
            f"mesh: axes must be named 't' and/or 'data', got {tuple(mesh.axis_names)}"
        )


def _sharded(
    mesh: Mesh, plan: Plan, t_axis: str | None, data_axis: str | None, treedef: Any,
    leaves: tuple[PartitionSpec, ...], *arguments: Any,
) -> Sums:  # fmt: skip
    def local(family, coordinates, replaced, x, y, weights):
        sums = sweep(plan, family, coordinates, replaced, x, y, weights)
        if data_axis:
            sums = jax.lax.psum(sums, data_axis)
        if t_axis:
            sums = jax.lax.all_gather(sums, t_axis, tiled=True)
        return sums

    in_t = PartitionSpec(t_axis)
    specs = jax.tree.unflatten(treedef, leaves)
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(), in_t, in_t, *specs),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(*arguments)


def _spec_of_data(data_axis: str | None, v: Any) -> PartitionSpec:
    """How an array of data lies on the mesh: what the examples share is everywhere."""
    return PartitionSpec() if is_shared(v) or not np.shape(v) else PartitionSpec(data_axis)


def _place(mesh: Mesh, array: Any, spec: PartitionSpec) -> jax.Array:
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _place(mesh, jax.random.key_data(array), spec)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    sharding = NamedSharding(mesh, spec)
    array = np.asarray(array, jnp.result_type(array))
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _pad(array: np.ndarray, multiple: int, how: str) -> np.ndarray:
    missing = -len(array) % multiple
    if not missing:
        return array
    tail = np.zeros_like(array[:1]) if how == "zero" else array[-1:]
    return np.concatenate([array, np.repeat(tail, missing, axis=0)])
