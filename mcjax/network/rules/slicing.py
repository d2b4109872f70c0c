"""Slices, splits, gathers and scatters."""

from __future__ import annotations

from ..axes import Atom, Axes, Concat, Expr, Family, Uniform, size
from ..dependence import check, keep_parts, select
from ._call import Call, rule
from .indices import columns


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
    if which.step > 1 and len(which) > 1 and size(expr) % which.step == 0:
        apart = _take_strided(call, axes, dim, which, out)
        if apart is not None:
            return apart
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
    kept = _cut_twice(call, expr, which) if which.step == 1 else None
    if kept is None:
        new = call.mix(expr, dim, len(which), "slice across units", out)
        return (*axes[:dim], new, *axes[dim + 1 :])
    axes = tuple(map(algebra.resolve, axes))
    if len(axes[dim]) == 1 and isinstance(axes[dim][0], Concat):
        return _take(call, axes, dim, which, out)
    return (*axes[:dim], algebra.resolve(kept), *axes[dim + 1 :])


def _cut_twice(call: Call, expr: Expr, which: range) -> Expr | None:
    """Successive positions of an axis; None where it has no seam."""
    for at, keep in ((which.stop, 0), (which.start, 1)):
        if 0 < at < size(expr):
            pieces = call.algebra.cut(expr, at)
            if pieces is None:
                return None
            expr = pieces[keep]
    return expr


def _take_strided(call: Call, axes: Axes, dim: int, which: range, out: int) -> Axes | None:
    """Every k-th position: one index of the inner of two axes, (n / k, k); None without them."""
    algebra, step = call.algebra, which.step
    opened = algebra.split_expr(axes[dim], size(axes[dim]) // step)
    if opened is None:
        return None
    axes = (*axes[:dim], *opened, *axes[dim + 1 :])
    axes = _take(call, axes, dim + 1, range(which.start % step, which.start % step + 1), out)
    axes = (*axes[: dim + 1], *axes[dim + 2 :])
    first = which.start // step
    return _take(call, axes, dim, range(first, first + len(which)), out)


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
        others = select(algebra, others, head, kept, lead)
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
    if isinstance(head, Atom):
        for stop in (lead.start, lead.stop):
            if 0 < stop < head.size:
                algebra.cut(algebra.resolve((head,)), stop)
        inner = size(tail)
        return _take(call, axes, dim, range(lead.start * inner, lead.stop * inner), out)
    parts = algebra.take(head, lead)
    if parts is None:
        new = call.mix((head,), dim, len(lead), "slice across units", out)
        return (*axes[:dim], algebra.resolve(new + tail), *axes[dim + 1 :])
    axes = (*axes[:dim], algebra.lay(parts), *axes[dim + 1 :])
    return keep_parts(algebra, axes, [labels for _, labels in parts])


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
    """out[batch…, window…] = operand[batch…, start(batch…) + window…]"""
    dims, sizes = call.params["dimension_numbers"], call.params["slice_sizes"]
    operand, indices = map(list, call.axes)
    algebra, shape, why = call.algebra, call.shape(0), "gather along it"
    algebra.fix(indices[-1], "gather indices")
    named = columns(call, 1, dims.start_index_map)
    batching = dims.operand_batching_dims
    _same_batch(call, batching, dims.start_indices_batching_dims, operand, indices)
    gone = (*dims.collapsed_slice_dims, *batching)
    # An index of the operand is not the same index in the result unless its whole axis is taken.
    moved = [d for d, n in enumerate(shape) if sizes[d] != n and d not in gone]
    for d in (*moved, *dims.collapsed_slice_dims):
        if d in named and sizes[d] == 1:
            operand[d] = algebra.join(operand[d], named[d])
        elif shape[d] != 1:
            algebra.fix((*operand[d], *named.get(d, ())), why)
    others = [d for d in range(len(shape)) if d not in batching]
    joint = check(algebra, (*(operand[d] for d in others), *indices[:-1]), call.ambient)
    window = {d: e for d, e in zip(others, joint, strict=False) if d not in gone}
    starts, out = list(joint[len(others) :]), []
    for d, n in enumerate(call.out_shape()):
        if d in dims.offset_dims:
            source = next(iter(window))
            expr = window.pop(source)
            out.append(call.new(d, n, why) if source in moved else expr)
        else:
            out.append(starts.pop(0))
    return [tuple(map(algebra.resolve, out))]


def _same_batch(call: Call, left: tuple[int, ...], right: tuple[int, ...], a: list, b: list):
    """Batch dimensions of two operands run together: the same units on both, in place."""
    for i, j in zip(left, right, strict=True):
        a[i] = b[j] = call.algebra.join(a[i], b[j])


@rule("scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul", "scatter_min",
      "scatter_max", "scatter-min", "scatter-max", "scatter_sub", "scatter-sub")  # fmt: skip
def scatter(call: Call) -> list[Axes]:
    """out = operand, with updates[batch…, window…] put at start(batch…) + window…"""
    dims, why = call.params["dimension_numbers"], "scatter along it"
    operand, indices, updates = map(list, call.axes)
    algebra, shape, update_shape = call.algebra, call.shape(0), call.shape(2)
    algebra.fix(indices[-1], "scatter indices")
    named = columns(call, 1, dims.scatter_dims_to_operand_dims)
    of_index = [d for d in range(len(update_shape)) if d not in dims.update_window_dims]
    batching = dims.scatter_indices_batching_dims
    for i, d in enumerate(of_index):
        updates[d] = indices[i] = algebra.join(indices[i], updates[d])
        if i not in batching:
            algebra.fix(updates[d], why)
    _same_batch(call, dims.operand_batching_dims, batching, operand, indices)
    for i in batching:
        updates[of_index[i]] = algebra.join(updates[of_index[i]], indices[i])
    gone = (*dims.inserted_window_dims, *dims.operand_batching_dims)
    windows = [d for d in range(len(shape)) if d not in gone]
    source = dict(zip(windows, dims.update_window_dims, strict=True))
    mixed = []
    for d, n in enumerate(shape):
        if d in source and update_shape[source[d]] == n:
            operand[d] = updates[source[d]] = algebra.join(operand[d], updates[source[d]])
        elif d in named and d not in source:
            operand[d] = algebra.join(operand[d], named[d])
        elif d not in dims.operand_batching_dims:
            mixed.append(d)
            algebra.fix((*operand[d], *named.get(d, ())), why)
            if d in source:
                algebra.fix(updates[source[d]], why)
    rest = [updates[d] for i, d in enumerate(of_index) if i not in batching]
    rest += [updates[source[d]] for d in mixed if d in source]
    check(algebra, (*operand, *rest), call.ambient)
    out = [call.new(d, n, why) if d in mixed else operand[d] for d, n in enumerate(shape)]
    return [tuple(map(algebra.resolve, out))]
