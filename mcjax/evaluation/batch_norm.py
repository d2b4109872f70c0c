"""Batch-normalisation statistics of the networks on a path: whose they are is a choice.

In evaluation mode a model computes (h − mean) / √(var + ε); the statistics of h in a network on a
path are neither end point's. By default they are a mixture of the end points' own; or they are
estimated from the model's own program, which says by role which leaves they are
(`mcjax/network/normalisation.py`): mean and variance of h over the batch take the place of the two
leaves, layer after layer in one pass, and are averaged over the batches (tatro2020, App. F).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._compiled import compiled
from .._inputs import length, per_example
from .._static import unpack
from .._types import ApplyFn, Params
from ..network import chunks
from ..network.batch_norm import (
    StatisticLeaves,
    batch_statistics,
    normalisations_of,
    statistic_leaves,
)
from ..network.model import Model, replace_leaves
from ..network.network import Network
from ..network.normalisation import Normalisations
from ..path import Family, Path, Point
from ..path._base import count, first_of, type_at
from ..path.sharing import shared_part
from .pieces import Piece, pieces, t_batch_for, time_grid


def estimate_batch_norm(apply_fn: ApplyFn, params: Params, x: Any, *, chunk: int = 500) -> Params:
    """The parameters with batch-normalisation statistics estimated from x.

    Each batch of `chunk` examples is normalised by its own statistics; mean and (biased) variance
    are averaged over the batches, as PyTorch's `update_bn` does with momentum None (a last batch
    that is not full counts by its size), and over the uses of statistics that serve several times.
    A frozen normaliser of x itself, (x − mean) / √(var + ε), cannot be told from batch
    normalisation in one network and is estimated too.

    **Arguments:**
    - `apply_fn`: the model in evaluation mode
    - `x`: inputs batched on axis 0

    **Returns:** parameters in which only the statistics differ.

    **Raises:** `ValueError` if the model normalises by no stored statistics, or in a way in which
    they cannot be estimated.

        >>> import jax.numpy as jnp
        >>> from mcjax.evaluation import estimate_batch_norm
        >>> f = lambda p, x: (x - p["mean"]) / jnp.sqrt(p["var"] + 1e-5) * p["scale"]
        >>> params = {"mean": jnp.zeros(1), "var": jnp.ones(1), "scale": jnp.ones(1)}
        >>> found = estimate_batch_norm(f, params, jnp.array([[1.0], [3.0]]))
        >>> found["mean"].tolist(), found["var"].tolist()
        ([2.0], [1.0])
    """
    packed = _check.parameters(params, "params")
    path = Point(packed)
    chunk = min(_check.positive(chunk, "chunk"), _check.batched(x, "x"))
    _require_statistics(path, apply_fn, chunks.types(x, chunk), np.zeros(1))
    found = estimate_along(path, apply_fn, x, jnp.zeros(1), {}, chunk=chunk)
    return unpack(replace_leaves(packed, {i: v[0] for i, v in found.items()}))


class StatisticsWarning(UserWarning):
    """Networks inside a path are run with BatchNorm statistics that are not theirs."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Batch-normalisation statistics along a path: what `batch_norm_along` estimates.

    - `t`: (T,) points in [0, 1]
    - `leaves`: leaf number, as in `jax.tree.leaves` → (T, …) means or variances; leaves that are
      not among them stay what they are in the points of the path: `Statistics(t, {})` changes none
    - `kind`: `"none"` (the model has none), `"own"` (the end points' own, mixed), `"estimated"`,
      `"path"` (as the points of the path hold them) or `"given"`
    - `source`: where they come from, in words
    - `mixed`: whether they are mixtures of several networks' own somewhere
    """

    t: np.ndarray
    leaves: Mapping[int, jax.Array]
    kind: str = "given"
    source: str = "as given"
    mixed: bool = False

    def at(self, which: np.ndarray) -> dict[int, jax.Array]:
        """Those of some of the points."""
        return {i: v[which] for i, v in self.leaves.items()}

    def check(self, ts: np.ndarray) -> None:
        """Raise unless they are those of the points `ts`."""
        if not np.array_equal(self.t, ts):
            raise ValueError(
                f"statistics: estimated at {len(self.t)} other points than the {len(ts)} of t"
            )

    def warn(self, stacklevel: int = 3) -> None:
        """Warn if networks inside a path get the end points' own statistics."""
        if self.leaves and self.mixed:
            warnings.warn(
                "the model normalises by stored statistics (BatchNorm), and between the end points "
                "they are a mixture of the end points' own, which are not those of the networks "
                "there. To estimate them at every t pass inputs, as statistics=x_train",
                StatisticsWarning,
                stacklevel=stacklevel,
            )


def statistics_leaves(
    path: Family, model: ApplyFn | Network, x: Any, ts: Any, statistics: Any = None, *,
    chunk: int = 500, t_batch: int = 1, in_sweep: bool = False,
    parts: Sequence[Piece] | None = None,
) -> Statistics:  # fmt: skip
    """The statistics that a sweep uses: which leaves take which values at every t.

    **Arguments:**
    - `x`: inputs of the data, or their types: a batch to trace the model with
    - `ts`: t, or the coordinates of another family
    - `statistics`: None for the end points' own (`Family.mixture`), inputs to estimate from, or
      `Statistics`
    - `in_sweep`: whether the sweep can estimate all by itself, in the pass that it makes anyway;
      those that are left to it are not among the leaves
    - `parts`: the family's pieces, if they are at hand
    - others as in `mcjax.evaluate`

    **Returns:** `Statistics` at `ts`. Estimated ones leave out normalisers of the raw inputs whose
    statistics are the same in both end points: these are part of the model.
    """
    if isinstance(statistics, Statistics):
        statistics.check(ts)
        return statistics
    if statistics is None:
        roles = _roles(path, model, x, ts)
        if not roles.leaves:
            return Statistics(ts, {}, "none", "the model has none")
        mixture = path.mixture(ts)
        if mixture is None:
            return Statistics(ts, {}, "path", "those that the points of the path hold")
        source = "the end points' own, mixed: at t, (1 − t) A + t B"
        mixed = bool((mixture[1].max(-1) < 1).any())
        return Statistics(ts, _mixed(mixture, roles.leaves), "own", source, mixed)
    return _estimated(path, model, statistics, ts, chunk, t_batch, in_sweep, parts)


def _mixed(
    mixture: tuple[Sequence[Params], np.ndarray], numbers: Collection[int]
) -> dict[int, jax.Array]:
    """Leaf number → (T, …) combinations of the networks' leaves, exact where one weight is 1."""
    networks, weights = mixture
    leaves = [jax.tree.leaves(n) for n in networks]
    out = {}
    for i in sorted(numbers):
        stacked = np.stack([np.asarray(v[i]) for v in leaves]).astype(np.float64)
        mixed = np.tensordot(weights, stacked, 1)
        out[i] = jnp.asarray(mixed.astype(leaves[0][i].dtype))
    return out


def _estimated(
    path: Family, model: ApplyFn | Network, x: Any, ts: Any, chunk: int, t_batch: int,
    in_sweep: bool = False, parts: Sequence[Piece] | None = None,
) -> Statistics:  # fmt: skip
    n = _check.batched(x, "statistics")
    chunk = min(chunk, n)
    roles = _roles(path, model, chunks.types(x, chunk), ts)
    if not roles.leaves:
        return Statistics(ts, {}, "none", "the model has none")
    kept = _frozen(path, roles, ts)
    source = f"estimated at every t from {n:,} inputs"
    if in_sweep and not kept:
        return Statistics(ts, {}, "estimated", source)
    apply_fn = model.apply_fn if isinstance(model, Network) else model
    found: dict[int, np.ndarray] = {}
    for planned in pieces(path, ts) if parts is None else parts:
        piece = planned.at_hand()
        replaced = {i: v[piece.which] for i, v in kept.items()}
        some = estimate_along(
            piece.family, apply_fn, x, piece.coordinates, replaced, chunk=chunk, t_batch=t_batch
        )
        for i, values in some.items():
            whole = found.setdefault(i, np.empty((count(ts), *values.shape[1:]), np.float32))
            whole[piece.which] = values
    if kept:
        source += "; those of the raw inputs' normaliser, the same in both end points, are kept"
    leaves = {i: jnp.asarray(v) for i, v in found.items()}
    return Statistics(ts, leaves | kept, "estimated", source)


def _frozen(path: Family, roles: StatisticLeaves, ts: Any) -> dict[int, jax.Array]:
    """Statistics of the raw inputs that are the same in all end points: leaf → (T, …)."""
    mixture = path.mixture(ts) if roles.of_inputs else None
    if mixture is None:
        return {}
    first, *others = (jax.tree.leaves(n) for n in mixture[0])
    same = {
        i
        for pair in roles.of_inputs
        for i in pair
        if others and all(np.array_equal(first[k], v[k]) for k in pair for v in others)
    }
    return _mixed(mixture, same)


def _roles(path: Family, model: ApplyFn | Network, x: Any, ts: Any) -> StatisticLeaves:
    """Which leaves are statistics; of a chunk of inputs, or of their types."""
    apply_fn = model.apply_fn if isinstance(model, Network) else model
    params, x = type_at(path, ts), jax.eval_shape(lambda x: x, x)  # types as JAX has them
    return statistic_leaves(apply_fn, params, x)


def batch_norm_along(
    path: Path, apply_fn: ApplyFn, x: Any, t: int | Any = 25, *, chunk: int = 500,
    t_batch: int | None = None,
) -> Statistics:  # fmt: skip
    """Batch-normalisation statistics of the networks along a path, estimated from x.

    What `mcjax.evaluate` does with `statistics=x`, once for several evaluations: on the training
    and the test set, clean and attacked. A normaliser of the raw inputs whose statistics are the
    same in both end points is part of the model and stays as it is.

    **Arguments:**
    - `path`, `t`, `chunk`, `t_batch`: as in `mcjax.evaluate`
    - `x`: inputs batched on axis 0, usually those of the training

    **Returns:** `Statistics`, to be passed to `mcjax.evaluate` for the same path and t.

    **Raises:** `ValueError` if the model normalises by no stored statistics, and as
    `mcjax.evaluate`.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: (x - p["mean"]) / jnp.sqrt(p["var"] + 1e-5) * p["scale"]
        >>> a = {"mean": jnp.zeros(2), "var": jnp.ones(2), "scale": jnp.ones(2)}
        >>> b = {**a, "scale": -jnp.ones(2)}
        >>> path, x, y = mcjax.path.Linear(a, b), jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.arange(2)
        >>> found = mcjax.evaluation.batch_norm_along(path, f, x, 3)
        >>> mcjax.evaluate(path, f, (x, y), 3, statistics=found).accuracy.tolist()
        [0.0, 0.5, 1.0]
    """
    ts = time_grid(t)
    n = _check.batched(x, "statistics")
    _check.positive(chunk, "chunk")
    _require_statistics(path, apply_fn, chunks.types(x, min(chunk, n)), ts)
    return _estimated(path, apply_fn, x, ts, chunk, t_batch_for(path, ts, t_batch))


def _require_statistics(path: Family, apply_fn: ApplyFn, x_types: Any, ts: Any) -> None:
    if not _roles(path, apply_fn, x_types, ts).leaves:
        raise ValueError(
            "the model has no batch-normalisation statistics: nowhere is a leaf subtracted from a "
            "value that is divided by the root of another, (h - mean) / sqrt(var + epsilon)"
        )


def estimate_along(
    path: Family, apply_fn: ApplyFn, x: Any, ts: Any, replaced: Mapping[int, jax.Array], *,
    chunk: int, t_batch: int = 1,
) -> dict[int, jax.Array]:  # fmt: skip
    """Leaf number → statistics of shape (T, …) at every t, one pass over x, `t_batch` t at once.

    Every batch of `chunk` examples has its own, and so has a last one that is not full; the mean
    counts every example once.

    **Arguments:**
    - `replaced`: leaf number → values of shape (T, …) that are not estimated
    """
    n = length(x)
    x = jax.tree.map(jnp.asarray, x)
    whole = n - n % chunk
    parts = [(whole, chunk, 0)] if whole else []
    parts += [(n - whole, n - whole, whole)] if n > whole else []
    found = []
    for size, at_a_time, first in parts:
        some = x if size == n else per_example(lambda v, i=first, k=size: v[i : i + k], x)
        static = apply_fn, at_a_time, chunks.at_once(t_batch, count(ts))
        estimate = compiled(_estimate, *static, of=jax.tree.structure(path))
        means = estimate(path, ts, dict(replaced), some)
        found.append((size / n, means))
    (weight, total), *rest = found
    if not rest:
        return total
    total = {i: weight * v for i, v in total.items()}
    for weight, means in rest:
        total = {i: v + weight * means[i] for i, v in total.items()}
    return total


def _estimate(
    apply_fn: ApplyFn, chunk: int, at_once: int | None, path: Family, ts: Any,
    replaced: dict[int, jax.Array], x: Any,
):  # fmt: skip
    """The means over the chunks of x, all of them full."""
    types = type_at(path, ts)
    model = Model.of(apply_fn, types, chunks.types(x, chunk))
    found = normalisations_of(model, types).found
    normalised = Normalisations(tuple(n for n in found if n.mean.leaf not in replaced))
    shared = shared_part(path, model, {*normalised.leaves, *replaced}, first_of(ts))
    leaves = jax.tree.leaves(types)

    def one_chunk(total, i):
        cx = chunks.take(x, i * chunk, chunk)
        values = shared.values(cx)

        def at(argument):
            t, given = argument
            params = replace_leaves(path.at(t), given)
            return batch_statistics(model, params, cx, shared.at(t, values), normalised)

        found = jax.lax.map(at, (ts, replaced), batch_size=at_once)
        return jax.tree.map(jnp.add, total, found), None

    n_chunks = length(x) // chunk
    zero = {i: jnp.zeros((count(ts), *leaves[i].shape), jnp.float32) for i in normalised.leaves}
    total, _ = jax.lax.scan(one_chunk, zero, jnp.arange(n_chunks))
    return jax.tree.map(lambda v: v / n_chunks, total)
