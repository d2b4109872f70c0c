"""`mcjax.evaluate`: loss, accuracy and any metric along a path, over a whole data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import _check
from .._inputs import unmark
from .._static import unpack
from .._types import ApplyFn
from .._version import versions
from ..attacks.pgd import PGD, attacked
from ..network import chunks
from ..path import Path
from ..tasks import CLASSIFICATION, Task, require
from .batch_norm import statistics_leaves
from .curve import Curve
from .pieces import pieces, t_batch_for, time_grid
from .sharding import sharded_sweep
from .sweep import Plan, sweep

# Examples at a time: small enough that a chunk's activations stay near the cores.
_CHUNK = 500


def evaluate(
    path: Path,
    apply_fn: ApplyFn,
    data: tuple[Any, Any],
    t: int | Any = 25,
    *,
    task: Task = CLASSIFICATION,
    statistics: Any = None,
    attack: PGD | None = None,
    mesh: Mesh | None = None,
    chunk: int = _CHUNK,
    t_batch: int | None = None,
) -> Curve:
    """Metrics of the networks along a path, each over the whole data set.

    m(t) = 1/N Σ_n metric(f(θ(t), x_n), y_n). Compiled once for given shapes; memory is bounded
    by `chunk`; what is linear in the path's points (a first layer on data) is computed once for
    all t.

    **Arguments:**
    - `path`: a `Path`
    - `apply_fn`: (params, x) → outputs; keep it the same object to compile only once
    - `data`: (x, y), pytrees batched on axis 0; scalars and what is marked `mcjax.Shared` (an
      attention mask) belong to all examples
    - `t`: a number of evenly spaced points ≥ 1, or an array of points in [0, 1]
    - `task`: metrics, and what labels go with the outputs; default: classification, for outputs
      that are logits
    - `statistics`: of batch normalisation, wherever the model normalises by stored statistics,
      whatever their names (`Network.explain` lists them). Default: the end points' own, at t
      (1 − t) A + t B whatever the path, with a warning if networks between them are evaluated.
      Inputs (usually those of the training): estimated from them at every t (tatro2020). Or what
      `mcjax.evaluation.batch_norm_along` has estimated, to be shared by several evaluations;
      `Statistics(t, {})` leaves those that the path's points hold
    - `attack`: every network is attacked by itself, and the metrics are those on the attacked
      inputs (tatro2020, Sec. 5); statistics stay those of clean inputs
    - `mesh`: devices to share the work; its axes may be named `"t"` and `"data"`
    - `chunk`: examples at a time
    - `t_batch`: points at a time, vmapped; default 1 on a CPU, on an accelerator as many as
      keep their parameters under 2 GiB

    **Returns:** a `Curve`. A single t gives a curve of one point.

    **Raises:** `ValueError` for an empty batch, x and y of different lengths, t outside [0, 1],
    outputs or labels that are not the task's, metrics that do not return one value for each
    example, or stored statistics that cannot be estimated.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: x @ p["w"]
        >>> path = mcjax.path.Linear({"w": jnp.eye(2)}, {"w": -jnp.eye(2)})
        >>> curve = mcjax.evaluate(path, f, (jnp.eye(2), jnp.array([0, 1])), t=3)
        >>> curve.accuracy.tolist()
        [1.0, 0.5, 0.0]
    """
    if not isinstance(path, Path):
        raise ValueError(f"path must be a mcjax Path, got {type(path).__name__}")
    _check.function(apply_fn, "apply_fn")
    task = require(task)
    (x, y), n = _check.labelled(data)
    _check.positive(chunk, "chunk")
    ts = time_grid(t)
    plan = Plan(apply_fn, task, min(chunk, n), t_batch_for(path, len(ts), t_batch))
    _check_task(task, path, apply_fn, x, y)
    in_sweep = statistics is x and n <= chunk and attack is None and mesh is None
    batch_norm = statistics_leaves(
        path, apply_fn, chunks.types(x, plan.chunk), ts, statistics, chunk=chunk,
        t_batch=plan.t_batch, in_sweep=in_sweep,
    )  # fmt: skip
    by_sweep = batch_norm.kind == "estimated" and not batch_norm.leaves
    plan = dataclasses.replace(plan, own_statistics=by_sweep)
    grid = jnp.asarray(ts, jnp.result_type(float))
    lengths = np.asarray(_lengths(path, grid), np.float64)
    if not lengths.size or lengths.any():
        batch_norm.warn()
    if mesh is None:
        x, y = jax.tree.map(jnp.asarray, (x, y))
    if attack is not None:
        attack.check(x)
        plan, x = dataclasses.replace(plan, apply_fn=attacked(apply_fn, attack)), (x, y)
    values = {k: np.empty(len(ts)) for k in task.metrics}
    for which, piece, where in pieces(path, ts):
        points = jnp.asarray(where, jnp.result_type(float))
        replaced = batch_norm.at(which)
        if mesh is not None:
            sums = sharded_sweep(mesh, plan, piece, points, replaced, x, y)
        else:
            weights = jnp.ones(n, jnp.float32)
            sums = sweep(plan, piece, points, replaced, x, y, weights)
        for k, found in sums.items():
            values[k][which] = np.asarray(found, np.float64) / n
    metadata = {"task": task.name, "statistics": batch_norm.source, "examples": n}
    if attack is not None:
        metadata["attack"] = repr(attack)
    return Curve(ts, values, lengths, task, metadata | versions())


def _check_task(task: Task, path: Path, apply_fn: ApplyFn, x: Any, y: Any) -> None:
    """Raise unless outputs and labels are the task's."""
    outputs = jax.eval_shape(lambda x: apply_fn(unpack(path.at(0.0)), unmark(x)), x)
    _check.outputs(outputs)
    task.check(task.outputs(outputs), unmark(y))


@jax.jit
def _lengths(path: Path, ts: jax.Array) -> jax.Array:
    from .._tree import squared_distance

    def step(i):
        return jnp.sqrt(squared_distance(path.at(ts[i]), path.at(ts[i + 1])))

    return jax.lax.map(step, jnp.arange(ts.shape[0] - 1))
