"""What each primitive does to the axes of its operands: one rule a primitive.

A rule sees the axes of the operands, joins or fixes what the primitive ties together or mixes,
and returns the axes of the results. A primitive without a rule fixes everything it touches:
conservative is allowed, wrong never.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .axes import ENUMERATED, Algebra, Atom, Axes, Concat, Expr, Family, Uniform, atoms, size
from .program import Constant, Equation, Operand, Program, scan_counts


@dataclasses.dataclass
class Call:
    """One application of a primitive: what a rule needs to know."""

    algebra: Algebra
    equation: Equation
    program: Program
    axes: list[Axes]
    ambient: Expr
    descend: Callable[..., list[Axes]]

    @property
    def params(self):
        return self.equation.params

    def shape(self, i: int) -> tuple[int, ...]:
        return self.program.shape(self.equation.inputs[i])

    def out_shape(self, i: int = 0) -> tuple[int, ...]:
        return self.program.shape(self.equation.outputs[i])

    def new(self, dim: int, n: int, why: str, out: int = 0) -> Expr:
        """The positions of a result's axis, as an identity of their own."""
        return self.algebra.fixed((self.equation.index, out, dim), n, why)

    def fix_all(self, why: str) -> list[Axes]:
        for axes in self.axes:
            for expr in axes:
                self.algebra.fix(expr, why)
        return [
            tuple(self.new(d, n, why, i) for d, n in enumerate(self.out_shape(i)))
            for i in range(len(self.equation.outputs))
        ]

    def mix(self, expr: Expr, dim: int, n: int, why: str, out: int = 0) -> Expr:
        """The primitive mixes positions along this axis: fixed, and no longer the same index."""
        self.algebra.fix(expr, why)
        return self.new(dim, n, why, out)


