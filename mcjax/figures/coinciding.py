"""Lines that coincide, striped in the colours of all: none hides another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# How far apart lines are at the most that look like one, as a share of what is drawn: half a line.
_NEAR = 0.007


def coinciding(
    lines: Sequence[tuple[Any, Any]], height: float | None = None
) -> list[tuple[int, int]]:
    """Which lines look like one, so that they can be striped.

    **Arguments:**
    - `lines`: (x, y) of each, (T,) arrays, x ascending; lines of other x are compared between
    - `height`: of what is drawn, in units of y; default: of all lines

    **Returns:** for each line (k, n): it is number k of n that coincide; (0, 1) where it is alone.

        >>> from mcjax.figures.coinciding import coinciding
        >>> t = [0.0, 0.5, 1.0]
        >>> coinciding([(t, [0, 2, 0]), (t, [0, 1, 0]), (t, [0, 2.001, 0])])
        [(0, 2), (0, 1), (1, 2)]
    """
    height = height_of(y for _, y in lines) if height is None else height
    groups: list[list[int]] = []
    for i, line in enumerate(lines):
        near = (g for g in groups if _alike(lines[g[0]], line, _NEAR * height))
        group = next(near, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    place = {i: (k, len(group)) for group in groups for k, i in enumerate(group)}
    return [place[i] for i in range(len(lines))]


def height_of(values: Iterable[Any]) -> float:
    """How far apart the greatest and the least of all finite values are."""
    every = np.concatenate([np.zeros(0), *(np.asarray(v, float).ravel() for v in values)])
    known = every[np.isfinite(every)]
    return float(known.max() / 2 - known.min() / 2) * 2 if known.size else 0.0


def _alike(one: tuple[Any, Any], other: tuple[Any, Any], tolerance: float) -> bool:
    """Whether one line is nowhere further from another; gaps are where the other's are."""
    (x, y), (u, v) = ((np.asarray(a, float), np.asarray(b, float)) for a, b in (one, other))
    if not np.array_equal(x, u):
        every = np.union1d(x, u)
        y, v = np.interp(every, x, y), np.interp(every, u, v)
    there = np.isfinite(y)
    if not there.any() or not np.array_equal(there, np.isfinite(v)):
        return False
    # Halves: the difference of numbers near the largest that there is may be none.
    return bool(np.all(np.abs(y[there] / 2 - v[there] / 2) <= min(tolerance, 1e308) / 2))


def stripes(k: int, n: int, length: float) -> tuple[float, tuple[float, float]]:
    """(Offset, (drawn, left out)) of the dashes of line k of n that coincide.

    >>> stripes(1, 3, 4.0)
    (8.0, (4.0, 8.0))
    """
    return (n - k) % n * length, (length, (n - 1) * length)


__all__ = ["coinciding", "height_of", "stripes"]
