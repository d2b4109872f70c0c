"""Batch-normalisation statistics estimated from inputs.

A model's own program says by role which leaves they are (`mcjax/network/normalisation.py`): mean
and variance of a layer's input over a batch take the place of the two leaves, layer after layer in
one pass, and are averaged over the batches (tatro2020, App. F).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .. import _check, _check_model
from .._compiled import compiled
from .._inputs import length, per_example
from .._static import unpack
from .._stream import Inputs
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
from ..path import Family, Point
from ..path._base import count, first_of, type_at
from ..path.sharing import shared_part


def estimate_batch_norm(
    model: ApplyFn | Network, params: Params, x: Any, *, chunk: int = 500
) -> Params:
    """The parameters with batch-normalisation statistics estimated from x.

    Each batch of `chunk` examples is normalised by its own statistics; mean and (biased) variance
    are averaged over the batches, as PyTorch's `update_bn` does with momentum None (a last batch
    that is not full counts by its size), and over the uses of statistics that serve several times.
    A frozen normaliser of x itself, (x − mean) / √(var + ε), cannot be told from batch
    normalisation in one network and is estimated too.

    **Arguments:**
    - `model`: the model in evaluation mode, a function or a `Network`
    - `x`: inputs batched on axis 0 (memory maps too, which no device holds whole), or an iterable
      of batches of them of any lengths (no list, which is a tree)

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
    apply_fn = _check_model.apply_fn_of(model)
    packed = _check.parameters(params, "params")
    point, here = Point(packed), jnp.zeros(1)
    inputs = inputs_of(model, x, chunk)
    require_statistics(point, apply_fn, types_of(inputs), here)
    found = estimate_along(point, apply_fn, inputs, here, {})
    return unpack(replace_leaves(packed, {i: v[0] for i, v in found.items()}))


def inputs_of(model: ApplyFn | Network, x: Any, chunk: int, name: str = "x") -> Inputs:
    """What statistics are estimated from, with the marks that a network knows."""
    mark = model.inputs if isinstance(model, Network) else lambda x: x
    return Inputs(x, _check.positive(chunk, "chunk"), mark=mark, name=name)


def types_of(x: Inputs) -> Any:
    """The types of a chunk of inputs."""
    first = x.first()
    return chunks.types(first, min(x.chunk, length(first)))


def roles_of(family: Family, model: ApplyFn | Network, x: Any, coordinates: Any) -> StatisticLeaves:
    """Which leaves are statistics; `x`: a chunk of inputs, or their types."""
    apply_fn = model.function if isinstance(model, Network) else model
    params = type_at(family, coordinates)
    x = jax.eval_shape(lambda x: x, x)  # types as JAX has them
    return statistic_leaves(apply_fn, params, x)


def require_statistics(family: Family, model: ApplyFn | Network, x: Any, coordinates: Any) -> None:
    """Raise unless the model has statistics."""
    if not roles_of(family, model, x, coordinates).leaves:
        raise ValueError(
            "the model has no batch-normalisation statistics: nowhere is a leaf subtracted from a "
            "value that is divided by the root of another, (h - mean) / sqrt(var + epsilon)"
        )


def estimate_along(
    family: Family, apply_fn: ApplyFn, x: Inputs, coordinates: Any, given: Mapping[int, jax.Array],
    *, t_batch: int = 1,
) -> dict[int, jax.Array]:  # fmt: skip
    """Leaf number → statistics of shape (T, …), one pass over x, `t_batch` points at once.

    Every batch of `x.chunk` examples has its own, and so has a last one that is not full; the mean
    counts every example once.

    **Arguments:**
    - `coordinates`: of T points
    - `given`: leaf number → values of shape (T, …) that are not estimated
    """
    at_once, done = chunks.at_once(t_batch, count(coordinates)), 0
    mean: dict[int, jax.Array] = {}
    for some, size in in_batches(x):
        step = compiled(_estimate, apply_fn, size, at_once, of=jax.tree.structure(family))
        new = step(family, coordinates, dict(given), jax.tree.map(jnp.asarray, some))
        done += length(some)
        mean = running_mean(mean, new, length(some) / done) if mean else new
    return mean


def running_mean(mean: Any, new: Any, share: float) -> Any:
    """The mean of what was seen and of what is new, which is this share of all."""
    return jax.tree.map(lambda m, v: m + share * (v - m), mean, new)


def in_batches(x: Inputs) -> Iterator[tuple[Any, int]]:
    """(Examples, how many of them are a batch): full batches, and what is left as one."""
    for block in x.blocks():
        n = length(block)
        whole = n - n % x.chunk
        if whole:
            yield block if whole == n else per_example(lambda v, k=whole: v[:k], block), x.chunk
        if whole < n:
            yield block if not whole else per_example(lambda v, k=whole: v[k:], block), n - whole


def _estimate(
    apply_fn: ApplyFn, chunk: int, at_once: int | None, family: Family, coordinates: Any,
    given: dict[int, jax.Array], x: Any,
):  # fmt: skip
    """The means over the chunks of x, all of them full."""
    types = type_at(family, coordinates)
    model = Model.of(apply_fn, types, chunks.types(x, chunk))
    found = normalisations_of(model, types).found
    normalised = Normalisations(tuple(n for n in found if n.mean.leaf not in given))
    shared = shared_part(family, model, {*normalised.leaves, *given}, first_of(coordinates))
    leaves = jax.tree.leaves(types)

    def one_chunk(total, i):
        cx = chunks.take(x, i * chunk, chunk)
        values = shared.values(cx)

        def at(argument):
            c, replaced = argument
            params = replace_leaves(family.at(c), replaced)
            return batch_statistics(model, params, cx, shared.at(c, values), normalised)

        found = jax.lax.map(at, (coordinates, given), batch_size=at_once)
        return jax.tree.map(jnp.add, total, found), None

    n_chunks, points = length(x) // chunk, count(coordinates)
    zero = {i: jnp.zeros((points, *leaves[i].shape), jnp.float32) for i in normalised.leaves}
    total, _ = jax.lax.scan(one_chunk, zero, jnp.arange(n_chunks))
    return jax.tree.map(lambda v: v / n_chunks, total)
