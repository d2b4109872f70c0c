"""Models that were traced in training mode, and arguments in the wrong order: said."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jax

from .._inputs import per_example, type_of, unmark
from .._static import is_array, unpack
from .program import Constant, Program

_DRAWS = {"random_bits", "threefry2x32"}


def warn_of_draws(program: Program) -> None:
    """A warning where random numbers are drawn with a key that does not come with the arguments."""
    given = set(program.inputs)
    drawn = 0
    for equation in program.equations:
        if given.intersection(o for o in equation.inputs if not isinstance(o, Constant)):
            given.update(equation.outputs)
        else:
            drawn += equation.name in _DRAWS
    if drawn:
        warnings.warn(
            f"apply_fn draws random numbers ({drawn} times) with a key that it holds itself: the "
            "same at every call. Is it in training mode? Turn dropout off (train=False, "
            "deterministic=True, eqx.nn.inference_mode), or pass the key with x",
            stacklevel=4,
        )


def warn_of_state(program: Program, names: Sequence[str], n_groups: int) -> None:
    """A warning where no group was found and outputs are of the shapes of parameters."""
    leaves = {program.shape(v): n for v, n in zip(program.inputs, names, strict=False)}
    inputs = program.inputs[len(names) :]
    batch = {program.shape(v)[0] for v in inputs if program.shape(v)}
    like = [
        leaves[shape]
        for shape in map(program.shape, program.outputs)
        if shape and shape in leaves and shape[0] not in batch
    ]
    if n_groups == 0 and 0 < len(like) < len(program.outputs):
        shown = ", ".join(map(repr, like[:3]))
        warnings.warn(
            f"no unit group: apply_fn returns {len(like)} arrays of the shapes of parameters "
            f"({shown}), and what is returned cannot be permuted. If these are updated statistics, "
            "use evaluation mode and return the outputs alone",
            stacklevel=4,
        )


def note_on(error: Exception, apply_fn: Any, params: Any, x: Any) -> None:
    """A note on an error where the function works with the two arguments in the other order, or
    on a single example."""

    def runs(p: Any, v: Any) -> bool:
        try:
            jax.eval_shape(lambda p, v: apply_fn(unpack(p), unmark(v)), p, v)
        except Exception:  # anything may go wrong in a user's function
            return False
        return True

    if runs(x, unpack(params)):
        error.add_note(
            "apply_fn works with the two swapped: the order is mcjax.trace(apply_fn, params, x)"
        )
    elif _arrays(x) and not runs(params, x) and runs(params, _single(x)):
        error.add_note(
            "apply_fn works on a single example, and mcjax hands it a batch, examples on axis 0: "
            "trace jax.vmap(apply_fn, in_axes=(None, 0))"
        )


def _arrays(x: Any) -> bool:
    return all(is_array(v) for v in jax.tree.leaves(unmark(x)))


def _single(x: Any) -> Any:
    """The types of one example, without its batch axis."""

    def first(v: Any) -> Any:
        return jax.ShapeDtypeStruct(v.shape[1:], v.dtype)

    return per_example(first, jax.tree.map(type_of, x))
