"""A program run on the host in float64, whatever types it was traced with.

NumPy and SciPy compute what they have: nothing is compiled for it, and it is an implementation of
its own to check the device's program against. Other primitives are bound one by one in JAX, with
float64 operands where they take them, otherwise as they were traced: `rounded` says which.

A leaf is read, and widened, where it is first computed with, and let go after its last use: a
model in 16 bits is never held in 64. Of a stack of layers that a `scan` reads, that is one layer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._threads import one_if_small
from .host import HOST, WIDENING, is_narrow, widen, widened
from .program import Constant, Equation, Operand, Program, scan_counts

_DTYPES = ("new_dtype", "preferred_element_type", "dtype", "out_dtype")
# They only move entries: an operand of few bits stays one.
_MOVES = {
    "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "rev", "gather",
    "dynamic_slice", "split", "copy", "copy_p", "stop_gradient", "reduce_precision", "tile",
    "optimization_barrier", "convert_element_type", "unstack",
}  # fmt: skip


@contextlib.contextmanager
def on_host():
    """The user's settings do not reach what is run here: debugging of NaN, guards, promotion."""
    with contextlib.ExitStack() as stack:
        for setting in (
            jax.enable_x64(True), jax.transfer_guard("allow"), jax.debug_nans(False),
            jax.debug_infs(False), jax.disable_jit(False), jax.numpy_rank_promotion("allow"),
            np.errstate(all="ignore"),
            # Its threads spin, where others work beside them.
            one_if_small(0),
        ):  # fmt: skip
            stack.enter_context(setting)
        with contextlib.suppress(RuntimeError):  # no CPU among the backends
            stack.enter_context(jax.default_device(jax.devices("cpu")[0]))
        yield


@dataclasses.dataclass(frozen=True)
class Stack:
    """An array that is made where it is read: whole, or at an index of its first axis."""

    whole: Callable[[], Any]
    turn: Callable[[int], Any]

    def __call__(self) -> Any:
        return self.whole()


