"""Element-wise operations, reductions, and what mixes the positions of an axis."""

from __future__ import annotations

from ..axes import Axes, Expr, Uniform
from ._call import Call, rule

_ELEMENTWISE = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj",
    "convert_element_type", "copy", "copy_p", "copysign", "cos", "cosh", "digamma", "div", "eq",
    "eq_to", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma",
    "igammac", "imag", "integer_pow", "is_finite", "le", "le_to", "lgamma", "log", "log1p",
    "logistic", "lt", "lt_to", "max", "min", "mul", "ne", "neg", "nextafter", "not",
    "opt_barrier", "optimization_barrier", "or", "polygamma", "population_count", "pow", "real",
    "reduce_precision", "regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh",
    "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor", "zeta", "random_gamma_grad",
    "bitcast_convert_type", "device_put", "sharding_constraint", "pvary",
)  # fmt: skip


@rule(*_ELEMENTWISE)
def elementwise(call: Call) -> list[Axes]:
    if call.equation.name == "bitcast_convert_type" and call.shape(0) != call.out_shape():
        return call.fix_all("bitcast that changes the shape")
    if len(call.equation.outputs) > 1:  # barriers: each result is its own operand
        return list(call.axes)
    shape = call.out_shape()
    out: list[Expr] = [() if n == 1 else (Uniform(n),) for n in shape]
    for dim in range(len(shape)):  # outer axes first: what depends on them is joined later
        for i, axes in enumerate(call.axes):
            if axes and call.shape(i)[dim] == shape[dim]:
                out[dim] = call.algebra.join(out[dim], axes[dim])
    return [tuple(out)]


@rule(
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor"
)
def reduction(call: Call) -> list[Axes]:
    gone = set(call.params["axes"])
    return [tuple(e for d, e in enumerate(call.axes[0]) if d not in gone)]


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(call: Call) -> list[Axes]:
    dim = call.params["axis"]
    return _mix_dims(call, {dim})


@rule("rev")
def reverse(call: Call) -> list[Axes]:
    return _mix_dims(call, set(call.params["dimensions"]))


@rule("fft")
def fourier(call: Call) -> list[Axes]:
    rank, n = len(call.axes[0]), len(call.params["fft_lengths"])
    return _mix_dims(call, set(range(rank - n, rank)))


def _mix_dims(call: Call, dims: set[int]) -> list[Axes]:
    why = f"{call.equation.name} along it"
    shape = call.out_shape()
    return [
        tuple(call.mix(e, d, shape[d], why) if d in dims else e for d, e in enumerate(call.axes[0]))
    ]


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window")
def window(call: Call) -> list[Axes]:
    p, rank = call.params, len(call.axes[0])
    ones = (1,) * rank
    dims = {
        d
        for d in range(rank)
        if p["window_dimensions"][d] != 1
        or p["window_strides"][d] != 1
        or tuple(p["padding"][d]) != (0, 0)
        or (p.get("base_dilation") or ones)[d] != 1
    }
    if len(call.equation.outputs) != 1:
        return call.fix_all("a window over several operands")
    return _mix_dims(call, dims)
