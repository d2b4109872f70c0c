"""How many threads BLAS and OpenMP take."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from ._lazy import lazily

threadpoolctl = lazily("threadpoolctl")

# Decompositions and products of matrices no larger gain little by more threads, which spin while
# they wait.
_SMALL = 512
# The same of nearest neighbours and logistic regressions on so many numbers.
_FEW = 1_000_000


_inside, _lock, _outer = 0, threading.Lock(), contextlib.ExitStack()


@contextlib.contextmanager
def one_if_small(n: int) -> Iterator[None]:
    """One BLAS thread for decompositions and products of n × n matrices, where more cost time.

    The number is the process's: whoever is last out of several that overlap restores it.
    """
    global _inside
    if n > _SMALL:
        yield
        return
    with _lock:
        if not _inside:
            _outer.enter_context(_controller().limit(limits=1, user_api="blas"))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _outer.close()


@contextlib.contextmanager
def one_if_few(numbers: int) -> Iterator[None]:
    """One thread of BLAS and OpenMP for classifiers of so many numbers, where it is enough.

    OpenMP's number is each thread's own; its libraries are looked for each time, as scikit-learn
    loads more of them.
    """
    if numbers > _FEW:
        yield
        return
    with one_if_small(0), threadpoolctl.threadpool_limits(1, user_api="openmp"):
        yield


@cache
def _controller() -> Any:
    """Finding the libraries takes milliseconds: once, when NumPy's are loaded."""
    return threadpoolctl.ThreadpoolController()


__all__ = ["one_if_few", "one_if_small"]
