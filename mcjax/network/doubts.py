"""Models that were traced in training mode, and arguments in the wrong order: said."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from .._inputs import per_example, type_of, unmark
from .._static import is_array, unpack
from .axes import atoms
from .coefficients import ROOTS
from .frozen import Analysis
from .groups import Layer
from .program import Constant, Equation, Program

_DRAWS = {"random_bits", "threefry2x32"}
# Why the atom of the examples is fixed.
BATCH = "batch"
INPUTS = "the inputs"
_SHOWN = 3


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
            stacklevel=5,
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
            stacklevel=5,
        )


def normalised_by_batch(analysis: Analysis, layers: Sequence[Layer]) -> list[str]:
    """What is divided by a standard deviation over the examples of the batch: names of the layers
    that compute it, `INPUTS` where none does."""
    equations = list(analysis.program.all_equations())
    if not any(e.name in ROOTS for e in equations):
        return []
    origin: dict[int, Any] = {}  # a statistic of the batch → what it was taken of
    roots: set[int] = set()  # those behind a square root
    found: dict[Any, None] = {}
    for equation in equations:
        read = [o for o in equation.inputs if isinstance(o, int) and o in origin]
        if _over_batch(analysis, equation):
            origin.update(dict.fromkeys(equation.outputs, equation.inputs[0]))
        elif read and not any(_holds_batch(analysis, v) for v in equation.outputs):
            origin.update(dict.fromkeys(equation.outputs, origin[read[-1]]))
            if equation.name in ROOTS or roots.intersection(read):
                roots.update(equation.outputs)
        elif equation.name in ("mul", "div"):
            found.update({origin[v]: None for v in read if v in roots})
    writers = {layer.contraction.output: layer.name for layer in layers}
    made = {v: e for e in equations for v in e.outputs}
    made |= {v: e for e in equations for body in e.bodies for v in body.inputs}  # from outside
    return list(dict.fromkeys(_writer(v, made, writers) for v in found))


def _holds_batch(analysis: Analysis, value: int, axes: Sequence[int] | None = None) -> bool:
    exprs = analysis.of(value)
    chosen = range(len(exprs)) if axes is None else axes
    return any(a.why == BATCH for d in chosen for a in atoms(exprs[d]))


def _over_batch(analysis: Analysis, equation: Equation) -> bool:
    """Whether an equation sums over the examples."""
    if equation.name != "reduce_sum" or not isinstance(equation.inputs[0], int):
        return False
    return _holds_batch(analysis, equation.inputs[0], equation.params["axes"])


def _writer(value: Any, made: Mapping[int, Equation], writers: Mapping[int, str]) -> str:
    """The last layer that a value comes from."""
    pending, seen = [value], set[int]()
    last: dict[int, str] = {}
    while pending:
        v = pending.pop()
        if v in writers:
            last[v] = writers[v]
        elif isinstance(v, int) and v not in seen:
            seen.add(v)
            pending += made[v].inputs if v in made else ()
    return last[max(last)] if last else INPUTS


def say_of_batch(names: Sequence[str]) -> Iterator[str]:
    """A sentence for a network that normalises by statistics of the batch."""
    if names:
        shown = ", ".join(n if n is INPUTS else repr(n) for n in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield (
            f"normalised by the batch's own mean and variance after {shown}{more}: outputs of an "
            "example depend on the other examples. Is it in training mode? Trace the function of "
            "evaluation mode (use_running_average=True, training=False, eqx.nn.inference_mode), "
            "running statistics among the parameters; statistics=inputs then estimates them"
        )


def warn_of_batch(names: Sequence[str]) -> None:
    """A warning where a model normalises by statistics of the batch."""
    for sentence in say_of_batch(names):
        warnings.warn(f"apply_fn is {sentence}", stacklevel=5)


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
