"""How many threads BLAS and OpenMP take."""

from __future__ import annotations

import contextlib
import sys
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


_held = threading.Lock()


@contextlib.contextmanager
def one_if_small(n: int, small: int = _SMALL) -> Iterator[None]:
    """One BLAS thread for decompositions and products of n × n matrices, n ≤ `small`, where more
    cost time.

    The number is the process's. Of several that overlap the first sets it, and restores it when it
    leaves, in the same thread: threadpoolctl takes nothing from another one, and whoever came in
    between would restore what the first has set.
    """
    if n > small or not _held.acquire(blocking=False):
        yield
        return
    try:
        with _controller("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas"):
            yield
    finally:
        _held.release()


@contextlib.contextmanager
def one_if_few(numbers: int) -> Iterator[None]:
    """One thread of BLAS and OpenMP for classifiers of so many numbers, where it is enough.

    OpenMP's number is each thread's own; its libraries are looked for each time, as scikit-learn
    loads more of them.
    """
    if numbers > _FEW:
        yield
        return
    openmp = threadpoolctl.ThreadpoolController().select(user_api="openmp")
    with one_if_small(0), openmp.limit(limits=1):
        yield


@cache
def _controller(scipy: bool) -> Any:
    """Finding the libraries takes milliseconds: once for NumPy's, once when SciPy's own is loaded
    too."""
    return threadpoolctl.ThreadpoolController()


__all__ = ["one_if_few", "one_if_small"]