class Wide:
    """Runs programs; `rounded`: primitive → the type it was run in, where not in float64."""

    def __init__(self) -> None:
        self.rounded: dict[str, Any] = {}

    def run(self, program: Program, inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a program.

        **Arguments:**
        - `inputs`: one array per `program.inputs`, a function that returns it, or a `Stack`
        """
        return self.run_each(program, [inputs])[0]

    def run_each(self, program: Program, several: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """The outputs of a program on several inputs, each equation on all before the next one;
        turns of a scan too."""
        envs: list[dict[int, Any]] = [dict(zip(program.inputs, v, strict=True)) for v in several]
        last = {o: e.index for e in program.equations for o in e.inputs if isinstance(o, int)}
        for output in program.outputs:
            if isinstance(output, int):
                last.pop(output, None)
        for equation in program.equations:
            if equation.name == "scan":
                found = self._scan(program, equation, envs)
            for k, env in enumerate(envs):
                if equation.name == "scan":
                    results = found[k]
                else:
                    arguments = [_read(env, o) for o in equation.inputs]
                    results = self.bind(program, equation, arguments)
                env.update(zip(equation.outputs, results, strict=True))
                for operand in {o for o in equation.inputs if isinstance(o, int)}:
                    if last.get(operand) == equation.index:
                        del env[operand]
        return [[_read(env, o) for o in program.outputs] for env in envs]

    def bind(self, program: Program, equation: Equation, arguments: list[Any]) -> Sequence[Any]:
        """What an equation makes of its operands."""
        name = equation.name
        if name in _LOOPS:
            return _LOOPS[name](self, program, equation, arguments)
        on_host = all(isinstance(v, np.ndarray | np.generic) for v in arguments) and name in HOST
        if name not in _MOVES and not (on_host and name in WIDENING):
            arguments = [widen(v) for v in arguments]
        if on_host:
            result = HOST[name](equation, *arguments)
            if result is not NotImplemented:
                return result if equation.primitive.multiple_results else [np.asarray(result)]
            arguments = arguments if name in _MOVES else [widen(v) for v in arguments]
        return self._device(program, equation, arguments)

    def _device(self, program: Program, equation: Equation, arguments: list[Any]) -> Sequence[Any]:
        wide = [(program.shape(o), widened(program.aval(o).dtype)) for o in equation.outputs]
        if not any(is_narrow(program.aval(o).dtype) for o in (*equation.inputs, *equation.outputs)):
            return _back(equation.bind(arguments))
        try:
            with_types = {
                k: widened(v) if k in _DTYPES and v is not None else v
                for k, v in equation.params.items()
            }
            results = _bind(equation, with_types, arguments)
            moved = equation.name in _MOVES
            if moved or [(r.shape, r.dtype) for r in results] == wide:
                return _back(results)
        except Exception:  # a primitive may refuse other types in any way
            pass
        types = [program.aval(o).dtype for o in equation.inputs]
        narrow = [v.astype(t) for v, t in zip(arguments, types, strict=True)]
        inexact = [program.aval(o).dtype for o in equation.outputs]
        coarse = [t for t in (*types, *inexact) if is_narrow(t)]
        self.rounded[equation.name] = min(coarse, key=lambda t: jnp.finfo(t).bits)
        return [widen(v) for v in _back(equation.bind(narrow))]

    # -- control flow ----------------------------------------------------------------------

    def _scan(
        self, program: Program, equation: Equation, envs: Sequence[dict[int, Any]]
    ) -> list[list[Any]]:
        n_const, n_carry = scan_counts(program, equation)
        body, length, first = equation.bodies[0], equation.params["length"], n_const + n_carry
        constants = [[_read(env, o) for o in equation.inputs[:n_const]] for env in envs]
        carries = [[widen(_read(env, o)) for o in equation.inputs[n_const:first]] for env in envs]
        scanned = [[_stack(env, o) for o in equation.inputs[first:]] for env in envs]
        stacked: list[list[Any]] = [[None] * length for _ in envs]
        for i in reversed(range(length)) if equation.params["reverse"] else range(length):
            turns = [[functools.partial(v.turn, i) for v in of] for of in scanned]
            given = [[*c, *h, *t] for c, h, t in zip(constants, carries, turns, strict=True)]
            for k, outputs in enumerate(self.run_each(body, given)):
                carries[k], stacked[k][i] = outputs[:n_carry], outputs[n_carry:]
        if length:
            ys = [[np.stack(list(map(widen, y))) for y in zip(*of, strict=True)] for of in stacked]
        else:
            empty = [program.aval(o) for o in equation.outputs[n_carry:]]
            ys = [[np.zeros(t.shape, widened(t.dtype)) for t in empty] for _ in envs]
        return [[*h, *y] for h, y in zip(carries, ys, strict=True)]

    def loop(self, program: Program, equation: Equation, arguments: list[Any]) -> list[Any]:
        n_cond, n_body = equation.params["cond_nconsts"], equation.params["body_nconsts"]
        condition, body = equation.bodies
        first = n_cond + n_body
        carry = [widen(v) for v in arguments[first:]]
        while bool(self.run(condition, [*arguments[:n_cond], *carry])[0]):
            carry = self.run(body, [*arguments[n_cond:first], *carry])
        return carry

    def branch(self, program: Program, equation: Equation, arguments: list[Any]) -> list[Any]:
        which = min(max(int(arguments[0]), 0), len(equation.bodies) - 1)
        return self.run(equation.bodies[which], arguments[1:])


_LOOPS: dict[str, Callable] = {"while": Wide.loop, "cond": Wide.branch}


def _read(env: dict[int, Any], operand: Operand) -> Any:
    if isinstance(operand, Constant):
        return _constant(operand.value)
    if callable(env[operand]):
        env[operand] = env[operand]()
    return env[operand]


def _stack(env: dict[int, Any], operand: Operand) -> Stack:
    """An operand that a scan reads a turn at a time."""
    given = None if isinstance(operand, Constant) else env[operand]
    if isinstance(given, Stack):
        return given
    whole = _read(env, operand)
    return Stack(lambda: whole, whole.__getitem__)


# Their parameters hold the sum or product as a program for one type.
_SCATTERS = {
    "scatter": jax.lax.scatter, "scatter-add": jax.lax.scatter_add,
    "scatter_add": jax.lax.scatter_add, "scatter-mul": jax.lax.scatter_mul,
    "scatter_mul": jax.lax.scatter_mul, "scatter-min": jax.lax.scatter_min,
    "scatter_min": jax.lax.scatter_min, "scatter-max": jax.lax.scatter_max,
    "scatter_max": jax.lax.scatter_max, "scatter-sub": jax.lax.scatter_sub,
    "scatter_sub": jax.lax.scatter_sub,
}  # fmt: skip
_SCATTERED = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")


def _bind(equation: Equation, params: dict[str, Any], arguments: list[Any]) -> Sequence[Any]:
    """The results with other types than the equation was traced with."""
    if equation.name in _SCATTERS:
        options = {k: params[k] for k in _SCATTERED}
        return [_SCATTERS[equation.name](*arguments, **options)]
    results = equation.primitive.bind(*arguments, **equation.primitive.get_bind_params(params))
    return results if equation.primitive.multiple_results else [results]


def _constant(value: Any) -> Any:
    if jnp.issubdtype(jax.typeof(value).dtype, jax.dtypes.extended):
        return value
    return np.asarray(jax.device_get(value), jax.typeof(value).dtype)


def _back(results: Sequence[Any]) -> list[Any]:
    keys = [jnp.issubdtype(r.dtype, jax.dtypes.extended) for r in results]
    return [r if key else np.asarray(r) for r, key in zip(results, keys, strict=True)]
