"""`mcjax.evaluate`: loss, accuracy and any metric along a path, over a whole data set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import _check
from .._files import write_atomically
from .._inputs import unmark
from .._static import unpack
from .._types import ApplyFn
from ..attacks.pgd import PGD, Attacked, attack_inputs
from ..path import Path
from ..tasks import CLASSIFICATION, Task
from .barrier import barrier
from .batch_norm import Statistics, estimate_along, statistics_along
from .pieces import pieces, t_batch_for, time_grid
from .sharding import sharded_sweep
from .sweep import Plan, sweep

# Examples at a time: small enough that a chunk's activations stay near the cores.
_CHUNK = 500


@dataclasses.dataclass(frozen=True)
class Curve:
    """Metrics along a path: the result of `mcjax.evaluate`.

    - `t`: (T,) points in [0, 1]
    - `values`: metric name → (T,) means over the data
    - `lengths`: (T − 1,) distances ‖θ(t_{i+1}) − θ(t_i)‖ in parameter space
    - `task`: says which values are the bad ones
    - `metadata`: what produced it (number of examples, versions, …)
    """

    t: np.ndarray
    values: Mapping[str, np.ndarray]
    lengths: np.ndarray
    task: Task = CLASSIFICATION
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __getattr__(self, name: str) -> np.ndarray:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"this curve has no {name!r}; it has {', '.join(values)}")

    def _get(self, metric: str) -> np.ndarray:
        if metric not in self.values:
            raise ValueError(f"unknown metric {metric!r}; the curve has {', '.join(self.values)}")
        return self.values[metric]

    def barrier(self, convention: str = "chord", metric: str | None = None) -> float:
        """The barrier of a metric of which high values are bad (default: the task's loss).

        See `mcjax.evaluation.barrier`.
        """
        metric = self.task.loss if metric is None else metric
        values = self._get(metric)
        if self.task.worse[metric] == "low":
            values = -values
        return barrier(self.t, values, convention)

    def worst(self, metric: str = "accuracy") -> float:
        """The lowest accuracy, the highest loss: the worst value of a metric along the path."""
        return self.task.worst(metric, self._get(metric))

    def mean(self, metric: str | None = None) -> float:
        """∫ m(θ(t)) ‖θ'(t)‖ dt / ∫ ‖θ'(t)‖ dt by the trapezoidal rule (tatro2020, Eq. 1)."""
        values = np.asarray(self._get(self.task.loss if metric is None else metric), np.float64)
        total = self.lengths.sum()
        if values.size < 2 or total == 0:
            return float(values.mean())
        return float(np.sum(self.lengths * (values[1:] + values[:-1]) / 2) / total)

    def summary(self) -> str:
        """The curve in a few lines of text."""
        lines = [f"{len(self.t)} points, length {self.lengths.sum():.4g}"]
        for name, values in self.values.items():
            lines.append(
                f"{name:>10}: {values[0]:.4f} at t={self.t[0]:g}, {values[-1]:.4f} at "
                f"t={self.t[-1]:g}, worst {self.worst(name):.4f}, mean {self.mean(name):.4f}"
            )
        if len(self.t) > 1 and self.t[0] == 0 and self.t[-1] == 1:
            chord, endpoint = self.barrier(), self.barrier("endpoint")
            lines.append(f"   barrier: {chord:.4f} above the chord, {endpoint:.4f} above the ends")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The curve as plain lists and numbers."""
        return {
            "t": self.t.tolist(),
            **{k: v.tolist() for k, v in self.values.items()},
            "lengths": self.lengths.tolist(),
            "metadata": dict(self.metadata),
        }

    def save(self, path: str | FilePath) -> None:
        """Write the curve as JSON, atomically."""
        write_atomically(path, json.dumps(self.to_dict(), indent=1).encode())

    def plot(self, path: str | FilePath) -> None:
        """Draw loss and accuracy along the path into a picture file."""
        from ..figures.curves import draw_curves

        draw_curves({"path": {"data": self}}, path)


def evaluate(
    path: Path,
    apply_fn: ApplyFn,
    data: tuple[Any, Any],
    t: int | Any = 25,
    *,
    task: Task = CLASSIFICATION,
    statistics: Any = None,
    attack: PGD | None = None,
    key: jax.Array | None = None,
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
    - `key`: of the attack's random starts (default `jax.random.key(0)`); that of example n comes
      from `fold_in(key, n)`, whatever the chunks
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
        hint = "; pass its .path" if isinstance(getattr(path, "path", None), Path) else ""
        raise ValueError(f"path must be a mcjax Path, got {type(path).__name__}{hint}")
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
        plan = dataclasses.replace(plan, apply_fn=Attacked(apply_fn, attack, task))
        x = attack_inputs(x, y, jax.random.key(0) if key is None else key)
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
