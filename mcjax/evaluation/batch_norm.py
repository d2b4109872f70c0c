"""Batch-normalisation statistics of networks that have none of their own: points on a path.

In evaluation mode a model computes (h − mean) / √(var + ε); the statistics of h in a network on a
path are neither end point's. They are estimated from the model's own program, which says by role
which leaves they are (`mcjax/network/normalisation.py`): mean and variance of h over the batch take
the place of the two leaves, layer after layer in one pass, and are averaged over the batches
(tatro2020, App. F).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._compiled import compiled
from .._inputs import length
from .._static import unpack
from .._types import ApplyFn, Params
from ..network import chunks
from ..network.batch_norm import batch_statistics, normalisations_of, statistics_of
from ..network.model import Model, replace_leaves
from ..path import Family, Path, Point
from ..path._base import count
from ..path.sharing import shared_part
from .pieces import pieces, t_batch_for, time_grid


def estimate_batch_norm(apply_fn: ApplyFn, params: Params, x: Any, *, chunk: int = 500) -> Params:
    """The parameters with batch-normalisation statistics estimated from x.

    Each batch of `chunk` examples is normalised by its own statistics; mean and (biased) variance
    are averaged over the batches, as PyTorch's `update_bn` does with momentum None,
    and over the uses of statistics that serve several times. A frozen normaliser of x itself,
    (x − mean) / √(var + ε), cannot be told from batch normalisation and is estimated too.

    **Arguments:**
    - `apply_fn`: the model in evaluation mode
    - `x`: inputs batched on axis 0; a last batch that is not full is dropped

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
    _require_statistics(path, apply_fn, x, chunk)
    found = estimate_along(path, apply_fn, x, jnp.zeros(1), chunk=chunk)
    return unpack(replace_leaves(packed, {i: v[0] for i, v in found.items()}))


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Batch-normalisation statistics along a path: the result of `batch_norm_along`.

    - `t`: (T,) points in [0, 1]
    - `leaves`: leaf number, as in `jax.tree.leaves` → (T, …) means or variances
    """

    t: np.ndarray
    leaves: Mapping[int, jax.Array]

    def at(self, which: np.ndarray) -> dict[int, jax.Array]:
        """Those of some of the points."""
        return {i: v[which] for i, v in self.leaves.items()}

    def check(self, ts: np.ndarray) -> None:
        """Raise unless they are those of the points `ts`."""
        if not np.array_equal(self.t, ts):
            raise ValueError(
                f"statistics: estimated at {len(self.t)} other points than the {len(ts)} of t"
            )


def batch_norm_along(
    path: Path, apply_fn: ApplyFn, x: Any, t: int | Any = 25, *, chunk: int = 500,
    t_batch: int | None = None,
) -> Statistics:  # fmt: skip
    """Batch-normalisation statistics of the networks along a path, estimated from x.

    What `mcjax.evaluate` does with `statistics=x`, once for several evaluations: on the training
    and the test set, clean and attacked.

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
    _require_statistics(path, apply_fn, x, chunk)
    ts = time_grid(t)
    at_once = t_batch_for(path, ts, t_batch)
    found: dict[int, np.ndarray] = {}
    for planned in pieces(path, ts):
        piece = planned.at_hand()
        some = estimate_along(
            piece.family, apply_fn, x, piece.coordinates, chunk=chunk, t_batch=at_once
        )
        for i, values in some.items():
            whole = found.setdefault(i, np.empty((len(ts), *values.shape[1:]), np.float32))
            whole[piece.which] = values
    return Statistics(ts, {i: jnp.asarray(v) for i, v in found.items()})


def statistics_along(
    path: Family, apply_fn: ApplyFn, x: Any, chunk: int, c: Any = 0.0
) -> frozenset[int]:
    """Numbers of the leaves that are statistics, of a family with a point at c."""
    n = _check.batched(x, "statistics")
    params, x = jax.eval_shape(lambda c, x: (path.at(c), x), c, x)  # types as JAX has them
    return statistics_of(apply_fn, params, chunks.types(x, min(chunk, n)))


def _require_statistics(path: Family, apply_fn: ApplyFn, x: Any, chunk: int) -> None:
    if not statistics_along(path, apply_fn, x, chunk):
        raise ValueError(
            "the model has no batch-normalisation statistics: nowhere is a leaf subtracted from a "
            "value that is divided by the root of another, (h - mean) / sqrt(var + epsilon)"
        )


def estimate_along(
    path: Family, apply_fn: ApplyFn, x: Any, ts: Any, *, chunk: int, t_batch: int = 1
) -> dict[int, jax.Array]:
    """Leaf number → statistics of shape (T, …) at every t, one pass over x, `t_batch` t at once."""
    n = _check.batched(x, "statistics")
    x = jax.tree.map(jnp.asarray, x)
    static = apply_fn, min(chunk, n), chunks.at_once(t_batch, count(ts))
    return compiled(_estimate, *static, of=jax.tree.structure(path))(path, ts, x)


def _estimate(apply_fn: ApplyFn, chunk: int, at_once: int | None, path: Family, ts: Any, x: Any):
    n, some = length(x), jax.tree.map(lambda v: v[0], ts)
    types = jax.eval_shape(path.at, some)
    model = Model.of(apply_fn, types, chunks.types(x, chunk))
    normalised = normalisations_of(model, types)
    shared = shared_part(path, model, normalised.leaves, some)
    start_of = chunks.starts(n, chunk)
    leaves = jax.tree.leaves(types)

    def one_chunk(total, i):
        cx = chunks.take(x, start_of(i)[0], chunk)
        values = shared.values(cx)

        def at(t):
            params = path.at(t)
            return batch_statistics(model, params, cx, shared.at(t, values), normalised)

        return jax.tree.map(jnp.add, total, jax.lax.map(at, ts, batch_size=at_once)), None

    n_chunks = n // chunk
    zero = {i: jnp.zeros((count(ts), *leaves[i].shape), jnp.float32) for i in normalised.leaves}
    total, _ = jax.lax.scan(one_chunk, zero, jnp.arange(n_chunks))
    return jax.tree.map(lambda v: v / n_chunks, total)
