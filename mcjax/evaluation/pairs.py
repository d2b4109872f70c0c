"""`evaluate_pairs`: N networks, the segments between every two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from .. import _check
from .._compiled import compiled
from .._static import pack, unpack
from .._tree import squared_distance
from .._types import ApplyFn, Params
from ..network.network import Network
from ..path import Linear, Segments
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
    if align is None:
        values, metadata = _at_once(trees, model, data, ts, how)
        distance = compiled(_distance)
        distances = [distance(trees[i], trees[j]) for i, j in _pairs(len(trees))]
    else:
        values, metadata, distances = _one_by_one(trees, align, model, data, ts, how)
        metadata = {**metadata, "aligned": getattr(align, "__name__", type(align).__name__)}
    return PairwiseCurves(
        len(trees), ts, values, np.asarray(distances, np.float64), task, metadata
    )  # fmt: skip


def _pairs(n: int) -> np.ndarray:
    return np.stack(np.triu_indices(n, 1), -1)


def _at_once(
    trees: list[Params], model: ApplyFn | Network, data: Any, ts: np.ndarray, how: Settings
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Metric → (pairs, T) of all segments in one sweep, and what it is of."""
    pairs = _pairs(len(trees))
    i, j = (np.repeat(v, len(ts)) for v in pairs.T)
    t = np.tile(ts, len(pairs)).astype(np.float32)
    found, metadata = evaluated(
        Segments.between(trees), model, data, (i, j, t), how,
        where=lambda k: f"t = {t[k]:g} from network {i[k]} to {j[k]}",
    )  # fmt: skip
    return {k: v.reshape(len(pairs), len(ts)) for k, v in found.values.items()}, metadata


def _one_by_one(
    trees: list[Params], align: Callable[[Params, Params], Params], model: ApplyFn | Network,
    data: Any, ts: np.ndarray, how: Settings,
) -> tuple[dict[str, np.ndarray], dict[str, Any], list[Any]]:  # fmt: skip
    """The same pair by pair, of networks that are aligned for each, with their distances."""
    rows: list[Any] = []
    metadata: dict[str, Any] = {}
    distances = []
    for i, j in _pairs(len(trees)).tolist():
        first = unpack(trees[i])
        moved = align(first, unpack(trees[j]))
        path = Linear(first, moved)
        found, metadata = evaluated(
            path, model, data, ts, how,
            where=lambda k, i=i, j=j: f"t = {ts[k]:g} from network {i} to {j}",
        )  # fmt: skip
        rows.append(found.values)
        distances.append(compiled(_distance)(trees[i], pack(moved)))
    return {k: np.stack([r[k] for r in rows]) for k in rows[0]}, metadata, distances


def _distance(a: Params, b: Params) -> Any:
    return squared_distance(a, b) ** 0.5


__all__ = ["evaluate_pairs"]
