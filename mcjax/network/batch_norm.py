"""Where a program normalises by batch statistics, and what they are on a batch.

In evaluation mode a model computes (h − mean) · rsqrt(var + ε). Wherever a leaf `mean` is
subtracted from h, the mean and the variance of h over a batch can take the place of the leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._tree import named_leaves
from .._types import ApplyFn, Params
from .layers import VIEWS
from .model import Model
from .program import Constant, Equation, Operand, Program

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


def without_statistics(params: Params) -> list[Any]:
    """The leaves of parameters that are no statistics."""
    statistics = {i for pair in statistics_pairs(params) for i in pair}
    return [v for i, v in enumerate(jax.tree.leaves(params)) if i not in statistics]


def in_training_mode(apply_fn: ApplyFn) -> ApplyFn:
    """The model with batch normalisation by the statistics of the batch it is given.

    (A model without such statistics stays as it is.)
    """

    def apply(params: Params, x: Any) -> Any:
        pairs = statistics_pairs(params)
        if not pairs:
            return apply_fn(params, x)
        model = Model.of(apply_fn, params, x, keep_custom=True)
        return training_outputs(model, params, x, {}, normalised_values(model.program, params))

    return apply


def training_outputs(
    model: Model, params: Params, x: Any, given: dict[int, Any], normalised: Normalised
) -> Any:
    """The outputs on one batch, normalised by its own statistics."""
    run = OnDemand(model, params, x, given, normalised)
    run.estimate()
    return jax.tree.unflatten(model.out_tree, [run.value(o) for o in model.program.outputs])


def batch_statistics(
    model: Model, params: Params, x: Any, given: dict[int, Any], normalised: Normalised
) -> dict[int, jax.Array]:
    """Statistics of one batch: leaf number → statistic."""
    run = OnDemand(model, params, x, given, normalised)
    run.estimate()
    return run.found


class OnDemand:
    """A program evaluated on demand, each layer normalised by the statistics of its input.

    - `replace`: value → function of it; what it returns takes the value's place
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        x: Any,
        given: dict[int, Any],
        normalised: Normalised,
        replace: Mapping[int, Callable[[jax.Array], jax.Array]] | None = None,
    ) -> None:
        self.replace = replace or {}
        program = self.program = model.program
        leaves = [*jax.tree.leaves(params), *jax.tree.leaves(x)]
        self.env: dict[int, Any] = dict(zip(program.inputs, leaves, strict=True)) | given
        self.pending = {
            program.inputs[leaf]: (m, v, h, axes)
            for (m, v), (h, axes) in normalised.items()
            for leaf in (m, v)
        }
        self.producers = {o: e for e in program.equations for o in e.outputs}
        self.found: dict[int, jax.Array] = {}

    def in_order(self) -> list[int]:
        """The statistics in the order of the program: each demand goes back one layer only."""
        order = {o: e.index for o, e in self.producers.items()}
        return sorted(self.pending, key=lambda v: order.get(self.pending[v][2], -1))

    def estimate(self) -> None:
        """All statistics; in order, so that the recursion of a deep network stays shallow."""
        for value in self.in_order():
            self.value(value)

    def value(self, operand: Operand) -> Any:
        if isinstance(operand, Constant):
            return operand.value
        if operand in self.pending:
            self._estimate(*self.pending[operand])
        elif operand not in self.env:
            equation = self.producers[operand]
            results = equation.bind([self.value(o) for o in equation.inputs])
            for output, result in zip(equation.outputs, results, strict=True):
                change = self.replace.get(output)
                self.env[output] = result if change is None else change(result)
        return self.env[operand]

    def _estimate(self, mean_leaf: int, var_leaf: int, h: int, axes: tuple[int, ...]) -> None:
        inputs = self.program.inputs
        del self.pending[inputs[mean_leaf]], self.pending[inputs[var_leaf]]
        array = self.value(h).astype(jnp.float32)
        mean = jnp.mean(array, axes)
        for leaf, statistic in ((mean_leaf, mean), (var_leaf, jnp.var(array, axes))):
            old = self.env[inputs[leaf]]
            self.found[leaf] = statistic.reshape(old.shape)
            self.env[inputs[leaf]] = self.found[leaf].astype(old.dtype)


def normalised_values(program: Program, params: Params) -> Normalised:
    """(mean, variance) → (h, the axes to average over), from `h − view(mean)` in the program.

    `params` are arrays or their types; without statistics among them nothing is found.
    """
    pairs = statistics_pairs(params)
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
    missing = [m for m, v in pairs if (m, v) not in found]
    if missing:
        name = named_leaves(params)[missing[0]][0]
        raise ValueError(
            f"cannot estimate the statistics of {name!r} ({len(missing)} such leaves): the "
            "model does not compute `h - mean` at the top level in evaluation mode"
        )
    return found


def _broadcast_axes(program: Program, equation: Equation) -> tuple[int, ...]:
    h, mean = equation.inputs
    shape = program.shape(mean)
    if len(shape) != len(program.shape(h)):
        raise ValueError("batch normalisation with a mean of another rank than its input")
    return tuple(d for d, n in enumerate(shape) if n == 1)
