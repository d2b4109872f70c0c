"""A sweep shared by the devices of a mesh, on one host or several."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._inputs import is_shared, length, per_example
from ..path import Path
from .sweep import Plan, sweep

AXES = ("t", "data")


def sharded_sweep(
    mesh: Mesh, plan: Plan, path: Path, ts: jax.Array, replaced: dict[int, jax.Array], x, y
) -> dict[str, jax.Array]:
    """`sweep` with t and the data shared by a mesh with axes named `"t"` and/or `"data"`.

    Both are padded to a multiple of the mesh's axes; padded examples weigh nothing. Every host
    passes the same arrays and gets the whole result.
    """
    unknown = [a for a in mesh.axis_names if a not in AXES]
    if unknown or not mesh.axis_names:
        raise ValueError(
            f"mesh: axes must be named 't' and/or 'data', got {tuple(mesh.axis_names)}"
        )
    names = tuple(mesh.axis_names)
    t_axis, data_axis = (a if a in names else None for a in AXES)
    n_t, n_data = (mesh.shape[a] if a else 1 for a in (t_axis, data_axis))
    n = length(x)
    weights = _pad(np.ones(n, np.float32), n_data, "zero")
    x, y = per_example(lambda v: _pad(np.asarray(v), n_data, "edge"), (x, y))
    points = _pad(np.asarray(ts), n_t, "edge")
    leaves = {i: _pad(np.asarray(v), n_t, "edge") for i, v in replaced.items()}
    local = -(-n // n_data)
    plan = Plan(plan.apply_fn, plan.task, min(plan.chunk, local), plan.t_batch)

    place = partial(_place, mesh)
    data = (x, y, weights)
    specs = jax.tree.map(partial(_spec_of_data, data_axis), data, is_leaf=is_shared)
    sums = _sweep_on(mesh, plan, t_axis, specs)(
        jax.tree.map(lambda v: place(v, PartitionSpec()), path),
        place(points, PartitionSpec(t_axis)),
        {i: place(v, PartitionSpec(t_axis)) for i, v in leaves.items()},
        *jax.tree.map(lambda s, part: jax.tree.map(lambda v: place(v, s), part), specs, data),
    )
    return {k: np.asarray(v)[: len(ts)] for k, v in sums.items()}  # type: ignore[misc]


_compiled: dict[Any, Any] = {}


def _spec_of_data(data_axis: str | None, v: Any) -> PartitionSpec:
    """How an array of data lies on the mesh: what the examples share is everywhere."""
    return PartitionSpec() if is_shared(v) or not np.shape(v) else PartitionSpec(data_axis)


def _sweep_on(mesh: Mesh, plan: Plan, t_axis: str | None, specs: Any):
    """The sharded sweep for a mesh and a plan, made once so that it is compiled once."""
    leaves, treedef = jax.tree.flatten(specs)
    key = (mesh, plan, treedef, tuple(leaves))
    data_axis = "data" if "data" in mesh.axis_names else None
    if key not in _compiled:

        def local(path, ts, replaced, x, y, weights):
            sums = sweep(plan, path, ts, replaced, x, y, weights)
            if data_axis:
                sums = jax.lax.psum(sums, data_axis)
            if t_axis:
                sums = jax.lax.all_gather(sums, t_axis, tiled=True)
            return sums

        in_t = PartitionSpec(t_axis)
        _compiled[key] = jax.jit(
            jax.shard_map(
                local,
                mesh=mesh,
                in_specs=(PartitionSpec(), in_t, in_t, *specs),
                out_specs=PartitionSpec(),
                check_vma=False,
            )
        )
    return _compiled[key]


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
