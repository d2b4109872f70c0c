"""Gram matrices as tiles: a symmetric matrix is known from those on and above its diagonal."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .._tree import at_least_single

# (First, last) rows and columns of a tile.
Place = tuple[tuple[int, int], tuple[int, int]]
# Side of a Gram matrix's least tiles: smaller ones cost more than the products that they save.
_TILE = 512


def places(width: int) -> list[Place]:
    """Where tiles on and above the diagonal lie: squares, halved towards it."""

    def between(first: int, last: int) -> list[Place]:
        if last - first <= _TILE:
            return [((first, last), (first, last))]
        middle = (first + last) // 2
        square = ((first, middle), (middle, last))
        return [*between(first, middle), square, *between(middle, last)]

    return between(0, width)


def tiles(x: jax.Array) -> list[jax.Array]:
    """The tiles of XᵀX, at `places(inputs)`, of X (batch, samples, inputs)."""
    return [jnp.einsum("bsi,bsj->bij", x[..., i:j], x[..., k:n])
            for (i, j), (k, n) in places(x.shape[-1])]  # fmt: skip


def whole(found: Sequence[np.ndarray], where: Sequence[Place]) -> np.ndarray:
    """The symmetric matrices, (batch, inputs, inputs) in float64, of which tiles were found."""
    width = max(last for _, (_, last) in where)
    out = np.empty((len(found[0]), width, width))
    for ((i, j), (k, n)), tile in zip(where, found, strict=True):
        out[:, i:j, k:n] = tile
        out[:, k:n, i:j] = tile.swapaxes(1, 2)
    return out


def wide(x: jax.Array) -> jax.Array:
    """An array in the precision that products are taken in, float32 at least."""
    return x.astype(at_least_single(x.dtype))
