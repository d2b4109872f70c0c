"""`mcjax.evaluate`: loss, accuracy and any metric along a path, over a whole data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from .. import _check, _check_model
from .._static import is_array
from .._stream import BLOCK_BYTES, Stream
from .._types import ApplyFn
from .._version import versions
from ..attacks import Attack
from ..attacks.model import AttackedModel, attack_inputs
from ..network.network import Network
from ..path import Family, Path
from ..path._base import count
from ..tasks import CLASSIFICATION, Task, require
from .curve import Curve
from .driver import Found, run
from .pieces import as_coordinates, pieces, t_batch_for, time_grid
from .sharding import check_mesh
from .statistics import choose
from .sweep import Plan, apply_of, check_task
from .worth import Worth

# Examples at a time: small enough that a chunk's activations stay near the cores.
_CHUNK = 500


@_check.on_host
def evaluate(
    path: Path,
    model: ApplyFn | Network,
    data: Any,
    t: int | Any = 25,
    *,
    task: Task = CLASSIFICATION,
    statistics: Any = None,
    attack: Attack | None = None,
    key: jax.Array | None = None,
    mesh: Mesh | None = None,
    chunk: int = _CHUNK,
    t_batch: int | None = None,
) -> Curve:
    """Metrics of the networks along a path, each over the whole data set.

    m(t) = 1/N Σ_n metric(f(θ(t), x_n), y_n). Compiled once for given shapes; of data a device
    holds at most 64 MiB at a time, of activations those of a `chunk`; what is linear in the path's
    points (a first layer on data) is computed once for all t. `mcjax.evaluation.metrics_at` is the
    same on one batch, to be used inside `jit`, `vmap` and `grad`.

    **Arguments:**
    - `path`: a `Path`
    - `model`: (params, x) → outputs; keep it the same object to compile only once; or a `Network`
    - `data`: (x, y), pytrees of arrays batched on axis 0 (memory maps too, which are never read
      whole), or an iterable of such batches of any lengths, gone through once for as many points as
      fit in 1 GiB (a path of one leg: once); scalars and what is marked `mcjax.Shared` (an
      attention mask) belong to all examples
    - `t`: a number of evenly spaced points ≥ 2, or an array of points in [0, 1] that do not fall
      (`[1.0]`: one)
    - `task`: metrics, and what labels go with the outputs; default: classification, for outputs
      that are logits
    - `statistics`: of batch normalisation, wherever the model normalises by stored statistics,
      whatever their names (`Network.explain` lists them). Default: the end points' own, at t
      (1 − t) A + t B whatever the path, with a warning if networks between them are evaluated.
      Inputs (usually those of the training), or an iterable of batches of them: estimated from
      them at every t (tatro2020). Or what
      `mcjax.evaluation.batch_norm_along` has estimated, to be shared by several evaluations;
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

    **Warns:** where a metric is not finite, of the first t and how many examples; and
    `StatisticsWarning` where networks have the end points' statistics of batch normalisation.

    **Raises:** `ValueError` for an empty batch, x and y of different lengths, NaN in x, t that
    lies outside [0, 1] or falls, an iterator of batches that several passes are needed over,
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
        hint = "; the order is mcjax.evaluate(path, model, data)" if callable(path) else ""
        if isinstance(getattr(path, "path", None), Path):
            hint = "; pass its .path"
        elif not hint:
            hint = "; the segment between two networks is mcjax.path.Linear(a, b)"
        raise ValueError(f"path must be a mcjax Path, got {type(path).__name__}{hint}")
    if is_array(data):  # x alone: y has been taken for t
        _check.labelled(data)
    ts = time_grid(t)
    how = Settings(task, statistics, attack, key, mesh, chunk, t_batch)
    found, metadata = evaluated(
        path, model, data, ts, how, lengths=True, where=lambda i: f"t = {ts[i]:g}"
    )
    return Curve(ts, found.values, found.lengths, task, metadata)


