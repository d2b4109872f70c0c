"""The core of every evaluation: sums of metrics over data at many points, as pure functions.

One program: a loop over chunks of data, inside it a loop over points. What is linear in the
parameters of a family that combines fixed points, a first layer on data above all, is computed
once for each of these and each chunk; every point then only recombines it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .. import _check, _check_model
from .._compiled import compiled
from .._inputs import unmark
from .._static import unpack
from .._tree import is_inexact
from .._types import ApplyFn
from ..network import chunks
from ..network.batch_norm import normalisations_of, training_outputs
from ..network.model import Model, replace_leaves
from ..network.network import Network
from ..network.normalisation import Normalisations
from ..path import Family, Path
from ..path._base import count, first_of, time, type_at
from ..path.sharing import shared_part
from ..tasks import CLASSIFICATION, Task, require
from .pieces import t_batch_for


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is compiled for: everything static.

    - `own_statistics`: batch normalisation by the statistics of the one chunk that there is
    """

    model: ApplyFn | Network
    task: Task
    chunk: int
    t_batch: int
    own_statistics: bool = False


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """What a sweep has found at T points.

    - `values`: metric name → (T,) weighted sums
    - `broken`: (T,) examples of which a metric is not finite
    - `nan`: (T,) how many numbers of x are NaN (the same at all points)
    """

    values: Mapping[str, jax.Array]
    broken: jax.Array
    nan: jax.Array


def apply_of(model: ApplyFn | Network) -> ApplyFn:
    """(params, x) → outputs."""
    return model.function if isinstance(model, Network) else model


