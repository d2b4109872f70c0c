"""A program run on the host in float64, whatever types it was traced with.

NumPy and SciPy compute what they have: nothing is compiled for it, and it is an implementation of
its own to check the device's program against. Other primitives are bound one by one in JAX, with
float64 operands where they take them, otherwise as they were traced: `rounded` says which.

A leaf is read, and widened, where it is first computed with, and let go after its last use: a
model in 16 bits is never held in 64.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._lazy import lazily
from .program import Constant, Equation, Operand, Program, scan_counts

special = lazily("scipy.special")
threadpoolctl = lazily("threadpoolctl")

# What a type is widened to; integers, booleans and random keys stay.
_WIDE = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}
_DTYPES = ("new_dtype", "preferred_element_type", "dtype", "out_dtype")
# They only move entries: an operand of few bits stays one.
_MOVES = {
    "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "rev", "gather",
    "dynamic_slice", "split", "copy", "copy_p", "stop_gradient", "reduce_precision", "tile",
    "optimization_barrier", "convert_element_type", "unstack",
}  # fmt: skip


def is_narrow(dtype: Any) -> bool:
    """Whether a type is inexact and not yet float64 or complex128."""
    return jnp.issubdtype(dtype, jnp.inexact) and dtype not in _WIDE.values()


def widened(dtype: Any) -> Any:
    if not jnp.issubdtype(dtype, jnp.inexact):
        return dtype
    return _WIDE["c" if jnp.issubdtype(dtype, jnp.complexfloating) else "f"]


def widen(value: Any) -> Any:
    return value.astype(widened(value.dtype)) if is_narrow(value.dtype) else value


@contextlib.contextmanager
def on_host():
    """The user's settings do not reach what is run here: debugging of NaN, guards, promotion."""
    with contextlib.ExitStack() as stack:
        for setting in (
            jax.enable_x64(True), jax.transfer_guard("allow"), jax.debug_nans(False),
            jax.debug_infs(False), jax.disable_jit(False), jax.numpy_rank_promotion("allow"),
            np.errstate(all="ignore"),
            # Its threads spin, where others work beside them.
            threadpoolctl.threadpool_limits(1, "blas"),
        ):  # fmt: skip
            stack.enter_context(setting)
        with contextlib.suppress(RuntimeError):  # no CPU among the backends
            stack.enter_context(jax.default_device(jax.devices("cpu")[0]))
        yield