@_check.on_host
def evaluate_points(
    family: Family,
    model: ApplyFn | Network,
    data: Any,
    coordinates: Any,
    *,
    task: Task = CLASSIFICATION,
    statistics: Any = None,
    attack: Attack | None = None,
    key: jax.Array | None = None,
    mesh: Mesh | None = None,
    chunk: int = _CHUNK,
    t_batch: int | None = None,
) -> dict[str, np.ndarray]:
    """Metrics of the points of any family, each over the whole data set.

    **Arguments:**
    - `family`: a `mcjax.path.Family`: a stack of points (`mcjax.path.Points`), a plane, a path
    - `coordinates`: of T points, on the leading axis, in any order
    - others as in `mcjax.evaluate`

    **Returns:** metric name → (T,) means.

    **Raises:** `ValueError` as `mcjax.evaluate`.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: x @ p["w"]
        >>> networks = mcjax.path.Points({"w": jnp.stack([jnp.eye(2), -jnp.eye(2)])})
        >>> data = jnp.eye(2), jnp.array([0, 1])
        >>> mcjax.evaluation.evaluate_points(networks, f, data, [0, 1])["accuracy"].tolist()
        [1.0, 0.0]
    """
    if not isinstance(family, Family):
        raise ValueError(f"family must be a mcjax Family, got {type(family).__name__}")
    coordinates = as_coordinates(family, coordinates)
    if isinstance(family, Path):
        _check.interval(coordinates)
    how = Settings(task, statistics, attack, key, mesh, chunk, t_batch)
    found, _ = evaluated(family, model, data, coordinates, how, where=lambda i: f"point {i}")
    return dict(found.values)


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """How any family is evaluated: the options that `mcjax.evaluate` describes, checked."""

    task: Task
    statistics: Any = None
    attack: Attack | None = None
    key: jax.Array | None = None
    mesh: Mesh | None = None
    chunk: int = _CHUNK
    t_batch: int | None = None

    def __post_init__(self) -> None:
        require(self.task)
        if self.mesh is not None:
            check_mesh(self.mesh)
        _check.positive(self.chunk, "chunk")
        if self.key is not None:
            _check.random_key(self.key)

    @property
    def draws(self) -> jax.Array:
        """The key of the attack."""
        return jax.random.key(0) if self.key is None else self.key

    def stream(self, model: ApplyFn | Network, data: Any) -> Stream:
        """The data in blocks that these devices hold."""
        of_devices = 1 if self.mesh is None else self.mesh.size
        mark = model.inputs if isinstance(model, Network) else lambda x: x
        return Stream(data, self.chunk, limit=BLOCK_BYTES * of_devices, mark=mark)

    def metadata(self) -> dict[str, Any]:
        """What a result says of them."""
        if self.attack is None:
            return {"task": self.task.name}
        key = np.asarray(_check.key_data(self.draws)).tolist()
        return {"task": self.task.name, "attack": repr(self.attack), "key": key}


def evaluated(
    family: Family, model: ApplyFn | Network, data: Any, coordinates: Any, how: Settings, *,
    where: Callable[[int], str], lengths: bool = False,
) -> tuple[Found, dict[str, Any]]:  # fmt: skip
    """Checks, statistics and attacks around the driver: (what is found, what it is of)."""
    apply_fn = apply_of(model)
    _check_model.function(apply_fn, "model")
    stream = how.stream(model, data)
    first = stream.first()
    x, y = first.data
    some = as_coordinates(family, coordinates)
    labels = check_task(how.task, family, model, some, x, y)
    n = stream.n or len(first.weights)
    own = stream.arrays is not None and how.statistics is not None and how.statistics is data[0]
    batch = t_batch_for(family, some, how.t_batch)
    choice = choose(
        family, model, x, coordinates, how.statistics, chunk=how.chunk, t_batch=batch,
        in_sweep=own and n <= how.chunk and how.attack is None and how.mesh is None,
    )  # fmt: skip
    chunk = min(how.chunk, len(first.weights))
    swept = model if how.attack is None else AttackedModel(apply_fn, how.attack, how.task)
    plan = Plan(swept, how.task, chunk, batch, choice.in_sweep)

    def prepare(x: Any, y: Any, start: int) -> Any:
        if start:  # the first have been looked at
            labels(y)
        if how.attack is None:
            return x
        how.attack.check(x)
        return attack_inputs(x, y, how.draws, start)

    more = choice.more_examples
    examples = None if stream.n is None or more is None else stream.n + more
    worth = Worth(
        apply_of(swept), family, some, x, chunk, choice.replaced, examples, choice.programs
    )  # fmt: skip
    parts = pieces(family, coordinates, worth.pays)
    choice.passes(len(parts))
    found = run(
        plan, parts, count(some), stream, statistics=choice.at, prepare=prepare, where=where,
        mesh=how.mesh, lengths=lengths,
    )  # fmt: skip
    if not found.lengths.size or found.lengths.any():
        choice.warn(stacklevel=4)  # evaluate, and what stands around it
    of: dict[str, Any] = {"statistics": choice.source, "examples": found.examples}
    of |= {"form": model.form} if isinstance(model, Network) else {}
    return found, how.metadata() | of | versions()
