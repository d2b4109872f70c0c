"""Layer-wise linear connectivity: which layer carries the barrier (Adilova et al. 2024)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import _check, _check_model
from .._json import plain
from .._readonly import make_read_only
from .._tree import is_inexact, linear_combination
from .._types import Params
from ..network.layer_leaves import leaves_of_layers
from ..network.network import Network
from ..path import Combination, Family, static
from ..path._base import time
from ..tasks import CLASSIFICATION, Task
from .along import Settings, evaluated
from .barrier import CONVENTIONS
from .pieces import time_grid
from .statistics import Statistics, StatisticsWarning

# Which layers move with one: it alone, those before it too, or those after it.
MOVED = ("alone", "with those before", "with those after")
# The leaves of no layer: scales of layer normalisations, tokens, positions.
NO_LAYER = "(no layer)"


class LayerSegments(Family):
    """Segments on which some leaves move: (k, t) ↦ θ_A + t M_k (θ_B − θ_A).

    What is linear in the leaves that move with the first row's (a first layer on data) is computed
    for A and for B alone, whatever the number of rows and of t.

    **Arguments:**
    - `a`, `b`: parameters of one structure
    - `moving`: (K, leaves) of 0 and 1: the diagonals M_k
    - `together`: numbers of leaves whose columns of `moving` are the same

        >>> import jax.numpy as jnp
        >>> from mcjax.evaluation.layers import LayerSegments
        >>> a, b = ({"v": jnp.array(s), "w": jnp.array(s)} for s in (0.0, 2.0))
        >>> family = LayerSegments(a, b, jnp.eye(2), (0,))
        >>> {k: float(v) for k, v in family((1, 0.5)).items()}
        {'v': 0.0, 'w': 1.0}
    """

    a: Params
    b: Params
    moving: jax.Array
    together: tuple[int, ...] = static()

    def at(self, c: Any) -> Params:
        a, treedef = jax.tree.flatten(self.a)
        t, row = time(c[1]), jnp.asarray(self.moving)[jnp.asarray(c[0]).astype(int)]
        weights = t * row.astype(t.dtype)
        pairs = zip(weights, a, jax.tree.leaves(self.b), strict=True)
        return jax.tree.unflatten(
            treedef, [linear_combination((1 - w, w), (x, y)) for w, x, y in pairs]
        )

    def linear(self) -> Combination | None:
        if not self.together:
            return None
        leaves = [jax.tree.leaves(p) for p in (self.a, self.b)]
        points = [[of[i] for i in self.together] for of in leaves]
        column = jnp.asarray(self.moving)[:, self.together[0]]

        def coefficients(c: Any) -> tuple[jax.Array, jax.Array]:
            t = time(c[1])
            weight = t * column[jnp.asarray(c[0]).astype(int)].astype(t.dtype)
            return 1 - weight, weight

        return Combination(points, coefficients, leaves=self.together)

    def fixed(self) -> frozenset[int]:
        found = enumerate(jax.tree.leaves(self.a))
        return frozenset(i for i, leaf in found if not is_inexact(leaf))


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCurves:
    """Metrics while one layer of network A after the other becomes B's: of `evaluate_layers`.

    - `leaves`: layer → names of the leaves that move for it, layers in topological order; those of
      no layer come last, as `"(no layer)"`
    - `moved`: `"alone"`, `"with those before"` or `"with those after"`
    - `t`: (T,) points from 0 to 1
    - `values`: metric name → (layers, T); `whole`: metric name → (T,) on the segment from A to B
    - `distances`: (layers,) ‖M_k (θ_B − θ_A)‖, how far the layers move
    - `task`, `metadata`: as in `Curve`
    """

    leaves: Mapping[str, Sequence[str]]
    moved: str
    t: np.ndarray
    values: Mapping[str, np.ndarray]
    whole: Mapping[str, np.ndarray]
    distances: np.ndarray
    task: Task = CLASSIFICATION
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_read_only(self, "leaves", "t", "values", "whole", "distances", "metadata")

    def __repr__(self) -> str:
        return f"LayerCurves({len(self.leaves)} layers {self.moved}, {len(self.t)} points)"

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.leaves)

    def barriers(self, convention: str = "chord", metric: str | None = None) -> np.ndarray:
        """(layers,): how far a metric gets worse than the two networks' own.

        - `"chord"`: max_t [ℓ_k(t) − (1 − t) ℓ(A) − t ℓ(B)], ℓ(B) of the whole network B: at t = 1
          only the layer is B's, and the loss there may be the greatest of all
        - `"endpoint"`: max_t ℓ_k(t) − max(ℓ(A), ℓ(B))

        **Arguments:**
        - `metric`: default: the task's loss

        **Raises:** `ValueError` for a metric that there is not or of unknown direction, and another
        convention.
        """
        return self._barriers(self.values, convention, metric)

    def whole_barrier(self, convention: str = "chord", metric: str | None = None) -> float:
        """The same of all layers at once: the barrier of the segment from A to B."""
        return float(self._barriers(self.whole, convention, metric))

    def _barriers(
        self, values: Mapping[str, np.ndarray], convention: str, metric: str | None
    ) -> np.ndarray:
        _check.one_of(convention, CONVENTIONS, "convention")
        metric = self.task.loss if metric is None else metric
        _check.one_of(metric, tuple(values), "metric")
        sign = -1 if self.task.direction(metric) == "low" else 1
        found, ends = (sign * np.asarray(v[metric], np.float64) for v in (values, self.whole))
        if convention == "endpoint":
            return found.max(-1) - max(ends[0], ends[-1])
        return (found - (1 - self.t) * ends[0] - self.t * ends[-1]).max(-1)

    def summary(self) -> str:
        """A line a layer: the barrier, how far the layer moves, and the loss once it is B's."""
        loss = self.values[self.task.loss]
        width = max(map(len, (*self.layers, "all layers")))
        used = self.metadata.get("statistics", "none")
        statistics = "" if used == "none" else f", statistics: {used}"
        lines = [f"layers {self.moved}; {len(self.t)} points; {self.task.name}{statistics}",
                 f"{'':<{width}}  {'barrier':>9}  {'distance':>9}  {'loss, t=1':>9}"]  # fmt: skip
        rows = zip(self.layers, self.barriers(), self.distances, loss[:, -1], strict=True)
        lines += [f"{n:<{width}}  {b:9.4f}  {d:9.4g}  {v:9.4f}" for n, b, d, v in rows]
        end = self.whole[self.task.loss][-1]
        lines.append(f"{'all layers':<{width}}  {self.whole_barrier():9.4f}  {'':>9}  {end:9.4f}")
        if NO_LAYER in self.leaves:
            lines.append(f"in no layer: {', '.join(self.leaves[NO_LAYER])}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists and numbers; a NaN is the string "NaN"."""
        fields = ("moved", "t", "values", "whole", "distances", "metadata")
        leaves = {name: list(v) for name, v in self.leaves.items()}
        return plain({"leaves": leaves, "task": self.task.to_dict(),
                      **{n: getattr(self, n) for n in fields}})  # fmt: skip

    def plot(
        self, path: str | Path | None = None, *, convention: str = "chord",
        metric: str | None = None, ax: Any = None,
    ) -> Any:  # fmt: skip
        """Draw a bar for every layer, and the barrier of all at once as a line.

        **Arguments:**
        - `path`: picture file; default: none is written
        - `convention`, `metric`: as `barriers`
        - `ax`: matplotlib axes to draw on; default: a new figure

        **Returns:** the axes.
        """
        from ..figures.bars import draw_bars

        name = self.task.loss if metric is None else metric
        scale = self.task.scale(name)
        bars = dict(zip(self.layers, scale * self.barriers(convention, metric), strict=True))
        words = {"chord": "above the chord", "endpoint": "above the ends"}[convention]
        line = {"all layers": scale * self.whole_barrier(convention, metric)}
        label = f"barrier {words}, {self.task.axis(name)}"
        return draw_bars(bars, label, path, lines=line, ax=ax)


@_check.on_host
def evaluate_layers(
    network: Network,
    a: Params,
    b: Params,
    data: Any,
    t: int | Any = 11,
    *,
    moved: str = "alone",
    task: Task = CLASSIFICATION,
    statistics: Any = None,
    mesh: Mesh | None = None,
    chunk: int = 500,
    t_batch: int | None = None,
) -> LayerCurves:
    """Metrics while only one layer of A moves to B's, for every layer.

    θ_k(t) has (1 − t) θ_A + t θ_B in the leaves of layer k and θ_A in all others; with `moved`
    layers 1 to k move, or k to the last. All layers are one sweep and one program; what is linear
    in the first layer is computed for A and B alone. Leaves of no layer move after the last one.
    Units are compared as they are: align B first (`mcjax.align`) to ask for more than an accident
    of their order.

    **Arguments:**
    - `network`: the traced network, whose layers they are
    - `a`, `b`: parameters
    - `data`, `task`, `mesh`, `chunk`, `t_batch`: as in `mcjax.evaluate`
    - `t`: a number of evenly spaced points, or an array of points from 0 to 1
    - `moved`: `"alone"`, `"with those before"` or `"with those after"`
    - `statistics`: of batch normalisation: inputs, to estimate them from for every point, or None
      for what the points hold (with a warning): those of a layer that moves move with it

    **Returns:** `LayerCurves`.

    **Raises:** `ValueError` for parameters that do not fit the network, t that does not go from 0
    to 1, another `moved`, `Statistics` (which are of one path), and as `mcjax.evaluate`.

    *Adilova et al. 2024, "Layer-wise linear mode connectivity".*

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": 3 * jnp.eye(2), "w2": 3 * jnp.eye(2)}
        >>> b = {"w1": a["w1"][:, ::-1], "w2": a["w2"][::-1]}
        >>> x, y = jnp.eye(2), jnp.arange(2)
        >>> network = mcjax.trace(f, a, x)
        >>> found = mcjax.evaluation.evaluate_layers(network, a, b, (x, y), t=3)
        >>> found.layers, found.values["accuracy"][:, -1].tolist()
        (('w1', 'w2'), [0.0, 0.0])
    """
    _check_model.network(network)
    _check.one_of(moved, MOVED, "moved")
    if isinstance(statistics, Statistics):
        raise ValueError("statistics: Statistics are of one path; pass inputs to estimate from")
    a, b = network.check_parameters(a=a, b=b)
    ts = time_grid(t)
    if len(ts) < 2 or (ts[0], ts[-1]) != (0, 1):
        raise ValueError(f"t must go from 0 to 1, got points from {ts[0]:g} to {ts[-1]:g}")
    own = _with_rest(network)
    each = np.array([[i in of for i in range(len(network.leaf_types))] for of in own.values()])
    moving = _accumulated(each, moved)
    rows = np.concatenate([moving, np.ones_like(moving[:1])])  # all layers last
    first = np.flatnonzero((rows == rows[:, [min(next(iter(own.values())))]]).all(0))
    together = tuple(int(i) for i in first if _moves(network, int(i)))
    family = LayerSegments(a, b, jnp.asarray(rows, jnp.float32), together)
    n = len(rows)
    # At t = 0 all are network A.
    k = np.concatenate([[n - 1], np.repeat(np.arange(n), len(ts) - 1)])
    at = np.concatenate([[0.0], np.tile(ts[1:], n)]).astype(jnp.result_type(float))
    how = Settings(task, statistics, mesh=mesh, chunk=chunk, t_batch=t_batch)
    found, metadata = evaluated(
        family, network, data, (k, at), how,
        where=lambda i: f"t = {at[i]:g} of {[*own, 'all layers'][k[i]]}",
    )  # fmt: skip
    if metadata["statistics"] == "those that the points hold":
        warnings.warn(
            "the model normalises by stored statistics (BatchNorm), which move with their layers "
            "and are not those of the networks between. To estimate them at every point pass "
            "inputs, as statistics=x_train", StatisticsWarning, stacklevel=3,
        )  # fmt: skip
    values = {}
    for name, v in found.values.items():
        first_of = np.repeat(v[:1], n)[:, None]
        values[name] = np.concatenate([first_of, v[1:].reshape(n, -1)], 1)
    squares = [float(jnp.sum(jnp.abs(y - x) ** 2)) if is_inexact(x) else 0.0
               for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]  # fmt: skip
    return LayerCurves(
        {name: tuple(network.leaf_names[i] for i in sorted(of)) for name, of in own.items()},
        moved, ts, {m: v[:-1] for m, v in values.items()}, {m: v[-1] for m, v in values.items()},
        np.sqrt(moving @ np.array(squares)), task, metadata,
    )  # fmt: skip


def _moves(network: Network, leaf: int) -> bool:
    return bool(jnp.issubdtype(network.leaf_types[leaf].dtype, jnp.inexact))


def _with_rest(network: Network) -> dict[str, frozenset[int]]:
    """Layer → its leaves; those of no layer last. What cannot move is in none.

    **Raises:** `ValueError` for a network without layers.
    """
    every = frozenset(i for i in range(len(network.leaf_types)) if _moves(network, i))
    own = {name: of & every for name, of in leaves_of_layers(network).items() if of & every}
    if not own:
        raise ValueError("network has no layers: no parameter is contracted with data")
    rest = every.difference(*own.values())
    return own | ({NO_LAYER: rest} if rest else {})


def _accumulated(each: np.ndarray, moved: str) -> np.ndarray:
    """(layers, leaves): what moves for every layer."""
    if moved == "alone":
        return each.astype(np.float64)
    sums = np.cumsum(each, 0) if moved == "with those before" else np.cumsum(each[::-1], 0)[::-1]
    return (sums > 0).astype(np.float64)


__all__ = ["MOVED", "NO_LAYER", "LayerCurves", "LayerSegments", "evaluate_layers"]
