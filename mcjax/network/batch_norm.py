"""A program normalised by the statistics of the batch that it is given, and those statistics.

In evaluation mode a model computes (h − mean) / √(var + ε), in one algebra or another; where, is
found by role (`normalisation.py`). There mean and variance of h over the batch can take the place
of the leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._compiled import remembered
from .._inputs import unmark
from .._static import pack, unpack
from .._tree import named_leaves
from .._types import ApplyFn, Params
from .model import Model
from .normalisation import Normalisation, Normalisations, Statistic, normalisations
from .program import Constant, Equation, Operand, Program, environment, scan_counts


def normalisations_of(model: Model, params: Params) -> Normalisations:
    """The normalisations of a model, of parameters or their types.

    **Raises:** `ValueError` if statistics are found that cannot be estimated.
    """
    found = normalisations(model.program, model.n_leaves)
    return found.check([n for n, _ in named_leaves(params)]) if found.refused else found


@dataclasses.dataclass(frozen=True, eq=False)
class StatisticLeaves:
    """Which leaves of a model are stored statistics.

    - `leaves`: their numbers
    - `of_inputs`: (mean, variance) of normalisers of the raw inputs: nothing before them reads a
      parameter
    - `refused`: leaf → why it cannot be estimated
    """

    leaves: frozenset[int]
    of_inputs: frozenset[tuple[int, int]]
    refused: Mapping[int, str]


def statistic_leaves(apply_fn: ApplyFn, params: Params, x: Any) -> StatisticLeaves:
    """The statistics of a model, for parameters and inputs or their types."""
    (leaves, treedef), (inputs, x_treedef) = jax.tree.flatten(params), jax.tree.flatten(x)
    types = [tuple((v.shape, v.dtype) for v in some) for some in (leaves, inputs)]
    return remembered(_statistic_leaves, apply_fn, treedef, x_treedef, *map(tuple, types))


def _statistic_leaves(apply_fn: ApplyFn, treedef, x_treedef, types, x_types) -> StatisticLeaves:
    params, x = (
        jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*v) for v in some])
        for tree, some in ((treedef, types), (x_treedef, x_types))
    )
    model = Model.of(apply_fn, params, x)
    found = normalisations(model.program, model.n_leaves)
    return StatisticLeaves(found.leaves, _of_inputs(model, found), found.refused)


def _of_inputs(model: Model, found: Normalisations) -> frozenset[tuple[int, int]]:
    """(mean, variance) of the normalisations whose input comes from data alone."""
    moved = set(model.program.inputs[: model.n_leaves])
    for equation in model.program.equations:
        if moved.intersection(o for o in equation.inputs if isinstance(o, int)):
            moved.update(equation.outputs)
    raw = {(n.mean.leaf, n.variance.leaf): [] for n in found.found}
    for n in found.found:
        raw[n.mean.leaf, n.variance.leaf].append(not n.loops and n.input not in moved)
    return frozenset(pair for pair, each in raw.items() if all(each))


def statistics_of(apply_fn: ApplyFn, params: Params, x: Any) -> frozenset[int]:
    """Numbers of the leaves that are statistics, for parameters and inputs or their types.

    **Raises:** `ValueError` if some of them cannot be estimated.
    """
    found = statistic_leaves(apply_fn, params, x)
    Normalisations(refused=found.refused).check([n for n, _ in named_leaves(params)])
    return found.leaves


def without(leaves: Collection[int], params: Params) -> list[Any]:
    """The leaves of parameters but those of these numbers."""
    return [v for i, v in enumerate(jax.tree.leaves(params)) if i not in leaves]


def in_training_mode(apply_fn: ApplyFn) -> ApplyFn:
    """The model with batch normalisation by the statistics of the batch it is given.

    (A model without such statistics stays as it is.)
    """

    def apply(params: Params, x: Any) -> Any:
        params = pack(params)
        if not statistics_of(apply_fn, params, x):
            return apply_fn(unpack(params), unmark(x))
        model = Model.of(apply_fn, params, x, keep_custom=True)
        return training_outputs(model, params, x, {}, normalisations_of(model, params))

    return apply


def training_outputs(
    model: Model, params: Params, x: Any, given: dict[int, Any], normalised: Normalisations
) -> Any:
    """The outputs on one batch, normalised by its own statistics."""
    run = OnDemand.of(model, params, x, given, normalised)
    run.estimate()
    return jax.tree.unflatten(model.out_tree, [run.value(o) for o in model.program.outputs])


def batch_statistics(
    model: Model, params: Params, x: Any, given: dict[int, Any], normalised: Normalisations
) -> dict[int, jax.Array]:
    """Statistics of one batch: leaf number → statistic, averaged where they serve several times."""
    run = OnDemand.of(model, params, x, given, normalised)
    run.estimate()
    return run.found


class OnDemand:
    """A program evaluated on demand, each layer normalised by the statistics of its input.

    - `env`: value → array, what is known
    - `normalised`: the normalisations in this program and the loops in it
    - `replace`: value → function of it; what it returns takes the value's place
    """

    def __init__(
        self,
        program: Program,
        env: Mapping[int, Any],
        normalised: Sequence[Normalisation],
        replace: Mapping[int, Callable[[jax.Array], jax.Array]] | None = None,
        depth: int = 0,
    ) -> None:
        self.program, self.env, self.depth = program, dict(env), depth
        self.replace = replace or {}
        self.producers = {o: e for e in program.equations for o in e.outputs}
        self.here = {n.output: n for n in normalised if len(n.loops) == depth}
        self.loops: dict[int, list[Normalisation]] = {}
        for n in normalised:
            if len(n.loops) > depth:
                self.loops.setdefault(n.loops[depth], []).append(n)
        self.seen: dict[int, list[jax.Array]] = {}

    @classmethod
    def of(
        cls,
        model: Model,
        params: Params,
        x: Any,
        given: Mapping[int, Any],
        normalised: Normalisations,
        replace: Mapping[int, Callable[[jax.Array], jax.Array]] | None = None,
    ) -> OnDemand:
        leaves = [*jax.tree.leaves(params), *jax.tree.leaves(x)]
        env = environment(model.program, leaves) | dict(given)
        return cls(model.program, env, normalised.found, replace)

    @property
    def found(self) -> dict[int, jax.Array]:
        """Leaf number → statistic; the mean over all that it was in one pass."""
        return {i: sum(v[1:], v[0]) / len(v) for i, v in self.seen.items()}

    def estimate(self) -> None:
        """All statistics; in order, so that the recursion of a deep network stays shallow."""
        for equation in self.program.equations:
            if equation.index in self.loops or self.here.keys() & set(equation.outputs):
                self.value(equation.outputs[0])

    def value(self, operand: Operand) -> Any:
        if isinstance(operand, Constant):
            return operand.value
        if operand not in self.env:
            equation = self.producers[operand]
            if operand in self.here:
                results = [self._normalise(self.here[operand])]
            elif equation.index in self.loops:
                results = self._scan(equation)
            else:
                results = equation.bind([self.value(o) for o in equation.inputs])
            for output, result in zip(equation.outputs, results, strict=True):
                change = self.replace.get(output)
                self.env[output] = result if change is None else change(result)
        return self.env[operand]

    def _normalise(self, n: Normalisation) -> jax.Array:
        """The output of a normalisation by the statistics of its input."""
        h = self.value(n.input)
        wide = h.astype(jnp.float32)
        local = {n.input: h}
        for role, moment in ((n.mean, jnp.mean), (n.variance, jnp.var)):
            old = self.env[role.value]
            new = jnp.transpose(moment(wide, n.axes), _ranks(role.axes)).reshape(old.shape)
            new = new / self._scale(role)
            self.seen.setdefault(role.leaf, []).append(new)
            local[role.value] = new.astype(old.dtype)
        for equation in n.inside:
            inputs = [
                self.value(o) if isinstance(o, Constant) or o not in local else local[o]
                for o in equation.inputs
            ]
            local.update(zip(equation.outputs, equation.bind(inputs), strict=True))
        return local[n.output]

    def _scale(self, role: Statistic) -> Any:
        scale, powers = role.scale
        for value, power in powers:
            scale = scale * jnp.reshape(self.value(value), ()).astype(jnp.float32) ** power
        return scale

    def _scan(self, equation: Equation) -> list[Any]:
        """A loop with normalisations in its body."""
        body, inner = equation.bodies[0], self.loops[equation.index]
        arguments = [self.value(o) for o in equation.inputs]
        n_const, n_carry = scan_counts(self.program, equation)
        constants, rest = arguments[:n_const], arguments[n_const:]

        def step(carry, x):
            env = dict(zip(body.inputs, [*constants, *carry, *x], strict=True))
            run = OnDemand(body, env, inner, None, self.depth + 1)
            run.estimate()
            outputs = [run.value(o) for o in body.outputs]
            return outputs[:n_carry], (outputs[n_carry:], run.found)

        options = {k: equation.params[k] for k in ("length", "reverse", "unroll")}
        carry, (ys, found) = jax.lax.scan(step, rest[:n_carry], rest[n_carry:], **options)
        stacked = {s.leaf: s.stacked[self.depth] for n in inner for s in (n.mean, n.variance)}
        for leaf, values in found.items():
            self.seen.setdefault(leaf, []).append(values if stacked[leaf] else jnp.mean(values, 0))
        return [*carry, *ys]


def _ranks(axes: Sequence[int]) -> list[int]:
    """Where each axis of the leaf lies among those of the input that were kept."""
    return [int(i) for i in sorted(range(len(axes)), key=axes.__getitem__)]
