"""Rows of a batch that advance together, those that are done set aside as they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A batch shrinks to those that go on where a quarter of it is enough for them, and not below so
# many rows: each size is compiled, which takes longer than what is saved.
_PART, _LEAST = 4, 16


def advance(
    state: Any,
    n: int,
    step: Callable[[Any, int], Any],
    look: Callable[[np.ndarray, np.ndarray, Any], np.ndarray],
    *,
    steps: int,
    block: int,
) -> None:
    """Take steps in blocks, for as long as rows are going.

    Between blocks those that are done are set aside, and once the others fit into a quarter of the
    batch, a power of two, they alone go on. So a row must not depend on those beside it.

    **Arguments:**
    - `state`: pytree whose leaves have as many rows, n or more; scalars belong to all of them
    - `step`: (state, how many steps) → state
    - `look`: (which rows are going, where in the state they are, state) → whether each goes on;
      what is to be kept of them is its own business
    - `steps`: at most; `block`: steps between two looks
    """
    going = at = np.arange(n)
    size = next(len(v) for v in jax.tree.leaves(state) if jnp.ndim(v))
    taken = 0
    while taken < steps:
        count = min(block, steps - taken)
        state = step(state, count)
        taken += count
        on = look(going, at, state)
        going, at = going[on], at[on]
        if not len(going):
            return
        rows = _filled(at, max(_LEAST, 1 << (len(at) - 1).bit_length()))
        if len(rows) * _PART <= size:
            state, size, at = take(state, rows), len(rows), np.arange(len(going))


def begun(n: int) -> np.ndarray:
    """The n rows of a whole batch, the first repeated until their number has three leading bits.

    So there are four sizes between two powers of two, and up to 8 the powers alone: whoever has
    batches of many sizes has few programs compiled, and of more than 8 rows at most a quarter move
    for nothing.
    """
    over = 1 << (n - 1).bit_length()
    step = over if n <= 8 else over >> 3
    return _filled(np.arange(n), -(-n // step) * step)


def batches(n: int, chunk: int) -> list[tuple[slice, np.ndarray]]:
    """n rows in batches: which of them, and the rows of the batch, some repeated.

    A batch has the greatest power of two of rows that is no more than `chunk`, the last one
    `begun` rows. Batches of few rows are all full, as they would be hardly quicker.
    """
    size = 1 << (chunk.bit_length() - 1)
    found = []
    for first in range(0, n, size):
        count = min(size, n - first)
        rows = _filled(np.arange(count), size) if size <= _LEAST else begun(count)
        found.append((slice(first, first + count), rows))
    return found


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    return np.r_[rows, np.full(size - len(rows), rows[0])]


@jax.jit
def take(tree: Any, rows: Any) -> Any:
    """Some of the rows of every leaf that has rows."""
    return jax.tree.map(lambda v: v[rows] if jnp.ndim(v) else v, tree)


__all__ = ["advance", "batches", "begun", "take"]