def sweep(
    plan: Plan, family: Family, coordinates: Any, replaced: Mapping[int, jax.Array], x, y,
    weights: jax.Array,
) -> Sums:  # fmt: skip
    """Σ_n w_n metric(f(θ(c), x_n), y_n) for all coordinates and metrics.

    **Arguments:**
    - `coordinates`: an array, or a tree of them, with a leading axis of T points
    - `replaced`: leaf number → values of shape (T, …) that stand in for the family's
    - `weights`: one weight for each example (0 for padding)
    """
    n, points = weights.shape[0], count(coordinates)
    start_of = chunks.starts(n, plan.chunk)
    shapes = type_at(family, coordinates)
    model = Model.of(apply_of(plan.model), shapes, chunks.types(x, plan.chunk))
    normalised = normalisations_of(model, shapes) if plan.own_statistics else Normalisations()
    shared = shared_part(family, model, {*replaced, *normalised.leaves}, first_of(coordinates))

    def one_chunk(sums, i):
        first, skipped = start_of(i)
        cx, cy, cw = chunks.take((x, y, weights), first, plan.chunk)
        cw = jnp.where(jnp.arange(plan.chunk) < skipped, 0, cw)
        values, labels = shared.values(cx), unmark(cy)
        nan = sum(jnp.isnan(v).sum() for v in jax.tree.leaves(cx) if is_inexact(v))

        def at(argument):
            c, leaves = argument
            params = replace_leaves(family.at(c), leaves)
            known = shared.at(c, values)
            if normalised.found:
                outputs = training_outputs(model, params, cx, known, normalised)
            else:
                outputs = model.outputs(params, cx, known)
            found = plan.task.values(outputs, labels)
            return _sums(found, cw, nan)

        each = (coordinates, dict(replaced))
        found = jax.lax.map(at, each, batch_size=chunks.at_once(plan.t_batch, points))
        return jax.tree.map(jnp.add, sums, found), None

    # Zeros that vary over a mesh as the sums do.
    zero = jnp.zeros(points, jnp.float32) + 0 * jnp.sum(weights)
    for v in jax.tree.leaves(coordinates):
        zero += 0 * v.reshape(points, -1)[:, 0].astype(jnp.float32)
    start = Sums({k: zero for k in plan.task.metrics}, zero, zero)  # noqa: C420
    return jax.lax.scan(one_chunk, start, jnp.arange(-(-n // plan.chunk)))[0]


def _sums(found: Mapping[str, Any], weights: jax.Array, nan: Any) -> Sums:
    finite = jnp.ones(weights.shape, bool)
    for name, values in found.items():
        if jnp.shape(values) != weights.shape:
            raise ValueError(
                f"metrics[{name!r}] returned shape {jnp.shape(values)} for a batch of "
                f"{weights.shape[0]}; expected one value for each example, shape {weights.shape}"
            )
        finite &= jnp.isfinite(values)
    sums = {k: jnp.sum(jnp.where(weights > 0, v.astype(jnp.float32), 0) * weights)
            for k, v in found.items()}  # fmt: skip
    broken = jnp.sum((~finite & (weights > 0)).astype(jnp.float32))
    return Sums(sums, broken, jnp.asarray(nan, jnp.float32))


def metrics_at(
    family: Family,
    model: ApplyFn | Network,
    batch: tuple[Any, Any],
    coordinates: Any,
    task: Task = CLASSIFICATION,
    statistics: Mapping[int, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """Metrics of the points of a family on one batch: a pure function.

    It works under `jit`, `vmap` (over a stack of families: pairs of networks) and `grad` (in the
    family's arrays). `mcjax.evaluate` is this over a whole data set.

    **Arguments:**
    - `family`: a `Path`, a plane, any `mcjax.path.Family`
    - `model`: (params, x) → outputs, or a `Network`
    - `batch`: (x, y)
    - `coordinates`: (T,) for a path: t in [0, 1]; a leading axis of T points for others
    - `task`: metrics, and what labels go with the outputs
    - `statistics`: leaf number → (T, …): statistics of batch normalisation to use in place of
      those that the points hold

    **Returns:** metric name → (T,) means.

    **Raises:** `ValueError` for outputs or labels that are not the task's.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: x @ p["w"]
        >>> path = mcjax.path.Linear({"w": jnp.eye(2)}, {"w": -jnp.eye(2)})
        >>> batch, ts = (jnp.eye(2), jnp.array([0, 1])), jnp.array([0.0, 1.0])
        >>> at = jax.jit(lambda path: mcjax.evaluation.metrics_at(path, f, batch, ts))
        >>> at(path)["accuracy"].tolist()
        [1.0, 0.0]
    """
    if not isinstance(family, Family):
        raise ValueError(f"family must be a mcjax Family, got a {type(family).__name__}")
    _check_model.function(apply_of(model), "model")
    task = require(task)
    x, y = _check.labelled(batch)[0]
    x = model.inputs(x) if isinstance(model, Network) else x
    n = _check.batched(x, "x")
    if not jax.tree.leaves(coordinates) or not jnp.ndim(jax.tree.leaves(coordinates)[0]):
        raise ValueError("coordinates need a leading axis of points")
    coordinates = jax.tree.map(jnp.asarray, coordinates)
    if isinstance(family, Path):
        _check.interval(coordinates)
        coordinates = time(coordinates)
    check_task(task, family, model, coordinates, x, y)
    plan = Plan(model, task, n, t_batch_for(family, coordinates, None))
    x, y = jax.tree.map(jnp.asarray, (x, y))
    over_batch = compiled(sweep, plan, of=jax.tree.structure(family))
    sums = over_batch(family, coordinates, statistics or {}, x, y, jnp.ones(n, jnp.float32))
    return {k: v / n for k, v in sums.values.items()}


def check_task(
    task: Task, family: Family, model: ApplyFn | Network, coordinates: Any, x: Any, y: Any
) -> Callable[[Any], None]:
    """Raise unless outputs and labels are the task's; the check of the labels of other blocks."""
    apply = apply_of(model)
    params = type_at(family, coordinates)
    if isinstance(model, Network) and model.absorption is not None:
        model.flatten(family(first_of(coordinates)), "params")  # some leaves it does not read
    outputs = _check_model.output_types(lambda p, x: apply(unpack(p), unmark(x)), params, x)
    read = jax.eval_shape(task.outputs, outputs)

    def check(y: Any) -> None:
        task.check(read, unmark(y))

    check(y)
    return check