Rule = Callable[[Call], list[Axes]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil
    clamp clz complex conj convert_element_type copy copy_p copysign cos cosh digamma div eq eq_to
    erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow is_finite le le_to
    lgamma log log1p logistic lt lt_to max min mul ne neg nextafter not opt_barrier
    optimization_barrier or polygamma population_count pow real reduce_precision regularized_incomplete_beta rem
    round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt
    square stop_gradient sub tan tanh xor zeta erf_inv random_gamma_grad bitcast_convert_type
    device_put sharding_constraint pvary mul_to
""".split()


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


@rule("argmax", "argmin")
def arg_reduction(call: Call) -> list[Axes]:
    for dim in call.params["axes"]:
        call.algebra.fix(call.axes[0][dim], f"{call.equation.name} along it")
    return reduction(call)


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


@rule("sort")
def sort(call: Call) -> list[Axes]:
    # The operands move together along the sorted axis, so all their axes are tied.
    dim, rank = call.params["dimension"], len(call.axes[0])
    joined = [
        call.algebra.join_all([axes[d] for axes in call.axes]) if d != dim else ()
        for d in range(rank)
    ]
    for axes in call.axes:
        call.algebra.fix(axes[dim], "sort along it")
    n = call.out_shape()[dim]
    joined[dim] = call.new(dim, n, "sort along it")
    return [tuple(joined)] * len(call.equation.outputs)


@rule("top_k")
def top_k(call: Call) -> list[Axes]:
    (axes,) = call.axes
    dim = call.params.get("axis", -1) % len(axes)
    n = call.out_shape()[dim]
    new = call.mix(axes[dim], dim, n, "top_k along it")
    return [(*axes[:dim], new, *axes[dim + 1 :])] * 2


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


@rule("cumred_reduce_window", "select_and_gather_add")
def unsupported_window(call: Call) -> list[Axes]:
    return call.fix_all(f"primitive {call.equation.name!r}")


# -- shapes --------------------------------------------------------------------------------


@rule("transpose")
def transpose(call: Call) -> list[Axes]:
    return [tuple(call.axes[0][d] for d in call.params["permutation"])]


@rule("squeeze")
def squeeze(call: Call) -> list[Axes]:
    rank = len(call.axes[0])
    gone = {d % rank for d in call.params["dimensions"]}
    return [tuple(e for d, e in enumerate(call.axes[0]) if d not in gone)]


@rule("expand_dims")
def expand_dims(call: Call) -> list[Axes]:
    out = list(call.axes[0])
    for dim in sorted(call.params["dimensions"]):
        out.insert(dim, ())
    return [tuple(out)]


@rule("broadcast_in_dim")
def broadcast(call: Call) -> list[Axes]:
    shape = call.out_shape()
    out: list[Expr] = [() if n == 1 else (Uniform(n),) for n in shape]
    for source, target in enumerate(call.params["broadcast_dimensions"]):
        if call.shape(0)[source] == shape[target]:
            out[target] = call.axes[0][source]
    return [tuple(out)]


@rule("iota")
def iota(call: Call) -> list[Axes]:
    along = call.params["dimension"]
    return [
        tuple(
            call.new(d, n, "iota") if d == along else call.algebra.resolve((Uniform(n),))
            for d, n in enumerate(call.out_shape())
        )
    ]


@rule("empty", "empty2", "full_like")
def constant_fill(call: Call) -> list[Axes]:
    return [tuple(call.algebra.resolve((Uniform(n),)) for n in call.out_shape())]


@rule("reshape")
def reshape(call: Call) -> list[Axes]:
    if call.params.get("dimensions") is not None:
        return call.fix_all("reshape with dimensions")
    source, target = call.shape(0), call.out_shape()
    if 0 in source:
        return call.fix_all("an empty array")
    out: list[Expr] = [()] * len(target)
    for first, last, start, stop in _segments(source, target):
        stream: Expr = tuple(f for e in call.axes[0][first:last] for f in e)
        if not _pour(call.algebra, stream, target, out, start, stop):
            why = "reshape that cuts across units"
            call.algebra.fix(stream, why)
            for d in range(start, stop):
                out[d] = call.new(d, target[d], why)
    return [tuple(out)]


def _segments(source: Sequence[int], target: Sequence[int]):
    """Runs of source and target axes between common cumulative sizes."""
    i = j = 0
    while i < len(source) or j < len(target):
        first, start, a, b = i, j, 1, 1
        if i < len(source):
            a, i = source[i], i + 1
        if j < len(target):
            b, j = target[j], j + 1
        while a != b:
            if a < b:
                a, i = a * source[i], i + 1
            else:
                b, j = b * target[j], j + 1
        yield first, i, start, j


def _pour(
    algebra: Algebra, stream: Expr, target: Sequence[int], out: list[Expr], start: int, stop: int
) -> bool:
    """Fill target axes start…stop with the factors of a stream; False if one does not split."""
    rest = algebra.resolve(stream)
    for d in range(start, stop):
        pieces = algebra.split_expr(rest, target[d])
        if pieces is None:
            return False
        out[d], rest = pieces
        rest = algebra.resolve(rest)
    for d in range(start, stop):
        out[d] = algebra.resolve(out[d])
    return True


@rule("concatenate")
def concatenate(call: Call) -> list[Axes]:
    lengths = [call.shape(i)[call.params["dimension"]] for i in range(len(call.axes))]
    return [_lay_along(call.algebra, call.axes, call.params["dimension"], lengths)]


@rule("stack")
def stack(call: Call) -> list[Axes]:
    dim = call.params["axis"]
    opened: list[Axes] = [(*axes[:dim], (), *axes[dim:]) for axes in call.axes]
    return [_lay_along(call.algebra, opened, dim, [1] * len(opened))]


def _lay_along(
    algebra: Algebra, operands: Sequence[Axes], dim: int, lengths: Sequence[int]
) -> Axes:
    """The axes of arrays laid one after the other along `dim`."""
    columns = [[algebra.resolve(axes[d]) for axes in operands] for d in range(len(operands[0]))]
    along = algebra.concat(columns[dim])
    key = along[0] if len(along) == 1 else None
    out: list[Expr] = []
    for d, column in enumerate(columns):
        if d == dim:
            out.append(along)
        elif isinstance(key, Atom) and key.fixed and key.size <= ENUMERATED:
            # A stack of different units: they may differ for each index of the fixed axis.
            members = [e for e, n in zip(column, lengths, strict=True) for _ in range(n)]
            out.append(algebra.family(key, members))
        else:
            out.append(algebra.join_all(column))
    return tuple(out)


@rule("tile")
def tile(call: Call) -> list[Axes]:
    out = []
    for expr, reps in zip(call.axes[0], call.params["reps"], strict=True):
        out.append(call.algebra.resolve((Uniform(reps), *expr)) if reps > 1 else expr)
    return [tuple(out)]


@rule("pad")
def pad(call: Call) -> list[Axes]:
    if call.axes[1]:
        return call.fix_all("pad with an array")
    out: list[Expr] = []
    for d, (low, high, interior) in enumerate(call.params["padding_config"]):
        expr = call.axes[0][d]
        if low < 0 or high < 0 or interior:
            out.append(call.mix(expr, d, call.out_shape()[d], "cropped or dilated by pad"))
        else:
            parts = [(Uniform(low),), expr, (Uniform(high),)]
            parts = [call.algebra.resolve(p) for p in parts if size(p)]
            out.append(call.algebra.concat(parts))
    return [tuple(out)]


@rule("slice")
def static_slice(call: Call) -> list[Axes]:
    p, axes = call.params, tuple(call.axes[0])
    strides = p["strides"] or (1,) * len(axes)
    for d in range(len(axes)):
        which = range(p["start_indices"][d], p["limit_indices"][d], strides[d])
        axes = _take(call, axes, d, which)
    return [axes]


@rule("split")
def split(call: Call) -> list[Axes]:
    dim, start, out = call.params["axis"], 0, []
    for i, n in enumerate(call.params["sizes"]):
        axes = tuple(map(call.algebra.resolve, call.axes[0]))
        out.append(_take(call, axes, dim, range(start, start + n), i))
        start += n
    return [tuple(map(call.algebra.resolve, axes)) for axes in out]


@rule("unstack")
def unstack(call: Call) -> list[Axes]:
    dim, out = call.params["axis"], []
    for i in range(len(call.equation.outputs)):
        axes = tuple(map(call.algebra.resolve, call.axes[0]))
        axes = _take(call, axes, dim, range(i, i + 1), i)
        out.append((*axes[:dim], *axes[dim + 1 :]))
    return out


def _take(call: Call, axes: Axes, dim: int, which: range, out: int = 0) -> Axes:
    """The axes of an array of which only positions `which` along `dim` are kept."""
    algebra = call.algebra
    axes = tuple(map(algebra.resolve, axes))
    expr = axes[dim]
    if which == range(size(expr)):
        return axes
    if not expr or len(which) == 0:
        return (*axes[:dim], (Uniform(0),), *axes[dim + 1 :])
    head, tail = expr[0], expr[1:]
    inner = size(tail)
    aligned = which.step == 1 and which.start % inner == 0 and which.stop % inner == 0
    if aligned or inner == 1:
        lead = range(which.start // inner, which.stop // inner, which.step)
        return _take_lead(call, axes, dim, head, tail, lead, out)
    if which.start // inner == which[-1] // inner:
        index = which.start // inner
        axes = _take_lead(call, axes, dim, head, tail, range(index, index + 1), out)
        shift = index * inner
        rest = range(which.start - shift, which.stop - shift, which.step)
        return _take(call, axes, dim, rest, out)
    new = call.mix(expr, dim, len(which), "slice across units", out)
    return (*axes[:dim], new, *axes[dim + 1 :])


def _take_lead(call: Call, axes: Axes, dim: int, head, tail: Expr, lead: range, out: int) -> Axes:
    """Keep positions `lead` of the first factor of axis `dim`."""
    algebra = call.algebra
    if lead == range(head.size):
        return axes
    if isinstance(head, Uniform):
        kept: Expr = algebra.resolve((Uniform(len(lead)),))
        return (*axes[:dim], algebra.resolve(kept + tail), *axes[dim + 1 :])
    if isinstance(head, Atom) and (head.fixed or len(lead) == 1 or lead.step != 1):
        algebra.fix((head,), "indexed")
        kept = algebra.positions(head, lead)
        others = (*axes[:dim], tail, *axes[dim + 1 :])
        others = algebra.select(others, head, kept, lead)
        return (*others[:dim], algebra.resolve(kept + others[dim]), *others[dim + 1 :])
    if isinstance(head, Concat) and lead.step != 1:
        new = call.mix((head,), dim, len(lead), "strided slice", out)
        return (*axes[:dim], algebra.resolve(new + tail), *axes[dim + 1 :])
    if isinstance(head, Family):
        members = []
        for i, m in enumerate(head.members):
            (taken,) = _take(call, (m,), 0, lead, (out, i))  # type: ignore[arg-type]
            members.append(taken)
        kept = algebra.family(head.key, members)
        return (*axes[:dim], algebra.resolve(kept + tail), *axes[dim + 1 :])
    kept = (head,)
    for at, keep in ((lead.stop, 0), (lead.start, 1)):
        kept = algebra.resolve(kept)
        if at in (0, size(kept)):
            continue
        pieces = algebra.cut(kept, at)
        if pieces is None:
            new = call.mix((head,), dim, len(lead), "slice across units", out)
            return (*axes[:dim], algebra.resolve(new + tail), *axes[dim + 1 :])
        kept = pieces[keep]
    axes = tuple(map(algebra.resolve, axes))
    return (*axes[:dim], algebra.resolve(kept + algebra.resolve(tail)), *axes[dim + 1 :])


@rule("dynamic_slice")
def dynamic_slice(call: Call) -> list[Axes]:
    shape, sizes = call.shape(0), call.params["slice_sizes"]
    return [
        tuple(
            e if n == k else call.mix(e, d, k, "dynamic slice")
            for d, (e, n, k) in enumerate(zip(call.axes[0], shape, sizes, strict=True))
        )
    ]


@rule("dynamic_update_slice")
def dynamic_update_slice(call: Call) -> list[Axes]:
    out = []
    for d, (e, u) in enumerate(zip(call.axes[0], call.axes[1], strict=True)):
        n, k = call.shape(0)[d], call.shape(1)[d]
        if n == k:
            out.append(call.algebra.join(e, u))
        else:
            call.algebra.fix(u, "dynamic update slice")
            out.append(call.mix(e, d, n, "dynamic update slice"))
    return [tuple(out)]


@rule("gather")
def gather(call: Call) -> list[Axes]:
    dims, sizes = call.params["dimension_numbers"], call.params["slice_sizes"]
    operand, indices = call.axes
    algebra, shape = call.algebra, call.shape(0)
    batching = tuple(getattr(dims, "operand_batching_dims", ()))
    index_batching = tuple(getattr(dims, "start_indices_batching_dims", ()))
    algebra.fix(indices[-1], "gather indices")
    for b, i in zip(batching, index_batching, strict=True):
        algebra.join(operand[b], indices[i])
    kept = [d for d in range(len(shape)) if d not in (*dims.collapsed_slice_dims, *batching)]
    batch = [algebra.resolve(e) for e in indices[:-1]]
    out: list[Expr] = []
    for d, n in enumerate(call.out_shape()):
        if d not in dims.offset_dims:
            out.append(batch.pop(0))
            continue
        source = kept.pop(0)
        if sizes[source] == shape[source]:
            out.append(operand[source])
        else:
            out.append(call.mix(operand[source], d, n, "gather along it"))
    for d in dims.collapsed_slice_dims:
        if shape[d] != 1:
            algebra.fix(operand[d], "gather along it")
    return [tuple(map(algebra.resolve, out))]


@rule("scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul", "scatter_min",
      "scatter_max", "scatter-min", "scatter-max")  # fmt: skip
def scatter(call: Call) -> list[Axes]:
    dims = call.params["dimension_numbers"]
    operand, indices, updates = call.axes
    algebra, shape, update_shape = call.algebra, call.shape(0), call.shape(2)
    if getattr(dims, "operand_batching_dims", ()):
        return call.fix_all("batched scatter")
    why = "scatter along it"
    for expr in indices:
        algebra.fix(expr, why)
    windows = [d for d in range(len(shape)) if d not in dims.inserted_window_dims]
    source = dict(zip(windows, dims.update_window_dims, strict=True))
    out = []
    for d, n in enumerate(shape):
        if d in source and update_shape[source[d]] == n:
            out.append(algebra.join(operand[d], updates[source[d]]))
        else:
            if d in source:
                algebra.fix(updates[source[d]], why)
            out.append(call.mix(operand[d], d, n, why))
    for d in range(len(update_shape)):
        if d not in dims.update_window_dims:
            algebra.fix(updates[d], why)
    return [tuple(map(algebra.resolve, out))]


# -- contractions --------------------------------------------------------------------------


@rule("dot_general")
def dot_general(call: Call) -> list[Axes]:
    (contract_l, contract_r), (batch_l, batch_r) = call.params["dimension_numbers"]
    lhs, rhs = call.axes
    algebra = call.algebra
    batch = [algebra.join(lhs[i], rhs[j]) for i, j in zip(batch_l, batch_r, strict=True)]
    pairs = sorted(zip(contract_l, contract_r, strict=True), key=max)
    contracted = [algebra.join(lhs[i], rhs[j]) for i, j in pairs]
    free_l = [e for d, e in enumerate(lhs) if d not in (*contract_l, *batch_l)]
    free_r = [e for d, e in enumerate(rhs) if d not in (*contract_r, *batch_r)]
    # A dependence must be unambiguous in the whole index space of the contraction.
    joint = algebra.check((*batch, *contracted, *free_l, *free_r), call.ambient)
    n = len(contracted)
    return [tuple(map(algebra.resolve, (*joint[: len(batch)], *joint[len(batch) + n :])))]


@rule("conv_general_dilated")
def convolution(call: Call) -> list[Axes]:
    p, algebra = call.params, call.algebra
    dims, groups = p["dimension_numbers"], p["feature_group_count"]
    lhs, rhs = call.axes
    if p.get("batch_group_count", 1) != 1:
        return call.fix_all("convolution with batch groups")
    out_dim, in_dim, *kernel_space = dims.rhs_spec
    batch_dim, channel_dim, *space = dims.lhs_spec
    for d in kernel_space:
        algebra.fix(rhs[d], "kernel space")
    for d in space:
        algebra.fix(lhs[d], "space of a convolution")
    channels, ins, outs = lhs[channel_dim], rhs[in_dim], rhs[out_dim]
    if groups == 1:
        algebra.join(channels, ins)
    else:
        grouped = algebra.split_expr(outs, groups)
        if grouped is None:
            algebra.fix(outs, "convolution groups")
            algebra.fix(channels, "convolution groups")
            algebra.fix(ins, "convolution groups")
        else:
            joined = algebra.join(channels, algebra.resolve(grouped[0] + algebra.resolve(ins)))
            del joined
        algebra.check(rhs, call.ambient)
    shape = call.out_shape()
    out: list[Expr] = [()] * len(shape)
    out_batch, out_channel, *out_space = dims.out_spec
    out[out_batch] = algebra.resolve(lhs[batch_dim])
    out[out_channel] = algebra.resolve(outs)
    for d in out_space:
        out[d] = call.new(d, shape[d], "space of a convolution")
    return [tuple(out)]


# -- control flow --------------------------------------------------------------------------


@rule("scan")
def scan(call: Call) -> list[Axes]:
    p, algebra = call.params, call.algebra
    n_const, n_carry = scan_counts(call.program, call.equation)
    body = call.equation.bodies[0]
    index = algebra.fixed((call.equation.index, "scan"), p["length"], "scanned axis")
    for axes in call.axes[n_const + n_carry :]:
        algebra.fix(axes[0], "scanned axis")
        index = algebra.join(index, axes[0])
    index = algebra.resolve(index)
    carry = _carry(call, n_const, n_carry)
    slices = [axes[1:] for axes in call.axes[n_const + n_carry :]]
    inputs = [*call.axes[:n_const], *carry, *slices]
    outputs = call.descend(body, inputs, (*call.ambient, *index))
    _close_carry(call, carry, outputs[:n_carry])
    ys = [(index, *axes) for axes in outputs[n_carry:]]
    return [tuple(map(algebra.resolve, axes)) for axes in (*carry, *ys)]


@rule("while")
def while_loop(call: Call) -> list[Axes]:
    n_cond, n_body = call.params["cond_nconsts"], call.params["body_nconsts"]
    condition, body = call.equation.bodies
    first = n_cond + n_body
    carry = _carry(call, first, len(call.axes) - first)
    call.descend(condition, [*call.axes[:n_cond], *carry], call.ambient)
    outputs = call.descend(body, [*call.axes[n_cond:first], *carry], call.ambient)
    _close_carry(call, carry, outputs)
    return [tuple(map(call.algebra.resolve, axes)) for axes in carry]


def _carry(call: Call, first: int, n: int) -> list[Axes]:
    """The carry as known so far: the initial value joined with earlier sweeps' results."""
    known = call.algebra.carries.get(call.equation.index)
    initial = call.axes[first : first + n]
    if known is None:
        return [call.algebra.check(axes, call.ambient) for axes in initial]
    joined = [
        tuple(call.algebra.join(a, b) for a, b in zip(x, y, strict=True))
        for x, y in zip(initial, known, strict=True)
    ]
    # Iterations follow one another: the carry may not depend on the index of the loop.
    return [call.algebra.check(axes, call.ambient) for axes in joined]


def _close_carry(call: Call, carry: list[Axes], results: list[Axes]) -> None:
    algebra = call.algebra
    joined = [
        tuple(algebra.join(a, b) for a, b in zip(x, y, strict=True))
        for x, y in zip(carry, results, strict=True)
    ]
    joined = [algebra.check(axes, call.ambient) for axes in joined]
    if joined != [tuple(map(algebra.resolve, axes)) for axes in carry]:
        algebra.changed = True
    algebra.carries[call.equation.index] = joined


@rule("cond")
def cond(call: Call) -> list[Axes]:
    results = [call.descend(body, call.axes[1:], call.ambient) for body in call.equation.bodies]
    return [
        tuple(call.algebra.join_all(list(exprs)) for exprs in zip(*axes, strict=True))
        for axes in zip(*results, strict=True)
    ]


# -- constants -----------------------------------------------------------------------------


def constant_axes(algebra: Algebra, constant: Constant, key: object) -> Axes:
    """A known array: uniform along every axis on which it does not vary, fixed along others."""
    shape = np.shape(constant.value)
    if not shape:
        return ()
    known = algebra.constants.get(id(constant))
    if known is None:
        known = _varies(constant.value)
        algebra.constants[id(constant)] = known
    return tuple(
        algebra.fixed(("constant", key, d), n, "constant array")
        if varies
        else algebra.resolve((Uniform(n),))
        for d, (n, varies) in enumerate(zip(shape, known, strict=True))
    )


def _varies(value) -> tuple[bool, ...]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # random keys and other extended types
        return (True,) * len(np.shape(value))
    if array.size == 0 or array.dtype == object:
        return (True,) * array.ndim
    return tuple(not bool(np.all(array == np.take(array, [0], axis=d))) for d in range(array.ndim))


def apply(
    algebra: Algebra,
    program: Program,
    equation: Equation,
    axes: list[Axes],
    ambient: Expr,
    descend: Callable[..., list[Axes]],
) -> list[Axes]:
    """The axes of an equation's results."""
    call = Call(algebra, equation, program, axes, ambient, descend)
    function = RULES.get(equation.name)
    if function is None:
        if any(size(e) > 1 for a in axes for e in a):
            algebra.unknown.add(equation.name)
        results = call.fix_all(f"unknown primitive {equation.name!r}")
    else:
        results = function(call)
    return [algebra.check(result, ambient) for result in results]


__all__ = ["RULES", "Call", "Operand", "apply", "atoms", "constant_axes", "rule"]
