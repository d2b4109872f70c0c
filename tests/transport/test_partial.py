"""Partial assignments against all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcjax.transport import partial_assignment


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_against_enumeration(n, m, data):
    pairs = data.draw(st.integers(0, min(n, m)))
    entries = st.integers(-9, 9)
    profit = np.array(data.draw(st.lists(entries, min_size=n * m, max_size=n * m))).reshape(n, m)
    found = partial_assignment(profit, pairs)
    assert found.shape == (pairs, 2)
    rows, columns = found.T
    assert len({*rows}) == len({*columns}) == pairs
    assert (np.diff(rows) > 0).all()
    best = max(
        sum(profit[i, j] for i, j in zip(some, order, strict=True))
        for some in itertools.combinations(range(n), pairs)
        for order in itertools.permutations(range(m), pairs)
    )
    assert profit[rows, columns].sum() == best


@pytest.mark.parametrize("bad", [{"pairs": 3}, {"pairs": -1}, {"profit": [1.0, 2.0]},
                                 {"profit": [[1.0, np.nan], [0.0, 0.0]]}])  # fmt: skip
def test_bad_input(bad):
    with pytest.raises(ValueError, match=r"pairs|profit"):
        partial_assignment(**({"profit": [[1.0, 2.0], [0.0, 1.0]], "pairs": 1} | bad))
