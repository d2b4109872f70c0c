"""The engine of every sweep: sums of metrics over a data set at many t.

One compiled program: a loop over chunks of data, inside it a loop over t. What is linear in the
parameters of a path that combines fixed points, a first layer on data above all, is computed
once for each point and chunk; every t then only recombines it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._types import ApplyFn, Metric, Params
from ..network.linear import LinearPart, leaves_of, linear_part
from ..network.program import Program, run, trace_program
from ..path._base import Combination, Path


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is compiled for: everything static."""

    apply_fn: ApplyFn
    metrics: tuple[tuple[str, Metric], ...]
    chunk: int
    t_batch: int


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """`apply_fn` as a program, for parameters and inputs of given shapes."""

    program: Program
    out_tree: Any
    treedef: Any
    n_leaves: int

    @classmethod
    def of(cls, apply_fn: ApplyFn, params: Params, x: Any) -> Model:
        leaves, treedef = jax.tree.flatten(params)
        types = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in leaves]
        program, out_tree = trace_program(apply_fn, treedef, types, x)
        return cls(program, out_tree, treedef, len(leaves))

    def outputs(self, params: Params, x: Any, given: dict[int, Any]) -> Any:
        inputs = [*jax.tree.leaves(params), *jax.tree.leaves(x)]
        return jax.tree.unflatten(self.out_tree, run(self.program, inputs, given=given)[0])


@partial(jax.jit, static_argnames="plan")
def sweep(
    plan: Plan, path: Path, ts: jax.Array, replaced: dict[int, jax.Array], x, y, weights: jax.Array
) -> dict[str, jax.Array]:
    """Σ_n w_n metric(f(θ(t), x_n), y_n) for every t and metric.

    **Arguments:**
    - `replaced`: leaf number → values of shape (T, …) that stand in for the path's
    - `weights`: one weight for each example (0 for padding)
    """
    n = weights.shape[0]
    start_of = _chunk_starts(n, plan.chunk)
    shapes = jax.eval_shape(path.at, ts[0])
    model = Model.of(plan.apply_fn, shapes, _chunk_types(x, plan.chunk))
    shared = shared_part(path, model, replaced)

    def one_chunk(sums, i):
        first, skipped = start_of(i)
        cx, cy, cw = _slice((x, y, weights), first, plan.chunk)
        cw = jnp.where(jnp.arange(plan.chunk) < skipped, 0, cw)
        values = shared.values(cx)

        def at(argument):
            t, leaves = argument
            params = replace_leaves(path.at(t), leaves)
            outputs = model.outputs(params, cx, shared.given(t, values))
            return {k: _weighted_sum(k, metric(outputs, cy), cw) for k, metric in plan.metrics}

        found = jax.lax.map(at, (ts, replaced), batch_size=_batch(plan.t_batch, len(ts)))
        return jax.tree.map(jnp.add, sums, found), None

    zero = {k: jnp.zeros(ts.shape, jnp.float32) for k, _ in plan.metrics}
    zero = jax.tree.map(lambda z: z + 0 * jnp.sum(weights) + 0 * ts, zero)  # varies as the sums do
    return jax.lax.scan(one_chunk, zero, jnp.arange(-(-n // plan.chunk)))[0]


def _batch(t_batch: int, n: int) -> int | None:
    return None if t_batch <= 1 else min(t_batch, n)


def _chunk_starts(n: int, chunk: int) -> Callable:
    """Chunk number → (first example, how many of it an earlier chunk has had).

    The last chunk is moved back so that it is full: nothing is padded or copied.
    """

    def start(i):
        first = jnp.minimum(i * chunk, n - chunk)
        return first, i * chunk - first

    return start


def _chunk_types(x: Any, chunk: int) -> Any:
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct((chunk, *v.shape[1:]), v.dtype), x)


def _slice(tree: Any, first, size: int) -> Any:
    return jax.tree.map(lambda v: jax.lax.dynamic_slice_in_dim(v, first, size), tree)


def _weighted_sum(name: str, values: Any, weights: jax.Array) -> jax.Array:
    if jnp.shape(values) != weights.shape:
        raise ValueError(
            f"metrics[{name!r}] returned shape {jnp.shape(values)} for a batch of "
            f"{weights.shape[0]}; expected one value for each example, shape {weights.shape}"
        )
    return jnp.sum(jnp.where(weights > 0, values.astype(jnp.float32), 0) * weights)


def replace_leaves(params: Params, leaves: dict[int, Any]) -> Params:
    """The parameters with some leaves (by number) replaced."""
    if not leaves:
        return params
    values, treedef = jax.tree.flatten(params)
    for i, value in leaves.items():
        values[i] = value.astype(values[i].dtype)
    return jax.tree.unflatten(treedef, values)


class Shared:
    """Nothing is shared between the points of a path."""

    def values(self, x: Any) -> Any:
        return ()

    def given(self, t: Any, values: Any) -> dict[int, Any]:
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class _SharedLinear(Shared):
    """Values linear in the parameters: once for each point, recombined for each t."""

    path: Combination
    part: LinearPart
    stacked: list[Any]  # leaves of the points, stacked where the part reads them

    def values(self, x: Any) -> list[jax.Array]:
        axes = [None if leaf is None else 0 for leaf in self.stacked]

        def at_point(*leaves):
            return run(self.part.program, [*leaves, *jax.tree.leaves(x)])[0]

        return jax.vmap(at_point, in_axes=axes)(*self.stacked)

    def given(self, t: Any, values: Sequence[jax.Array]) -> dict[int, Any]:
        coefficients = self.path.coefficients(t)
        out = {}
        for name, value in zip(self.part.frontier, values, strict=True):
            terms = [c.astype(value.dtype) * value[k] for k, c in enumerate(coefficients)]
            out[name] = sum(terms[1:], terms[0])
        return out


def shared_part(path: Path, model: Model, replaced: dict[int, Any]) -> Shared:
    """What every t shares on a chunk of data."""
    if not isinstance(path, Combination):
        return Shared()
    part = linear_part(model.program, model.n_leaves)
    if part is None:
        return Shared()
    read = leaves_of(part.program, model.n_leaves)
    points = [jax.tree.leaves(p) for p in path.basis()]
    low_precision = any(points[0][i].dtype.itemsize < 4 for i in read)
    if low_precision or any(i in replaced for i in read):
        return Shared()  # recombined products would round differently from the path's points
    stacked = [
        jnp.stack([p[i] for p in points]) if i in read else None for i in range(model.n_leaves)
    ]
    return _SharedLinear(path, part, stacked)
