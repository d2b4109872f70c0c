"""Where a program normalises by batch statistics, and what they are on a batch.

In evaluation mode a model computes (h − mean) · rsqrt(var + ε). Wherever a leaf `mean` is
subtracted from h, the mean and the variance of h over a batch can take the place of the leaves.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._tree import named_leaves
from .._types import ApplyFn, Params
from .layers import VIEWS
from .model import Model, replace_leaves
from .program import Equation, Program

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


def in_training_mode(apply_fn: ApplyFn) -> ApplyFn:
    """The model with batch normalisation by the statistics of the batch it is given.

    (A model without such statistics stays as it is.)
    """

    def apply(params: Params, x: Any) -> Any:
        pairs = statistics_pairs(params)
        if not pairs:
            return apply_fn(params, x)
        model = Model.of(apply_fn, params, x)
        names = [name for name, _ in named_leaves(params)]
        normalised = normalised_values(model.program, pairs, names)
        statistics = batch_statistics(model, params, x, {}, normalised)
        return apply_fn(replace_leaves(params, statistics), x)

    return apply


def batch_statistics(
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


def normalised_values(
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
