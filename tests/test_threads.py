"""One BLAS thread for small matrices, whoever asks for it at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
import threadpoolctl

from mcjax._threads import one_if_few, one_if_small


def limits():
    return {v["num_threads"] for v in threadpoolctl.threadpool_info() if v["user_api"] == "blas"}


@pytest.mark.parametrize("kinds", [(one_if_small, one_if_small), (one_if_few, one_if_small),
                                   (one_if_small, one_if_few)])  # fmt: skip
@pytest.mark.parametrize("first", [False, True])
def test_limits_that_overlap_are_lifted(kinds, first):
    """Whichever of two threads leaves first."""
    before, seen = limits(), []
    started, half, both = Barrier(2), Barrier(2), Barrier(2)
    ended = Event()

    def hold(second):
        started.wait(10)
        if second:
            half.wait(10)  # enters when the other one is inside
        with kinds[second](8):
            if not second:
                half.wait(10)
            both.wait(10)
            seen.append(limits())
            both.wait(10)
            if second != first:
                ended.wait(10)
        ended.set()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(hold, (False, True)))
    assert seen == [{1}, {1}]
    assert limits() == before
    with one_if_small(10**6):
        assert limits() == before
