"""Primitives in NumPy and SciPy, in float64 whatever types their operands have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._lazy import lazily
from .program import Equation

special = lazily("scipy.special")

# What a type is widened to; integers, booleans and random keys stay.
_WIDE = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}
# They widen their operands themselves, of large ones no more entries at a time.
WIDENING = {"dot_general"}
_WIDENED = 1 << 20


def is_narrow(dtype: Any) -> bool:
    """Whether a type is inexact and not yet float64 or complex128."""
    return jnp.issubdtype(dtype, jnp.inexact) and dtype not in _WIDE.values()


def widened(dtype: Any) -> Any:
    if not jnp.issubdtype(dtype, jnp.inexact):
        return dtype
    return _WIDE["c" if jnp.issubdtype(dtype, jnp.complexfloating) else "f"]


def widen(value: Any) -> Any:
    return value.astype(widened(value.dtype)) if is_narrow(value.dtype) else value


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


@_host("gather")
def _gather(equation: Equation, x, indices):
    """Rows of a table; other gathers are the device's."""
    p, rank = equation.params, indices.ndim - 1
    dims, behind = p["dimension_numbers"], tuple(range(indices.ndim - 1, indices.ndim + x.ndim - 2))
    rows = (
        dims.start_index_map == dims.collapsed_slice_dims == (0,)
        and not dims.operand_batching_dims
        and tuple(p["slice_sizes"]) == (1, *x.shape[1:])
        and tuple(dims.offset_dims) == behind
        and indices.shape[rank:] == (1,)
    )
    if not rows or not indices.size or indices.min() < 0 or indices.max() >= len(x):
        return NotImplemented
    return x[indices[..., 0]]


@_host("dot_general")
def _dot_general(equation: Equation, a, b):
    """As one product of stacks of matrices."""
    (contract_a, contract_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    if not all(jnp.issubdtype(v.dtype, jnp.inexact) for v in (a, b)):
        return NotImplemented  # what integers are added up in is the device's business
    free_a = [d for d in range(a.ndim) if d not in (*contract_a, *batch_a)]
    free_b = [d for d in range(b.ndim) if d not in (*contract_b, *batch_b)]
    batch, inner = [a.shape[d] for d in batch_a], int(np.prod([a.shape[d] for d in contract_a]))
    left, right = [a.shape[d] for d in free_a], [b.shape[d] for d in free_b]
    n, m = int(np.prod(left)), int(np.prod(right))
    x = a.transpose([*batch_a, *free_a, *contract_a]).reshape([*batch, n, inner])
    y = b.transpose([*batch_b, *contract_b, *free_b]).reshape([*batch, inner, m])
    return _product(x, y).reshape([*batch, *left, *right])


@_host("conv_general_dilated")
def _convolution(equation: Equation, x, w):
    """Example after example, patches by weights; those of groups are the device's."""
    p = equation.params
    dims, padding, dilation = p["dimension_numbers"], p["padding"], p["rhs_dilation"]
    plain = p["feature_group_count"] == p["batch_group_count"] == 1
    plain = plain and set(p["lhs_dilation"]) <= {1} and min(map(min, padding), default=0) >= 0
    if not plain or not {x.dtype.kind, w.dtype.kind} <= {"f"} or not x.size:
        return NotImplemented
    batch, channels, *space = dims.lhs_spec
    out, into, *window = dims.rhs_spec
    x = np.pad(x.transpose(batch, *space, channels), [(0, 0), *padding, (0, 0)])
    w = w.transpose(*window, into, out)
    spans = [d * (n - 1) for d, n in zip(dilation, w.shape, strict=False)]
    strides = p["window_strides"]
    counts = [(n - s - 1) // t + 1 for n, s, t in zip(x.shape[1:], spans, strides, strict=False)]
    if min(counts, default=1) < 1:
        return NotImplemented
    cells, matrix = list(np.ndindex(*w.shape[:-2])), w.reshape(-1, w.shape[-1])
    patches = np.empty((*counts, len(cells), x.shape[-1]))
    y = np.empty((len(x), *counts, w.shape[-1]))
    for example, result in zip(x, y, strict=True):
        for k, cell in enumerate(cells):
            first = [c * d for c, d in zip(cell, dilation, strict=True)]
            steps = zip(first, counts, strides, strict=True)
            patches[..., k, :] = example[tuple(slice(i, i + (n - 1) * t + 1, t)
                                               for i, n, t in steps)]  # fmt: skip
        result[...] = (patches.reshape(-1, len(matrix)) @ matrix).reshape(result.shape)
    order = (dims.out_spec[0], *dims.out_spec[2:], dims.out_spec[1])
    return y.transpose(np.argsort(order))


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The product in float64 of (stacks of) matrices; a large one is widened in parts."""
    if y.ndim > 2 or x.size > y.size:
        if y.ndim > 2 or not is_narrow(x.dtype) or x.size <= _WIDENED:
            return widen(x) @ widen(y)
        return _product(y.T, x.T).T
    x = widen(x)
    if not is_narrow(y.dtype) or y.size <= _WIDENED:
        return x @ widen(y)
    out = np.empty((len(x), y.shape[1]), np.result_type(x.dtype, widened(y.dtype)))
    step = max(1, _WIDENED // len(y))
    wide = np.empty_like(y[:, :step], widened(y.dtype))
    for start in range(0, y.shape[1], step):
        part = y[:, start : start + step]
        wide[:, : part.shape[1]] = part
        np.matmul(x, wide[:, : part.shape[1]], out=out[:, start : start + step])
    return out
