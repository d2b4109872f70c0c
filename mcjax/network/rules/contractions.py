"""Products and convolutions."""

from __future__ import annotations

from ..axes import Axes, Expr
from ..dependence import check
from ._call import Call, rule


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
    joint = check(algebra, (*batch, *contracted, *free_l, *free_r), call.ambient)
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
    contracted = algebra.resolve(ins)
    if groups == 1:
        contracted = algebra.join(channels, ins)
    else:
        grouped = algebra.split_expr(outs, groups)
        if grouped is None:
            algebra.fix(outs, "convolution groups")
            algebra.fix(channels, "convolution groups")
            algebra.fix(ins, "convolution groups")
        else:
            joined = algebra.join(channels, algebra.resolve(grouped[0] + algebra.resolve(ins)))
            contracted = algebra.resolve(ins)
            # The group of a result is the input's, even where the kernel is the same for all.
            group = algebra.split_expr(joined, groups)
            outs = algebra.resolve((group or grouped)[0] + algebra.resolve(grouped[1]))
        check(algebra, rhs, call.ambient)
    # A dependence must be unambiguous in the whole index space: (batch, inputs, outputs).
    check(algebra, (lhs[batch_dim], contracted, outs), call.ambient)
    shape = call.out_shape()
    out: list[Expr] = [()] * len(shape)
    out_batch, out_channel, *out_space = dims.out_spec
    out[out_batch] = algebra.resolve(lhs[batch_dim])
    out[out_channel] = algebra.resolve(outs)
    for d in out_space:
        out[d] = call.new(d, shape[d], "space of a convolution")
    return [tuple(out)]
