"""A leaf moved by an element of a factor, and random elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._tree import at_least_single
from ...symmetry.matrices import general_linear_of, orthogonal_of
from ..axes import Axes
from ..blocks import Block, Plan, cut, join, plan
from ..groups import Group
from ..layout import Layout, followed
from .factors import Factor, Move


def transform_leaf(
    group: Group, factor: Factor, element: Any, number: int, leaf: Any, axes: Axes,
    inverse: Any = None,
) -> Any:  # fmt: skip
    """One leaf with an element of a factor applied, on the host if it is a NumPy array.

    **Arguments:**
    - `group`: whose units; `factor`: one of `group.structure.factors`, not the permutations
    - `element`: c, of `group.shape`, or g, (*group.shape, n)
    - `number`: of the leaf; `axes`: its axes
    - `inverse`: g⁻¹ where it is known, else it is computed if the leaf needs it
    """
    for move in dict(factor.moves).get(number, ()):
        leaf = _moved(group, factor, (element, inverse), move, leaf, axes)
    return leaf


def _moved(
    group: Group, factor: Factor, both: tuple[Any, Any], move: Move, leaf: Any, axes: Axes
) -> Any:
    element, inverse = both
    how, dims = plan(axes)
    exponents, blocks = move.exponents, cut(leaf, how)
    powers = _powers(exponents, how, len(blocks), np.shape(leaf))
    if factor.matrices and (exponents == -1).any():
        inverse = _transposed(_inverse(element) if inverse is None else inverse)
    done = []
    for block, power, of in zip(blocks, powers, dims, strict=True):
        for i, dim in enumerate(of):
            if dim.factor is group.atom and dim.axis == move.axis:
                if factor.matrices:
                    block = _multiplied(group, (element, inverse), power, block, of, i)
                else:
                    block = _scaled(group, element, power, block, of, i)
        done.append(block)
    return join(done, how, np.shape(leaf))


def scales_of(
    scalings: Sequence[tuple[Group, Factor, np.ndarray]], number: int, shape: tuple[int, ...],
    axes: Axes,
) -> list[list[np.ndarray]]:  # fmt: skip
    """What some elements of scalings and signs multiply a leaf by: of each block of its plan, one
    array for all that vary along the same axes, to be broadcast against the block.

    **Arguments:**
    - `number`, `shape`, `axes`: of the leaf
    """
    how, dims = plan(axes)
    found: list[dict[tuple[int, ...], np.ndarray]] = [{} for _ in dims]
    for group, factor, element in scalings:
        for move in dict(factor.moves).get(number, ()):
            powers = _powers(move.exponents, how, len(dims), shape)
            for scales, power, of in zip(found, powers, dims, strict=True):
                if np.ndim(power) == 0 and power == 0:
                    continue
                for i, dim in enumerate(of):
                    if dim.factor is group.atom and dim.axis == move.axis:
                        c = _scale(group, element, power, of, i)
                        scales[c.shape] = scales[c.shape] * c if c.shape in scales else c
    return [list(scales.values()) for scales in found]


def _powers(exponents: np.ndarray, how: Plan, n: int, shape: tuple[int, ...]) -> list[Any]:
    """The exponents of each of n blocks of a leaf of this shape."""
    if exponents.size == 1:
        return [int(exponents.flat[0])] * n
    return [_power(k) for k in cut(np.broadcast_to(exponents, shape), how)]


def _power(block: np.ndarray) -> Any:
    """The exponents of a block: one number, or an array that is 1 long where they are repeated."""
    block = block[tuple(slice(None) if step else slice(1) for step in block.strides)]
    first = block.flat[0] if block.size else 0
    return int(first) if (block == first).all() else block


def _own(element: Any, dims: Block, fixed: tuple[int, ...]) -> Any:
    """The part of an element that a block holds, which may be one index of an outer axis."""
    for position, d in enumerate(fixed):
        only = dims[d].only
        if only is not None:
            element = element[(*[slice(None)] * position, slice(only, only + 1))]
    return element


def _scaled(group: Group, element: Any, power: Any, block: Any, dims: Block, i: int) -> Any:
    if np.ndim(power) == 0 and power == 0:
        return block
    wide = at_least_single(block.dtype)
    c = _scale(group, _as(element, _real(wide)), power, dims, i)
    return _as(_as(block, wide) * c, block.dtype)


def _scale(group: Group, element: Any, power: Any, dims: Block, i: int) -> Any:
    """c^k, to be broadcast against a block whose dimension i holds the units."""
    fixed = followed(dims, i, group.outer)
    own = _own(element, dims, fixed)
    order = (*fixed, i)
    sizes = [1] * len(dims)
    for d, n in zip(order, own.shape, strict=True):
        sizes[d] = n
    by_place = sorted(range(len(order)), key=order.__getitem__)
    return own.transpose(by_place).reshape(sizes) ** power


def _as(array: Any, dtype: Any) -> Any:
    """In another type; NumPy would copy what is of it already."""
    return array if array.dtype == dtype else array.astype(dtype)


def _real(dtype: Any) -> Any:
    """The type of real and imaginary parts."""
    return np.zeros((), dtype).real.dtype


def _multiplied(
    group: Group, matrices: tuple[Any, Any], power: Any, block: Any, dims: Block, i: int
) -> Any:
    fixed = followed(dims, i, group.outer)
    layout = Layout(np.shape(block), fixed, (i,))
    wide = at_least_single(block.dtype)
    rows = _as(layout.matrix(block), wide)

    def apply(matrix: Any) -> Any:
        own = _own(matrix, dims, fixed)
        own = _as(own.reshape(-1, *own.shape[-2:]), _real(wide))
        return layout.back(_as(own @ rows, block.dtype))

    if np.ndim(power) == 0:
        return block if power == 0 else apply(matrices[0 if power == 1 else 1])
    xp: Any = np if isinstance(block, np.ndarray) else jnp
    out = xp.where(power == 1, apply(matrices[0]), block)
    return out if matrices[1] is None else xp.where(power == -1, apply(matrices[1]), out)


def _inverse(element: Any) -> Any:
    xp: Any = np if isinstance(element, np.ndarray) else jnp
    return xp.linalg.inv(element)


def _transposed(matrix: Any) -> Any:
    return matrix.swapaxes(-1, -2)


def random_element(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """An element drawn on the host: log c ~ N(0, ¼), signs, Haar, or of condition ≤ 10."""
    n = shape[-1]
    if kind == "positive":
        return np.exp(rng.normal(size=shape) / 2)
    if kind == "sign":
        return rng.choice([-1.0, 1.0], shape)
    if kind == "general linear":
        u, v = (rng.normal(size=(*shape, n)) for _ in range(2))
        return general_linear_of(u, v, rng.random(shape))
    fixing = kind == "orthogonal fixing ones"
    inner = (*shape[:-1], n - fixing, n - fixing)
    return orthogonal_of(rng.normal(size=inner), fixing_ones=fixing)


__all__ = ["random_element", "scales_of", "transform_leaf"]
