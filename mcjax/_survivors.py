"""Rows of a batch that advance together, those that are done set aside as they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def advance(
    state: Any,
    n: int,
    step: Callable[[Any, int], Any],
    look: Callable[[np.ndarray, np.ndarray, Any], np.ndarray],
    *,
    steps: int,
    block: int,
    part: int = 2,
    least: int = 1,
) -> None:
    """Take steps in blocks, for as long as rows are going.

    Between blocks those that are done are set aside, and once the others fit into one part of the
    batch, a power of two, they alone go on (each size is compiled). So a row must not depend on
    those beside it.

    **Arguments:**
    - `state`: pytree whose leaves have `begun(n)` rows; scalars belong to all of them
    - `step`: (state, how many steps) → state
    - `look`: (which rows are going, where in the state they are, state) → whether each goes on;
      what is to be kept of them is its own business
    - `steps`: at most; `block`: steps between two looks
    - `part`: the batch shrinks where a `part`th of it is enough; `least`: not below so many rows
    """
    going = at = np.arange(n)
    size, taken = len(begun(n)), 0
    while taken < steps:
        count = min(block, steps - taken)
        state = step(state, count)
        taken += count
        on = look(going, at, state)
        going, at = going[on], at[on]
        if not len(going):
            return
        rows = _filled(at, max(least, 1 << (len(at) - 1).bit_length()))
        if len(rows) * part <= size:
            state, size, at = take(state, rows), len(rows), np.arange(len(going))


def begun(n: int) -> np.ndarray:
    """The n rows of a whole batch, the first repeated until their number has three leading bits.

    So there are four sizes between two powers of two: whoever has batches of many sizes has few
    programs compiled, and at most a quarter of the rows move for nothing.
    """
    step = max(1, 1 << (n - 1).bit_length() >> 3)
    return _filled(np.arange(n), -(-n // step) * step)


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    return np.r_[rows, np.full(size - len(rows), rows[0])]


def take(tree: Any, rows: np.ndarray) -> Any:
    """Some of the rows of every leaf that has rows."""
    return jax.tree.map(lambda v: v[rows] if jnp.ndim(v) else v, tree)


def most(chunk: int) -> int:
    """The greatest power of two that is no more than `chunk`."""
    return 1 << (chunk.bit_length() - 1)


__all__ = ["advance", "begun", "most", "take"]
