"""Batch-normalisation statistics of networks that have none of their own: points on a path.

In evaluation mode a model computes (h − mean) · rsqrt(var + ε); the statistics of h in a network
on a path are neither end point's. They are estimated from the model's own program: wherever a
leaf `mean` is subtracted from h, mean and variance of h over the batch take the place of the two
leaves, layer after layer in one pass, and are averaged over the batches (tatro2020, App. F).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import _check
from .._tree import named_leaves
from .._types import ApplyFn, Params
from ..network.layers import VIEWS
from ..network.program import Equation, Program
from ..path import Path
from .sweep import Model, _chunk_starts, _chunk_types, _slice, replace_leaves, shared_part

# (mean leaf, variance leaf) → (the value that is normalised, the axes of its batch)
Normalised = dict[tuple[int, int], tuple[int, tuple[int, ...]]]

_MEANS = {"mean": "var", "running_mean": "running_var", "moving_mean": "moving_variance"}


def statistics_pairs(params: Params) -> list[tuple[int, int]]:
    """(mean, variance) leaf numbers: leaves so named side by side."""
    names = [n.split("/") for n, _ in named_leaves(params)]
    index = {tuple(n): i for i, n in enumerate(names)}
    pairs = []
    for i, name in enumerate(names):
        ends = [k for k in range(len(name)) if name[k] in _MEANS]
        if ends:
            k = ends[-1]
            partner = (*name[:k], _MEANS[name[k]], *name[k + 1 :])
            if partner in index:
                pairs.append((i, index[partner]))
    return pairs


def estimate_batch_norm(apply_fn: ApplyFn, params: Params, x: Any, *, chunk: int = 500) -> Params:
    """The parameters with batch-normalisation statistics estimated from x.

    Each batch of `chunk` examples is normalised by its own statistics; mean and (biased) variance
    are averaged over the batches, as PyTorch's `update_bn` does with momentum None.

    **Arguments:**
    - `apply_fn`: the model in evaluation mode
    - `x`: inputs batched on axis 0; a last batch that is not full is dropped

    **Returns:** parameters in which only the statistics differ.

    **Raises:** `ValueError` if no statistics are found in `params`, or the model does not
    subtract the mean in a way that can be recognised.

        >>> import jax.numpy as jnp
        >>> from mcjax.evaluation import estimate_batch_norm
        >>> f = lambda p, x: (x - p["mean"]) / jnp.sqrt(p["var"] + 1e-5) * p["scale"]
        >>> params = {"mean": jnp.zeros(1), "var": jnp.ones(1), "scale": jnp.ones(1)}
        >>> found = estimate_batch_norm(f, params, jnp.array([[1.0], [3.0]]))
        >>> found["mean"].tolist(), found["var"].tolist()
        ([2.0], [1.0])
    """
    if not statistics_pairs(params):
        raise ValueError("params hold no batch-normalisation statistics (leaves mean and var)")
    found = estimate_along(_Constant(params), apply_fn, x, jnp.zeros(1), chunk=chunk)
    return replace_leaves(params, {i: v[0] for i, v in found.items()})


class _Constant(Path):
    fields = ("params",)

    def __init__(self, params: Params) -> None:
        self._set(params=params)

    def at(self, t: Any) -> Params:
        return self.params  # type: ignore[attr-defined]


def estimate_along(
    path: Path, apply_fn: ApplyFn, x: Any, ts: jax.Array, *, chunk: int
) -> dict[int, jax.Array]:
    """Leaf number → statistics of shape (T, …) at every t."""
    n = _check.batched(x, "statistics")
    x = jax.tree.map(jnp.asarray, x)
    return _estimate(apply_fn, min(chunk, n), path, ts, x)


@partial(jax.jit, static_argnames=("apply_fn", "chunk"))
def _estimate(apply_fn: ApplyFn, chunk: int, path: Path, ts: jax.Array, x: Any):
    n = len(jax.tree.leaves(x)[0])
    types = jax.eval_shape(path.at, ts[0])
    model = Model.of(apply_fn, types, _chunk_types(x, chunk))
    pairs = statistics_pairs(types)
    shared = shared_part(path, model, {i: None for pair in pairs for i in pair})
    normalised = _normalised_values(model.program, pairs, [n for n, _ in named_leaves(types)])
    start_of = _chunk_starts(n, chunk)
    leaves = jax.tree.leaves(types)

    def one_chunk(total, i):
        cx = _slice(x, start_of(i)[0], chunk)
        values = shared.values(cx)

        def at(t):
            params = path.at(t)
            return _batch_statistics(model, params, cx, shared.given(t, values), normalised)

        return jax.tree.map(jnp.add, total, jax.lax.map(at, ts)), None

    n_chunks = n // chunk
    zero = {
        i: jnp.zeros((*ts.shape, *leaves[i].shape), jnp.float32) for pair in pairs for i in pair
    }
    total, _ = jax.lax.scan(one_chunk, zero, jnp.arange(n_chunks))
    return jax.tree.map(lambda v: v / n_chunks, total)


def _batch_statistics(
    model: Model, params: Params, x: Any, given: dict[int, Any], normalised: Normalised
) -> dict[int, jax.Array]:
    """Statistics of one batch: evaluate on demand, each layer by the statistics of its input."""
    program = model.program
    env: dict[int, Any] = dict(
        zip(program.inputs, [*jax.tree.leaves(params), *jax.tree.leaves(x)], strict=True)
    )
    env.update(given)
    pending = {program.inputs[m]: (m, v, h, axes) for (m, v), (h, axes) in normalised.items()}
    pending |= {program.inputs[v]: pending[program.inputs[m]] for m, v in normalised}
    producers = {o: e for e in program.equations for o in e.outputs}
    found: dict[int, jax.Array] = {}

    def value(operand):
        if not isinstance(operand, int):
            return operand.value
        if operand in pending:
            mean_leaf, var_leaf, h, axes = pending[operand]
            del pending[program.inputs[mean_leaf]], pending[program.inputs[var_leaf]]
            array = value(h).astype(jnp.float32)
            mean, var = jnp.mean(array, axes), jnp.var(array, axes)
            for leaf, statistic in ((mean_leaf, mean), (var_leaf, var)):
                old = env[program.inputs[leaf]]
                found[leaf] = statistic.reshape(old.shape)
                env[program.inputs[leaf]] = found[leaf].astype(old.dtype)
        elif operand not in env:
            equation = producers[operand]
            arguments = [value(o) for o in equation.inputs]
            results = equation.primitive.bind(*arguments, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
            env.update(zip(equation.outputs, results, strict=True))
        return env[operand]

    order = {o: e.index for e in program.equations for o in e.outputs}
    # In the order of the program, so that each demand goes back one layer only.
    for leaf_value in sorted(pending, key=lambda v: order.get(pending[v][2], -1)):
        value(leaf_value)
    return found


def _normalised_values(
    program: Program, pairs: list[tuple[int, int]], names: list[str]
) -> Normalised:
    """(mean, variance) → (h, the axes to average over), from `h − view(mean)` in the program."""
    source = {v: i for i, v in enumerate(program.inputs)}
    wanted = dict(pairs)
    found = {}
    for equation in program.equations:
        first = equation.inputs[0] if equation.inputs else None
        if equation.name in VIEWS and first in source:
            source.update(dict.fromkeys(equation.outputs, source[first]))  # type: ignore[index]
        if equation.name == "sub":
            h, mean = equation.inputs
            leaf = source.get(mean)  # type: ignore[arg-type]
            if leaf in wanted and isinstance(h, int):
                axes = _broadcast_axes(program, equation)
                found[leaf, wanted[leaf]] = (h, axes)
    missing = [names[m] for m, v in pairs if (m, v) not in found]
    if missing:
        raise ValueError(
            f"cannot estimate the statistics of {missing[0]!r} ({len(missing)} such leaves): the "
            "model does not compute `h - mean` at the top level in evaluation mode"
        )
    return found


def _broadcast_axes(program: Program, equation: Equation) -> tuple[int, ...]:
    h, mean = equation.inputs
    shape = program.shape(mean)
    if len(shape) != len(program.shape(h)):
        raise ValueError("batch normalisation with a mean of another rank than its input")
    return tuple(d for d, n in enumerate(shape) if n == 1)
