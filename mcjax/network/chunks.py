"""A data set taken a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._inputs import per_example, type_of


def starts(n: int, chunk: int) -> Callable:
    """Chunk number → (first example, how many of it an earlier chunk has had).

    The last chunk is moved back so that it is full: nothing is padded or copied.
    """

    def start(i):
        first = jnp.minimum(i * chunk, n - chunk)
        return first, i * chunk - first

    return start


def sizes(n: int, chunk: int) -> list[tuple[int, int]]:
    """(Examples in a chunk, number of such chunks): all n, in chunks of at most two sizes."""
    number = -(-n // chunk)
    small, more = divmod(n, number)
    return [(size, k) for size, k in ((small + 1, more), (small, number - more)) if k]


def types(x: Any, chunk: int) -> Any:
    """The types of a chunk of data."""
    whole = jax.tree.map(type_of, x)
    return per_example(lambda v: jax.ShapeDtypeStruct((chunk, *v.shape[1:]), v.dtype), whole)


def take(tree: Any, first, size: int) -> Any:
    """A chunk of data: some of the examples, and what all of them share."""
    return per_example(lambda v: jax.lax.dynamic_slice_in_dim(v, first, size), tree)


def at_once(size: int, n: int) -> int | None:
    """The `batch_size` of `jax.lax.map` over n items, `size` of them vmapped."""
    return None if size <= 1 else min(size, n)
