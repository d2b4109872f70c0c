"""Paths of low loss between inputs, by points led around barriers (vrabel2024, Sec. 4, App. A)."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import jax
import numpy as np

from .. import _check
from .._tree import at_least_single
from .._types import ApplyFn, Params
from ..network import Network
from ..path import Linear, PolygonalChain
from ..tasks import CLASSIFICATION, Task, require
from .around import Bypass
from .bounds import check_inside
from .descent import Descent, Fixed, descend
from .interpolation import Interpolation, Sweep, swept
from .pairs import checked_labels, checked_model, checked_pairs

BELOW = "below delta"
BUDGET = "budget spent"
STUCK = "stuck"
ENDS = "ends above delta"
BROKEN = "not finite"


@dataclasses.dataclass(frozen=True, eq=False)
class Bypassed:
    """Polygonal chains between inputs: the result of `mcjax.inputs.bypass`.

    - `points`: for each pair (k, …), from A to C
    - `status`: (pairs,) words:
      `"below delta"`: no loss is above δ *at the points looked at*, `how.points` a segment;
      `"budget spent"`: depth or inserted points ran out;
      `"stuck"`: a point that was moved stayed above δ;
      `"ends above delta"`: A or C is, and no path can be below;
      `"not finite"`: a loss is not
    - `height`: (pairs,) highest loss of the chain at the points looked at
    - `losses`: for each pair (k − 1, how.points), on the segments of its chain
    - `rounds`: (pairs,) rounds in which the chain got points, 0 where the segment was low
    - `direct`: the segments AC
    - `how`: options
    """

    points: list[np.ndarray]
    status: np.ndarray
    height: np.ndarray
    losses: list[np.ndarray]
    rounds: np.ndarray
    direct: Interpolation
    how: Bypass

    def __repr__(self) -> str:
        return f"Bypassed({len(self.points)} pairs; {self._counts()})"

    def path(self, pair: int) -> PolygonalChain:
        """The chain of a pair, as a path of inputs."""
        return PolygonalChain(tuple(self.points[pair]))

    def loss_at(self, t: Any) -> np.ndarray:
        """(pairs, T): losses on the chains at t of their paths, between the points looked at."""
        rows = []
        for losses in self.losses:
            number, points = losses.shape
            at = np.arange(number)[:, None] + np.linspace(0, 1, points)
            rows.append(np.interp(np.asarray(t) * number, at.ravel(), losses.ravel()))
        return np.array(rows)

    def joined(self, rounds: int) -> float:
        """The share of the pairs that are below δ after so many rounds."""
        return float(np.mean((self.status == BELOW) & (self.rounds <= rounds)))

    def summary(self) -> str:
        """How many pairs are joined, by how many points, and from which height to which."""
        inserted = [len(p) - 2 for p in self.points]
        before, after = (np.median(v) for v in (self.direct.height, self.height))
        return (
            f"{len(self.points):,} pairs, delta {self.how.delta:g}: {self._counts()}\n"
            f"  height: median {before:.4g} on the segments, {after:.4g} on the chains\n"
            f"  points: {np.mean(inserted):.2f} inserted on average, {max(inserted)} at most, "
            f"in {self.rounds.max()} rounds"
        )

    def _counts(self) -> str:
        counts = collections.Counter(self.status.tolist())
        return ", ".join(f"{n:,} {word}" for word, n in counts.most_common())


@_check.on_host
def bypass(
    model: ApplyFn | Network,
    params: Params,
    pairs: tuple[Any, Any],
    y: Any,
    how: Bypass | None = None,
    *,
    task: Task = CLASSIFICATION,
    chunk: int = 1024,
) -> Bypassed:
    """Chains of low loss between inputs A and C: barriers bypassed until all is below δ.

    Points of all pairs move together in compiled blocks of steps, and those that are done leave the
    batch. They are kept within `how.bounds`, if any.

    **Arguments:**
    - `model`, `params`, `pairs`, `y`, `task`, `chunk`: as for `mcjax.inputs.interpolate`
    - `how`: options; default `Bypass()`

    **Returns:** a `Bypassed`, a status for each pair.

    **Raises:** `ValueError` as `interpolate` does, and for inputs outside `how.bounds`.

        >>> import jax.numpy as jnp, mcjax
        >>> hill = lambda p, x: jnp.exp(-4 * (x[:, :1]**2 + (x[:, 1:] + p["at"])**2))
        >>> a, c = jnp.array([[-1.0, 0.0]]), jnp.array([[1.0, 0.0]])
        >>> made = mcjax.inputs.bypass(
        ...     hill, {"at": jnp.array(0.2)}, (a, c), jnp.zeros((1, 1)),
        ...     mcjax.inputs.Bypass(0.05, learning_rate=0.05), task=mcjax.tasks.REGRESSION)
        >>> made.status.tolist(), made.points[0].shape, float(made.direct.height[0]) > 0.7
        (['below delta'], (3, 2), True)
    """
    how, task, chunk = how or Bypass(), require(task), _check.positive(chunk, "chunk")
    if not isinstance(how, Bypass):
        raise ValueError(f"how must be a mcjax.inputs.Bypass, got {how!r}")
    a, c = (np.asarray(v) for v in checked_pairs(pairs))
    for name, x in (("x_a", a), ("x_c", c)):
        check_inside(x, how.bounds, name)
    labels = checked_labels(y, len(a))
    packed = checked_model(model, params, a, labels, task)
    search = _Search(model, task, how, chunk, packed, labels)
    values = search.values(a, c, np.arange(len(a)))
    metadata = {"pairs": len(a), "path": "Linear", "task": task.name}
    direct = Interpolation(search.t, values, task, metadata)
    chains = [[_Segment(*ends)] for ends in zip(a, c, direct.loss, strict=True)]
    rounds = np.zeros(len(a), int)
    for _ in range(how.depth):
        split = search.split(chains)
        if not len(split):
            break
        rounds[split] += 1
    return Bypassed(
        [np.stack([chain[0].a, *(s.c for s in chain)]) for chain in chains],
        np.array([_status(chain, how.delta) for chain in chains]),
        np.array([_height(chain) for chain in chains]),
        [np.stack([s.loss for s in chain]) for chain in chains],
        rounds,
        direct,
        how,
    )


@dataclasses.dataclass(frozen=True)
class _Segment:
    """A segment AC of a chain and the losses on it."""

    a: np.ndarray
    c: np.ndarray
    loss: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Search:
    model: ApplyFn | Network
    task: Task
    how: Bypass
    chunk: int
    params: Params
    labels: Any

    @property
    def t(self) -> np.ndarray:
        return np.linspace(0, 1, self.how.points)

    def labels_of(self, pairs: np.ndarray) -> Any:
        return jax.tree.map(lambda v: np.asarray(v)[pairs], self.labels)

    def values(self, a: np.ndarray, c: np.ndarray, pairs: np.ndarray) -> dict[str, np.ndarray]:
        plan = Sweep(self.model, self.task, Linear, self.chunk)
        return swept(plan, self.params, a, c, self.labels_of(pairs), self.t)

    def split(self, chains: list[list[_Segment]]) -> np.ndarray:
        """Bypass the barriers of one round; the pairs that had any."""
        todo = [(i, k) for i, chain in enumerate(chains) for k in _to_split(chain, self.how)]
        if not todo:
            return np.zeros(0, int)
        old = [chains[i][k] for i, k in todo]
        pairs = np.array([i for i, _ in todo])
        a, c = np.stack([s.a for s in old]), np.stack([s.c for s in old])
        t = self.t[[s.loss.argmax() for s in old]].reshape(-1, *[1] * (a.ndim - 1)).astype(a.dtype)
        along = (c.astype(np.float64) - a).reshape(len(a), -1)
        along /= np.abs(along).max(1, keepdims=True)  # no square overflows or vanishes
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        normal = along.reshape(a.shape).astype(at_least_single(a.dtype))
        below = np.full(len(a), self.how.margin * self.how.delta)
        fixed = Fixed((1 - t) * a + t * c, self.labels_of(pairs), below, normal)
        plan = Descent(self.model, self.task, self.how, self.chunk)
        b = descend(plan, self.params, fixed)
        ends = np.concatenate([a, b]), np.concatenate([b, c])
        losses = self.values(*ends, np.r_[pairs, pairs])[self.task.loss]
        halves = [_Segment(*s) for s in zip(*ends, losses, strict=True)]
        for n in reversed(range(len(todo))):  # the later segments of a chain first
            i, k = todo[n]
            chains[i][k : k + 1] = [halves[n], halves[n + len(todo)]]
        return np.unique(pairs)


def _height(chain: list[_Segment]) -> float:
    """The highest loss on a chain, NaN where one is."""
    return float(np.max([s.loss.max() for s in chain]))


def _status(chain: list[_Segment], delta: float) -> str:
    """What can be said of a chain, whether its search is over or not."""
    if not all(np.isfinite(s.loss).all() for s in chain):
        return BROKEN
    if max(chain[0].loss[0], chain[-1].loss[-1]) > delta:
        return ENDS
    if _height(chain) <= delta:
        return BELOW
    return STUCK if any(s.loss[0] > delta or s.loss[-1] > delta for s in chain) else BUDGET


def _to_split(chain: list[_Segment], how: Bypass) -> list[int]:
    """Numbers of the segments above δ, rising; as many of the highest as there is budget for."""
    if _status(chain, how.delta) != BUDGET:
        return []
    high = [k for k, s in enumerate(chain) if s.loss.max() > how.delta]
    high.sort(key=lambda k: -chain[k].loss.max())
    return sorted(high[: how.inserted - (len(chain) - 1)])


__all__ = ["Bypassed", "bypass"]
