"""The engine of every sweep: sums of metrics over a data set at many t.

One compiled program: a loop over chunks of data, inside it a loop over t. What is linear in the
parameters of a path that combines fixed points, a first layer on data above all, is computed
once for each point and chunk; every t then only recombines it.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._inputs import unmark
from .._types import ApplyFn
from ..network import chunks
from ..network.batch_norm import normalisations_of, training_outputs
from ..network.model import Model, replace_leaves
from ..network.normalisation import Normalisations
from ..path import Path
from ..path.sharing import shared_part
from ..tasks import Task


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is compiled for: everything static.

    - `own_statistics`: batch normalisation by the statistics of the one chunk that there is
    """

    apply_fn: ApplyFn
    task: Task
    chunk: int
    t_batch: int
    own_statistics: bool = False


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
    start_of = chunks.starts(n, plan.chunk)
    shapes = jax.eval_shape(path.at, ts[0])
    model = Model.of(plan.apply_fn, shapes, chunks.types(x, plan.chunk))
    normalised = normalisations_of(model, shapes) if plan.own_statistics else Normalisations()
    shared = shared_part(path, model, {*replaced, *normalised.leaves})

    def one_chunk(sums, i):
        first, skipped = start_of(i)
        cx, cy, cw = chunks.take((x, y, weights), first, plan.chunk)
        cw = jnp.where(jnp.arange(plan.chunk) < skipped, 0, cw)
        values, labels = shared.values(cx), unmark(cy)

        def at(argument):
            t, leaves = argument
            params = replace_leaves(path.at(t), leaves)
            known = shared.at(t, values)
            if normalised.found:
                outputs = training_outputs(model, params, cx, known, normalised)
            else:
                outputs = model.outputs(params, cx, known)
            found = plan.task.values(outputs, labels)
            return {k: _weighted_sum(k, v, cw) for k, v in found.items()}

        found = jax.lax.map(at, (ts, replaced), batch_size=chunks.at_once(plan.t_batch, len(ts)))
        return jax.tree.map(jnp.add, sums, found), None

    zero = {k: jnp.zeros(ts.shape, jnp.float32) for k in plan.task.metrics}
    zero = jax.tree.map(lambda z: z + 0 * jnp.sum(weights) + 0 * ts, zero)  # varies as the sums do
    return jax.lax.scan(one_chunk, zero, jnp.arange(-(-n // plan.chunk)))[0]


def _weighted_sum(name: str, values: Any, weights: jax.Array) -> jax.Array:
    if jnp.shape(values) != weights.shape:
        raise ValueError(
            f"metrics[{name!r}] returned shape {jnp.shape(values)} for a batch of "
            f"{weights.shape[0]}; expected one value for each example, shape {weights.shape}"
        )
    return jnp.sum(jnp.where(weights > 0, values.astype(jnp.float32), 0) * weights)
