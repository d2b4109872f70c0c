"""A path in the pieces that a sweep takes one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .. import _check
from ..path import Legs, Path
from ..path.legs import Known

_KNOWN_BYTES = 1 << 30
_T_BATCH_BYTES = 2 << 30


def time_grid(t: int | Any) -> np.ndarray:
    """t as an array of points: a number n ≥ 2 gives n evenly spaced ones, 1 gives t = 0."""
    if isinstance(t, int | np.integer) and not isinstance(t, bool):
        if t < 1:
            raise ValueError(f"t: a number of points must be at least 1, got {t}")
        return np.linspace(0.0, 1.0, int(t))
    ts = np.asarray(t, np.float64).reshape(-1)
    if ts.size == 0:
        raise ValueError("t holds no points")
    _check.interval(ts)
    return ts


def pieces(path: Path, ts: np.ndarray) -> Iterator[tuple[np.ndarray, Path, np.ndarray]]:
    """(which of `ts`, path, where on it): legs, and costly paths as points that are known.

    What a leg does not move is shared on the leg; a costly point is computed once, and as many
    are kept at a time as fit in 1 GiB.
    """
    if isinstance(path, Legs):
        for number, which, where in path.places(ts):
            for some, piece, at in pieces(path.legs[number], where):
                yield which[some], piece, at
    elif path.costly:
        for some in np.array_split(np.arange(len(ts)), -(-len(ts) * _bytes(path) // _KNOWN_BYTES)):
            yield some, Known(path, ts[some]), ts[some]
    else:
        yield np.arange(len(ts)), path, ts


def t_batch_for(path: Path, n: int, t_batch: int | None) -> int:
    """How many of n points are evaluated at once, if the user does not say."""
    if t_batch is not None:
        return _check.positive(t_batch, "t_batch")
    if jax.default_backend() == "cpu":
        return 1  # keeps the activations in cache: 2.3 times faster than vmap
    return max(1, min(n, _T_BATCH_BYTES // _bytes(path)))


def _bytes(path: Path) -> int:
    """Of one network on the path."""
    return sum(v.size * v.dtype.itemsize for v in jax.tree.leaves(jax.eval_shape(path.at, 0.0)))
