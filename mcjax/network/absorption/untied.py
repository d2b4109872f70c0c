"""A model in which some of the layers that share a weight have one of their own.

Its parameters are `{"params": those of the model, "untied": {name: the weight}}`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ..._types import ApplyFn, Params
from ..layers import Contraction, contractions
from ..model import Model
from ..program import Equation, Program, run
from ..sides import Origins, weight_position


@dataclasses.dataclass(frozen=True)
class Use:
    """One of the layers with a weight.

    - `name`: of its own weight
    - `weight`: number of the leaf
    - `number`: which of the layers with this leaf, in the order of the program
    """

    name: str
    weight: int
    number: int


@dataclasses.dataclass(frozen=True)
class Untied:
    """`apply_fn` with weights of their own for some uses of a leaf."""

    apply_fn: ApplyFn
    uses: tuple[Use, ...]

    def __call__(self, params: Params, x: Any) -> Any:
        model = Model.of(self.apply_fn, params["params"], x, keep_custom=True)
        program = model.program
        for use in self.uses:
            program = _with_own(program, use, model.n_leaves)
        own = [params["untied"][use.name] for use in self.uses]
        leaves = [*jax.tree.leaves((params["params"], x)), *own]
        return jax.tree.unflatten(model.out_tree, run(program, leaves)[0])

    def params(self, params: Any, leaves: Sequence[Any]) -> Any:
        """The (packed) parameters of this model that compute the same."""
        return {"params": params, "untied": {use.name: leaves[use.weight] for use in self.uses}}


def uses_of(layers: Mapping[int, Contraction], names: Sequence[str], tied: set[int]) -> list[Use]:
    """The uses of weights by some layers, which are named by the indices of their equations."""
    found: list[Use] = []
    for index, layer in layers.items():
        same = [i for i, other in layers.items() if other.weight == layer.weight]
        if index in tied:
            before = sum(use.weight == layer.weight for use in found)
            name = names[layer.weight].replace("/", ".") + (f":{before}" if before else "")
            found.append(Use(name, layer.weight, same.index(index)))
    return found


def _with_own(program: Program, use: Use, n_leaves: int) -> Program:
    """The program with one input more, which takes the place of a leaf in one layer."""
    leaf = program.inputs[use.weight]
    found = contractions(program, {v: i for i, v in enumerate(program.inputs[:n_leaves])})
    layer = [c for c in found if c.weight == use.weight][use.number]
    position = weight_position(layer)
    views, operand, origins = [], layer.equation.inputs[position], Origins(program)
    while operand != leaf:
        views.append(origins.producers[operand])  # type: ignore[index]
        operand = views[-1].inputs[0]
    avals, fresh = dict(program.avals), max(program.avals) + 1
    avals[fresh] = avals[leaf]
    value, made = fresh, list[Equation]()
    for equation in reversed(views):
        shown = value + 1
        avals[shown] = avals[equation.outputs[0]]
        made.append(dataclasses.replace(equation, inputs=(value,), outputs=(shown,)))
        value = shown
    inputs = list(layer.equation.inputs)
    inputs[position] = value
    made.append(dataclasses.replace(layer.equation, inputs=tuple(inputs)))
    equations: list[Equation] = []
    for equation in program.equations:
        equations += made if equation is layer.equation else [equation]
    return Program((*program.inputs, fresh), program.outputs, tuple(equations), avals)


__all__ = ["Untied", "Use", "uses_of"]
