"""One BLAS thread for small matrices, whoever asks for it at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import threadpoolctl

from mcjax._threads import one_if_small


def limits():
    return {v["num_threads"] for v in threadpoolctl.threadpool_info() if v["user_api"] == "blas"}


def test_overlapping_limits_are_lifted_by_the_last():
    before, seen = limits(), []
    started, half, ended = Barrier(2), Barrier(2), Barrier(2)

    def hold(last):
        started.wait(10)
        if last:
            half.wait(10)  # enters second, leaves last
        with one_if_small(8):
            if not last:
                half.wait(10)
            ended.wait(10)
            seen.append(limits())
        return last

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(hold, (False, True))) == [False, True]
    assert seen == [{1}, {1}]
    assert limits() == before
    with one_if_small(10**6):
        assert limits() == before
