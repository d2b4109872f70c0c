"""One BLAS thread for small matrices, whoever asks for it at the same time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import threadpoolctl

from mcjax._threads import one_if_few, one_if_small


def limits():
    return {v["num_threads"] for v in threadpoolctl.threadpool_info() if v["user_api"] == "blas"}


def lifted(before):
    """Whether the limit is what it was, once threads that earlier tests have left are out, too."""
    for _ in range(100):
        if limits() == before:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("kinds", [(one_if_small, one_if_small), (one_if_few, one_if_small),
                                   (one_if_small, one_if_few)])  # fmt: skip
def test_overlapping_limits_are_lifted_by_the_last(kinds):
    before, seen = limits(), []
    started, half, ended = Barrier(2), Barrier(2), Barrier(2)

    def hold(last):
        started.wait(10)
        if last:
            half.wait(10)  # enters second, leaves last
        with kinds[last](8):
            if not last:
                half.wait(10)
            ended.wait(10)
            seen.append(limits())
        return last

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(hold, (False, True))) == [False, True]
    assert seen == [{1}, {1}]
    assert lifted(before)
    with one_if_small(10**6):
        assert lifted(before)
