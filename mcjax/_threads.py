"""How many threads BLAS and OpenMP take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from ._lazy import lazily

threadpoolctl = lazily("threadpoolctl")

# Decompositions of matrices no larger gain nothing by more threads, which spin while they wait.
_SMALL = 512
# The same of nearest neighbours and logistic regressions on so many numbers.
_FEW = 1_000_000


@contextlib.contextmanager
def one_if_small(n: int) -> Iterator[None]:
    """One BLAS thread for decompositions of n × n matrices, where more of them cost time."""
    if n > _SMALL:
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


def one_if_few(numbers: int) -> AbstractContextManager[Any]:
    """One thread of BLAS and OpenMP for classifiers of so many numbers, where it is enough.

    The libraries are looked for each time, as scikit-learn loads more of them.
    """
    if numbers > _FEW:
        return contextlib.nullcontext()
    return threadpoolctl.threadpool_limits(1)


@cache
def _controller() -> Any:
    """Finding the libraries takes milliseconds: once, when NumPy's are loaded."""
    return threadpoolctl.ThreadpoolController()


__all__ = ["one_if_few", "one_if_small"]
