"""Integers that name units: argmax, top_k and argsort, one-hot vectors, and what indexes by them.

An index of an interchangeable unit changes with the permutation of the units. Used as a number it
would fix them. Used to pick from, or to write to, an axis of the same units, or compared with
all of their positions (a one-hot vector), it keeps them: so experts may be routed to.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from ..axes import Atom, Axes, Expr, size
from ..defined import has_no_ties
from ..program import Constant
from ._call import Call, Named, rule

# These show integers in another shape or order, whatever they name.
CARRIES = {
    "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "convert_element_type",
    "copy", "copy_p", "stop_gradient", "slice", "split", "unstack", "dynamic_slice", "rev",
}  # fmt: skip


def forget(call: Call) -> None:
    """The integers are used as numbers: what they name is fixed."""
    for named in call.named:
        for expr in named.columns if named else ():
            call.algebra.fix(expr or (), "its indices are used as numbers")
    call.named = [None] * len(call.named)


def follow(call: Call) -> list[Axes] | None:
    """The results where integers that name units come in; None where an ordinary rule serves."""
    name, first = call.equation.name, call.named[0]
    if name in CARRIES:
        if (
            first is None
            or len(first.columns) > 1
            or any(call.named[1:])
            or not _holds(call, first)
        ):
            forget(call)
        else:
            call.names = dict.fromkeys(range(len(call.equation.outputs)), first)
    elif name == "concatenate":
        _concatenate(call)
    elif name in ("eq", "ne"):
        _compare(call)
    elif name in ("lt", "add"):
        _shift(call)
    elif name == "select_n":
        return _select(call)
    elif name == "sort":
        if any(call.named[: call.params["num_keys"]]):
            forget(call)  # their order is that of numbers
    elif name == "gather" or name.startswith("scatter"):
        if any(call.named[:1]) or any(call.named[2:]):
            forget(call)  # they are moved, or added to, as numbers
    else:
        forget(call)
    return None


def _single(named: Named | None) -> Expr | None:
    plain = named is not None and named.stage == "index" and len(named.columns) == 1
    return named.columns[0] if named is not None and plain else None


def _holds(call: Call, named: Named) -> bool:
    """Whether the result's type holds every index."""
    dtype = call.program.aval(call.equation.outputs[0]).dtype
    largest = max(size(e or ()) for e in named.columns)
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).max >= 2 * largest
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize >= 4


def _compare(call: Call) -> None:
    """`index == positions`: both name the same units."""
    left, right = map(_single, call.named)
    if left is None or right is None or size(left) != size(right):
        return forget(call)
    call.algebra.join(left, right)
    call.named = [None, None]
    return None


def _shift(call: Call) -> None:
    """`index < 0` and `index + n`, with which NumPy's negative indices are told."""
    index, constant = call.named[0], call.equation.inputs[1]
    value = np.asarray(constant.value) if isinstance(constant, Constant) else None
    if index is None or index.stage != "index" or value is None or value.ndim:
        return forget(call)
    if call.equation.name == "lt" and value <= 0:
        call.names[0] = dataclasses.replace(index, stage="negative")
    elif call.equation.name == "add":
        call.names[0] = dataclasses.replace(index, stage="wrapped") if value else index
    else:
        return forget(call)
    call.named = [None, None]
    return None


def _select(call: Call) -> list[Axes] | None:
    """`where(index < 0, index + n, index)` is the index."""
    which, index, wrapped = (*call.named, None, None)[:3]
    stages = [v.stage if v else None for v in (which, index, wrapped)]
    if stages != ["negative", "index", "wrapped"] or len(call.named) != 3:
        forget(call)
        return None
    call.names[0] = index  # type: ignore[assignment]
    return [call.axes[1]]


def _concatenate(call: Call) -> None:
    """Index vectors: each column names units of its own."""
    last = call.params["dimension"] == len(call.out_shape()) - 1
    widths = [call.shape(i)[-1] for i in range(len(call.axes))]
    plain = all(v is None or v.stage == "index" for v in call.named)
    if not last or not plain or any(n != 1 for n in widths):
        return forget(call)
    columns = [c for v in call.named for c in (v.columns if v else (None,))]
    call.names[0] = Named(tuple(columns))
    return None


def columns(call: Call, operand: int, dims: tuple[int, ...]) -> dict[int, Expr]:
    """Dimension of what is indexed → the units that its column of the indices names."""
    named = call.named[operand]
    if named is None:
        return {}
    pairs = list(zip(dims, named.columns, strict=False))
    fits = all(e is None or size(e) == call.shape(0)[d] for d, e in pairs)
    if named.stage != "index" or len(named.columns) != len(dims) or not fits:
        forget(call)
        return {}
    return {d: e for d, e in pairs if e is not None}


@rule("iota")
def iota(call: Call) -> list[Axes]:
    along, shape = call.params["dimension"], call.out_shape()
    key = (call.equation.index, "iota")
    over = [f for f in call.ambient if isinstance(f, Atom)]
    positions = call.algebra.remembered(key, shape[along], over)
    call.names[0] = Named((positions,))
    return [
        tuple(positions if d == along else call.algebra.uniform(n) for d, n in enumerate(shape))
    ]


@rule("argmax", "argmin")
def arg_reduction(call: Call) -> list[Axes]:
    (dim,) = call.params["axes"]
    axes = call.axes[0]
    named = Named((axes[dim],))
    if _holds(call, named) and _tie_free(call, axes[dim], dim):
        call.names[0] = named
    else:
        call.algebra.fix(axes[dim], f"{call.equation.name} along it")
    return [(*axes[:dim], *axes[dim + 1 :])]


@rule("top_k")
def top_k(call: Call) -> list[Axes]:
    """The values do not depend on the order of the units, the indices name them."""
    (axes,) = call.axes
    dim = call.params.get("axis", -1) % len(axes)
    if _tie_free(call, axes[dim], dim):
        call.names[1] = Named((axes[dim],))
    else:
        call.algebra.fix(axes[dim], "top_k along it")
    new = call.new(dim, call.out_shape()[dim], "top_k along it")
    return [(*axes[:dim], new, *axes[dim + 1 :])] * 2


@rule("sort")
def sort(call: Call) -> list[Axes]:
    """The operands move together along the sorted axis, so all their axes are tied."""
    dim, rank = call.params["dimension"], len(call.axes[0])
    joined = [call.algebra.join_all([axes[d] for axes in call.axes]) for d in range(rank)]
    alone = len(call.axes) == 1
    if not alone and not (call.params["num_keys"] == 1 and _tie_free(call, joined[dim], dim)):
        call.algebra.fix(joined[dim], "sort along it")
    call.names = {i: n for i, n in enumerate(call.named) if n is not None}
    joined[dim] = call.new(dim, call.out_shape()[dim], "sort along it")
    return [tuple(joined)] * len(call.equation.outputs)


def _tie_free(call: Call, along: Expr, dim: int) -> bool:
    """Whether the first operand's entries along an axis are never equal, so that it need not be
    told which of equal ones comes first."""
    atoms = [f for f in along if isinstance(f, Atom)]
    if len(atoms) != len(along) or len(set(atoms)) != len(atoms):
        return False  # constant along it, or the same units twice
    return has_no_ties(call.ties, call.equation.inputs[0], dim)
