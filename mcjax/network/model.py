"""A model as a program for parameters and inputs of given shapes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from .._static import pack
from .._types import ApplyFn, Params
from .program import Program, run, trace_program


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """`apply_fn` as a program, for (packed) parameters and inputs of given shapes."""

    program: Program
    out_tree: Any
    treedef: Any
    n_leaves: int

    @classmethod
    def of(cls, apply_fn: ApplyFn, params: Params, x: Any, *, keep_custom: bool = False) -> Model:
        leaves, treedef = jax.tree.flatten(pack(params))
        types = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in leaves]
        program, out_tree = trace_program(apply_fn, treedef, types, x, keep_custom)
        return cls(program, out_tree, treedef, len(leaves))

    def outputs(self, params: Params, x: Any, given: dict[int, Any]) -> Any:
        inputs = [*jax.tree.leaves(params), *jax.tree.leaves(x)]
        return jax.tree.unflatten(self.out_tree, run(self.program, inputs, given=given)[0])


def replace_leaves(params: Params, leaves: dict[int, Any]) -> Params:
    """The parameters with some leaves (by number) replaced."""
    if not leaves:
        return params
    values, treedef = jax.tree.flatten(params)
    for i, value in leaves.items():
        values[i] = value.astype(values[i].dtype)
    return jax.tree.unflatten(treedef, values)