class Wide:
    """Runs programs; `rounded`: primitive → the type it was run in, where not in float64."""

    def __init__(self) -> None:
        self.rounded: dict[str, Any] = {}

    def run(self, program: Program, inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a program.

        **Arguments:**
        - `inputs`: one array per `program.inputs`, or a function that returns it
        """
        env: dict[int, Any] = dict(zip(program.inputs, inputs, strict=True))
        last = {o: e.index for e in program.equations for o in e.inputs if isinstance(o, int)}
        for output in program.outputs:
            if isinstance(output, int):
                last.pop(output, None)

        def read(operand: Operand) -> Any:
            if isinstance(operand, Constant):
                return _constant(operand.value)
            if callable(env[operand]):
                env[operand] = env[operand]()
            return env[operand]

        for equation in program.equations:
            arguments = [read(o) for o in equation.inputs]
            results = self.bind(program, equation, arguments)
            env.update(zip(equation.outputs, results, strict=True))
            for operand in {o for o in equation.inputs if isinstance(o, int)}:
                if last.get(operand) == equation.index:
                    del env[operand]
        return [read(o) for o in program.outputs]

    def bind(self, program: Program, equation: Equation, arguments: list[Any]) -> Sequence[Any]:
        """What an equation makes of its operands."""
        name = equation.name
        if name in _LOOPS:
            return _LOOPS[name](self, program, equation, arguments)
        if name not in _MOVES:
            arguments = [widen(v) for v in arguments]
        if all(isinstance(v, np.ndarray | np.generic) for v in arguments) and name in HOST:
            result = HOST[name](equation, *arguments)
            if result is not NotImplemented:
                return result if equation.primitive.multiple_results else [np.asarray(result)]
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

    def scan(self, program: Program, equation: Equation, arguments: list[Any]) -> list[Any]:
        n_const, n_carry = scan_counts(program, equation)
        body, length = equation.bodies[0], equation.params["length"]
        constants = arguments[:n_const]
        carry = [widen(v) for v in arguments[n_const : n_const + n_carry]]
        scanned = arguments[n_const + n_carry :]
        steps = range(length)
        stacked: list[Any] = [None] * length
        for i in reversed(steps) if equation.params["reverse"] else steps:
            outputs = self.run(body, [*constants, *carry, *(v[i] for v in scanned)])
            carry, stacked[i] = outputs[:n_carry], outputs[n_carry:]
        if length:
            return [*carry, *(np.stack(list(map(widen, ys))) for ys in zip(*stacked, strict=True))]
        empty = [program.aval(o) for o in equation.outputs[n_carry:]]
        return [*carry, *(np.zeros(t.shape, widened(t.dtype)) for t in empty)]

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


_LOOPS: dict[str, Callable] = {"scan": Wide.scan, "while": Wide.loop, "cond": Wide.branch}


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


# -- primitives on the host ----------------------------------------------------------------

_UNARY = {
    "abs": np.abs, "neg": np.negative, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sqrt": np.sqrt, "square": np.square, "rsqrt": lambda x: 1 / np.sqrt(x), "floor": np.floor,
    "ceil": np.ceil, "logistic": lambda x: special.expit(x),
    "erf": lambda x: special.erf(x), "erfc": lambda x: special.erfc(x),
    "real": np.real, "imag": np.imag, "conj": np.conj,
    "is_finite": np.isfinite, "not": np.invert, "copy": np.asarray, "copy_p": np.asarray,
    "stop_gradient": np.asarray, "reduce_precision": np.asarray,
}  # fmt: skip
_BINARY = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "eq": np.equal,
    "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "max": np.maximum, "min": np.minimum,
}  # fmt: skip
_FLOATS = {"div": np.divide, "pow": np.power, "rem": np.fmod, "atan2": np.arctan2}
# NumPy would promote their integers and booleans, or order complex numbers differently.
_REAL_ONLY = {"floor", "ceil", "logistic", "erf", "erfc", "max", "min", "pow", "rem", "atan2"}

HOST: dict[str, Callable] = {}


def _host(*names: str):
    def register(function: Callable) -> Callable:
        HOST.update(dict.fromkeys(names, function))
        return function

    return register


def _elementwise(name: str, function: Callable, floats: bool) -> Callable:
    def apply(equation: Equation, *arguments):
        kinds = {v.dtype.kind for v in arguments}
        if (floats and not kinds <= {"f", "c"}) or ("c" in kinds and name in _REAL_ONLY):
            return NotImplemented
        return function(*arguments)

    return apply


_EXACT = {"abs", "neg", "not", "copy", "copy_p", "stop_gradient", "reduce_precision", "real",
          "imag", "conj", "is_finite", "square"}  # fmt: skip
HOST.update({n: _elementwise(n, f, n not in _EXACT) for n, f in _UNARY.items()})
HOST.update({n: _elementwise(n, f, False) for n, f in _BINARY.items()})
HOST.update({n: _elementwise(n, f, True) for n, f in _FLOATS.items()})


@_host("integer_pow")
def _integer_pow(equation: Equation, x):
    power = equation.params["y"]
    if x.dtype.kind not in "fc" or power == 0:
        return NotImplemented
    result = functools.reduce(np.multiply, [x] * abs(power))  # np.power takes ten times as long
    return result if power > 0 else 1 / result


@_host("convert_element_type")
def _convert(equation: Equation, x):
    new = equation.params["new_dtype"]
    if not jnp.issubdtype(x.dtype, jnp.inexact) or not jnp.issubdtype(new, jnp.inexact):
        return x.astype(widened(new)) if jnp.issubdtype(new, jnp.inexact) else x.astype(new)
    complex_ = [jnp.issubdtype(t, jnp.complexfloating) for t in (x.dtype, new)]
    return x if complex_[0] == complex_[1] else widen(x).astype(widened(new))


@_host("select_n")
def _select(equation: Equation, which, *cases):
    if len(cases) == 2:
        return np.where(which.astype(bool), cases[1], cases[0])
    return np.choose(which, cases)


@_host("clamp")
def _clamp(equation: Equation, low, x, high):
    return np.minimum(np.maximum(x, low), high)


@_host("iota")
def _iota(equation: Equation):
    shape, dim = equation.params["shape"], equation.params["dimension"]
    line = np.arange(shape[dim]).astype(widened(equation.params["dtype"]))
    return np.broadcast_to(line.reshape([-1 if d == dim else 1 for d in range(len(shape))]), shape)


def _reduction(function: Callable) -> Callable:
    def reduce(equation: Equation, x):
        return function(x, axis=tuple(equation.params["axes"])).astype(x.dtype)

    return reduce


HOST.update({"reduce_sum": _reduction(np.sum), "reduce_prod": _reduction(np.prod)})


@_host("reduce_max", "reduce_min")
def _extreme(equation: Equation, x):
    if x.dtype.kind == "c" or x.size == 0:
        return NotImplemented
    function = np.max if equation.name == "reduce_max" else np.min
    return function(x, axis=tuple(equation.params["axes"]))


# -- shapes --------------------------------------------------------------------------------


@_host("reshape")
def _reshape(equation: Equation, x):
    if equation.params.get("dimensions") is not None:
        return NotImplemented
    return x.reshape(equation.params["new_sizes"])


@_host("squeeze")
def _squeeze(equation: Equation, x):
    return x.squeeze(tuple(equation.params["dimensions"]))


@_host("expand_dims")
def _expand(equation: Equation, x):
    return np.expand_dims(x, tuple(equation.params["dimensions"]))


@_host("transpose")
def _transpose(equation: Equation, x):
    return x.transpose(equation.params["permutation"])


@_host("broadcast_in_dim")
def _broadcast(equation: Equation, x, *dynamic):
    shape, dims = equation.params["shape"], equation.params["broadcast_dimensions"]
    source = [1] * len(shape)
    for d, n in zip(dims, x.shape, strict=True):
        source[d] = n
    return np.broadcast_to(x.reshape(source), shape)


@_host("slice")
def _slice(equation: Equation, x):
    p = equation.params
    strides = p["strides"] or (1,) * x.ndim
    bounds = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return x[tuple(slice(*b) for b in bounds)]


@_host("rev")
def _reverse(equation: Equation, x):
    return np.flip(x, tuple(equation.params["dimensions"]))


@_host("concatenate")
def _concatenate(equation: Equation, *arrays):
    return np.concatenate(arrays, equation.params["dimension"])


@_host("split")
def _split(equation: Equation, x):
    ends = np.cumsum(equation.params["sizes"])[:-1]
    return np.split(x, ends, equation.params["axis"])


@_host("dot_general")
def _dot_general(equation: Equation, a, b):
    """As one product of stacks of matrices."""
    (contract_a, contract_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    if a.dtype.kind not in "fc" or b.dtype.kind not in "fc":
        return NotImplemented  # what integers are added up in is the device's business
    free_a = [d for d in range(a.ndim) if d not in (*contract_a, *batch_a)]
    free_b = [d for d in range(b.ndim) if d not in (*contract_b, *batch_b)]
    batch, inner = [a.shape[d] for d in batch_a], int(np.prod([a.shape[d] for d in contract_a]))
    left, right = [a.shape[d] for d in free_a], [b.shape[d] for d in free_b]
    n, m = int(np.prod(left)), int(np.prod(right))
    x = a.transpose([*batch_a, *free_a, *contract_a]).reshape([*batch, n, inner])
    y = b.transpose([*batch_b, *contract_b, *free_b]).reshape([*batch, inner, m])
    return (x @ y).reshape([*batch, *left, *right])
