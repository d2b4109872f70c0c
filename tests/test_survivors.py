"""Rows that advance together: sizes of batches, who leaves, who stays."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mcjax._survivors import advance, batches, begun


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000))
def test_a_batch_begins_with_a_quarter_more_rows_at_most(n):
    rows = begun(n)
    assert rows[:n].tolist() == list(range(n))
    assert not rows[n:].any()
    if n <= 8:  # the least power of two
        assert f"{len(rows):b}".count("1") == 1
        assert len(rows) < 2 * n
    else:
        assert 4 * len(rows) < 5 * n + 4
        assert len(f"{len(rows):b}".rstrip("0")) <= 3  # four sizes between two powers of two


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 100))
def test_batches_hold_every_row_once(n, chunk):
    made = batches(n, chunk)
    every = np.arange(n)
    assert np.concatenate([every[part] for part, _ in made]).tolist() == every.tolist()
    for part, rows in made:
        here = every[part]
        assert rows[: len(here)].tolist() == list(range(len(here)))
        assert rows.max() < len(here)
        assert len(rows) <= chunk
    assert len({len(rows) for _, rows in made[:-1]}) < 2
    if chunk <= 16:  # few rows are all of one size
        assert len({len(rows) for _, rows in made}) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=150), st.integers(1, 4))
def test_every_row_takes_the_steps_it_needs(needed, block):
    needed = np.array(needed)
    found, sizes = np.full(len(needed), -1), []

    def step(state, count):
        sizes.append(len(state))
        return state + count

    def look(going, at, state):
        found[going] = np.asarray(state)[at]
        return found[going] < needed[going]

    advance(jnp.zeros(len(begun(len(needed)))), len(needed), step, look, steps=100, block=block)
    assert found.tolist() == (-(-needed // block) * block).tolist()
    going = [int((needed > k * block).sum()) for k in range(len(sizes))]
    assert all(n <= size for n, size in zip(going, sizes, strict=True))
    assert sizes == sorted(sizes, reverse=True)
    for n, size in zip(going[1:], sizes[1:], strict=True):
        # Half of a quarter of it would not be enough, or is too little to be compiled for.
        assert 8 * n > size or size < 64
