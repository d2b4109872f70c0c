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
from ..attacks.pgd import PGD, attacked
from ..path import Path
from ..tasks import CLASSIFICATION, Task
from .batch_norm import Statistics, estimate_along, statistics_along
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
    - `statistics`: inputs to estimate batch-normalisation statistics from at every t (tatro2020;
      usually the training inputs), or what `mcjax.evaluation.batch_norm_along` has estimated, to
      be shared by several evaluations; default: the x of `data`. Only used where the model
      normalises by stored statistics, whatever their names (`Network.explain` lists them).
      Where they are those of x and x is one chunk, a single pass gives statistics and metrics.
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
    (x, y), n = _check.labelled(data)
    _check.positive(chunk, "chunk")
    ts = time_grid(t)
    plan = Plan(
        apply_fn=apply_fn,
        task=task,
        chunk=min(chunk, n),
        t_batch=t_batch_for(path, len(ts), t_batch),
        own_statistics=(
            n <= chunk and (statistics is None or statistics is x) and not (attack or mesh)
        ),
    )
    _check_task(task, path, apply_fn, x, y)
    if mesh is None:
        x, y = jax.tree.map(jnp.asarray, (x, y))
    batch_norm = x if statistics is None else statistics
    if isinstance(batch_norm, Statistics):
        batch_norm.check(ts)
    if attack is not None:
        attack.check(x)
        plan, x = dataclasses.replace(plan, apply_fn=attacked(apply_fn, attack)), (x, y)
    values = {k: np.empty(len(ts)) for k in task.metrics}
    for which, piece, where in pieces(path, ts):
        points = jnp.asarray(where, jnp.result_type(float))
        if isinstance(batch_norm, Statistics):
            replaced = batch_norm.at(which)
        elif plan.own_statistics or not statistics_along(piece, apply_fn, batch_norm, chunk):
            replaced = {}
        else:
            replaced = estimate_along(
                piece, apply_fn, batch_norm, points, chunk=chunk, t_batch=plan.t_batch
            )
        if mesh is not None:
            sums = sharded_sweep(mesh, plan, piece, points, replaced, x, y)
        else:
            weights = jnp.ones(n, jnp.float32)
            sums = sweep(plan, piece, points, replaced, x, y, weights)
        for k, found in sums.items():
            values[k][which] = np.asarray(found, np.float64) / n
    points = jnp.asarray(ts, jnp.result_type(float))
    lengths = np.asarray(_lengths(path, points), np.float64)
    return Curve(
        ts, values, lengths, task, {"examples": n, "task": task.name, "jax": jax.__version__}
    )


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
