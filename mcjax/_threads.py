"""How many threads BLAS takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from ._lazy import lazily

threadpoolctl = lazily("threadpoolctl")

# Decompositions of matrices no larger gain nothing by more threads, which spin while they wait.
_SMALL = 512


@contextlib.contextmanager
def one_if_small(n: int) -> Iterator[None]:
    """One BLAS thread for decompositions of n × n matrices, where more of them cost time."""
    if n > _SMALL:
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> Any:
    """Finding the libraries takes milliseconds: once, when NumPy's are loaded."""
    return threadpoolctl.ThreadpoolController()


__all__ = ["one_if_small"]
