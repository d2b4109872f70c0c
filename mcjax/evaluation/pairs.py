"""`evaluate_pairs`: N networks, the segments between every two of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import _check
from .._compiled import compiled
from .._static import pack, unpack
from .._tree import squared_distance, stack
from .._types import ApplyFn, Params
from ..network.network import Network
from ..path import Family, Linear, Segments
from ..path.segments import checked_networks
from ..tasks import CLASSIFICATION, Task
from .along import Settings, evaluated
from .pairwise import PairwiseCurves
from .pieces import time_grid
from .statistics import Statistics


@_check.on_host
def evaluate_pairs(
    networks: Sequence[Params],
    model: ApplyFn | Network,
    data: Any,
    t: int | Any = 11,
    *,
    align: Callable[[Params, Params], Params] | None = None,
    task: Task = CLASSIFICATION,
    statistics: Any = None,
    mesh: Mesh | None = None,
    chunk: int = 500,
    t_batch: int | None = None,
) -> PairwiseCurves:
    """Metrics on the segments between every two of N networks, each over the whole data set.

    m_ij(t) = 1/N_data Σ_n metric(f((1 − t) θ_i + t θ_j, x_n), y_n) for i < j. All pairs are one
    sweep and one program; what is linear in the parameters (a first layer on data) is computed
    once for each network and chunk, not once for each pair and t. Networks that `match_many` has
    aligned to one common order are handed over as they are then. Of a chunk a device holds the
    N first layers' outputs, and all N networks.

    With `align`, j is aligned to i for each pair by itself, and one pair is evaluated after the
    other, by one program.

    **Arguments:**
    - `networks`: N ≥ 2 parameter trees of one structure
    - `model`, `data`, `t`, `task`, `statistics`, `mesh`, `chunk`, `t_batch`: as in
      `mcjax.evaluate`; with `align` the data are gone through for each pair
    - `align`: (θ_i, θ_j) → θ_j as it is aligned to network i

    **Returns:** `PairwiseCurves`.

    **Raises:** `ValueError` for fewer than two networks, networks that differ in structure or are
    not finite, `Statistics` (which are of one path), and as `mcjax.evaluate`.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: x @ p["w"]
        >>> networks = [{"w": s * jnp.eye(2)} for s in (1.0, 2.0, -1.0)]
        >>> data = jnp.eye(2), jnp.array([0, 1])
        >>> found = mcjax.evaluation.evaluate_pairs(networks, f, data, t=3)
        >>> found.pairs, found.values["accuracy"].tolist()
        ([(0, 1), (0, 2), (1, 2)], [[1.0, 1.0, 1.0], [1.0, 0.5, 0.0], [1.0, 1.0, 0.0]])
    """
    trees = checked_networks(networks)
    if isinstance(statistics, Statistics):
        raise ValueError("statistics: Statistics are of one path; pass inputs to estimate from")
    ts, how = time_grid(t), Settings(task, statistics, mesh=mesh, chunk=chunk, t_batch=t_batch)
    rows: list[dict[str, np.ndarray]] = []
    distances: list[float] = []
    metadata: dict[str, Any] = {}
    for part in _at_once(trees, ts) if align is None else _one_by_one(trees, align, ts):
        found, metadata = evaluated(
            part.family, model, data, part.coordinates, how, where=part.where
        )  # fmt: skip
        rows.append({k: v.reshape(-1, len(ts)) for k, v in found.values.items()})
        distances += part.distances
    values = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    if align is not None:
        metadata = {**metadata, "aligned": getattr(align, "__name__", type(align).__name__)}
    return PairwiseCurves(len(trees), ts, values, np.array(distances), task, metadata)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some of the pairs, as one family; `where` names its points, `distances` are the pairs'."""

    family: Family
    coordinates: Any
    where: Callable[[int], str]
    distances: list[float]


def _at_once(trees: list[Params], ts: np.ndarray) -> Iterator[_Part]:
    """All segments as one family."""
    pairs = np.stack(np.triu_indices(len(trees), 1), -1)
    i, j = (np.repeat(v, len(ts)) for v in pairs.T)
    t = np.tile(ts, len(pairs)).astype(jnp.result_type(float))
    yield _Part(
        Segments(stack(trees)), (i, j, t), lambda k: f"t = {t[k]:g} from network {i[k]} to {j[k]}",
        [_distance(trees[i], trees[j]) for i, j in pairs],
    )  # fmt: skip


def _one_by_one(
    trees: list[Params], align: Callable[[Params, Params], Params], ts: np.ndarray
) -> Iterator[_Part]:
    """One segment after the other, to a network that is aligned for it."""
    for i, j in zip(*np.triu_indices(len(trees), 1), strict=True):
        moved = align(unpack(trees[i]), unpack(trees[j]))
        yield _Part(
            Linear(unpack(trees[i]), moved), ts,
            lambda k, i=i, j=j: f"t = {ts[k]:g} from network {i} to {j}",
            [_distance(trees[i], pack(moved))],
        )  # fmt: skip


def _distance(a: Params, b: Params) -> float:
    return float(np.sqrt(compiled(squared_distance)(a, b)))


__all__ = ["evaluate_pairs"]
