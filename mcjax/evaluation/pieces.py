"""A family in the pieces that a sweep takes one after the other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from ..path import Family, Path, Points
from ..path._base import count, type_at

_POINTS_BYTES = 1 << 30
_T_BATCH_BYTES = 2 << 30


def time_grid(t: int | Any) -> np.ndarray:
    """t as an array of points: a number n ≥ 2 gives n evenly spaced ones, both ends included."""
    if isinstance(t, int | np.integer) and not isinstance(t, bool):
        if t < 2:
            raise ValueError(
                f"t: a number of points, both ends included, must be at least 2, got {t}; for the "
                "network at one t pass an array, t=[1.0]"
            )
        return np.linspace(0.0, 1.0, int(t))
    try:
        if t is None or isinstance(t, bool):
            raise TypeError
        ts = np.asarray(t, np.float64).reshape(-1)
    except (TypeError, ValueError):
        kind = type(t).__name__
        raise ValueError(f"t must be a number of points or an array of them, got {kind}") from None
    if ts.size == 0:
        raise ValueError("t holds no points")
    _check.interval(ts)
    falls = np.flatnonzero(np.diff(ts) < 0)
    if falls.size:
        i = falls[0]
        raise ValueError(
            f"t must not fall: t[{i + 1}] = {ts[i + 1]:g} comes after t[{i}] = {ts[i]:g}; sort it "
            "(np.sort), or ask mcjax.evaluation.evaluate_points for values in any order"
        )
    return ts


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a family to be swept at once: `which` of all coordinates, and where they are."""

    which: np.ndarray
    family: Family
    coordinates: Any

    def at_hand(self) -> Piece:
        return self


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Pieces whose points are computed, each once, and swept together by one program."""

    of: tuple[Piece, ...]

    def at_hand(self) -> Piece:
        which = np.concatenate([p.which for p in self.of])
        points = [p.family.all_at(p.coordinates) for p in self.of]
        # On the host: on the device every combination of pieces would be a program of its own.
        joined = points[0] if len(points) == 1 else jax.tree.map(_joined, *points)
        family = Points(jax.device_put(joined))
        return Piece(which, family, jnp.arange(len(which)))


def _joined(*parts: Any) -> np.ndarray:
    return np.concatenate([np.asarray(v) for v in parts])


def pieces(
    family: Family, coordinates: Any, pays: Callable[[Family, Any], bool]
) -> list[Piece | Gathered]:
    """A family as it is swept: what shares enough by itself, the points of all else together.

    Of points that are computed beforehand as many are at hand as fit in 1 GiB.

    **Arguments:**
    - `pays`: (part of the family, where on it) → whether what its points share is worth a program
      of its own; asked only if there are several parts
    """
    parts = family.pieces(coordinates)
    alone: list[Piece | Gathered] = []
    together: list[Piece] = []
    for which, part, where in parts:
        piece = Piece(which, part, as_coordinates(part, where))
        if not part.costly and (len(parts) == 1 or pays(part, piece.coordinates)):
            alone.append(piece)
        else:
            together.append(piece)
    return alone + [Gathered(tuple(some)) for some in _groups(together)]


def _groups(parts: list[Piece]) -> list[list[Piece]]:
    """The points of all parts in groups of (almost) equally many."""
    if not parts:
        return []
    n = sum(len(p.which) for p in parts)
    number = math.ceil(n * bytes_of(parts[0].family, parts[0].coordinates) / _POINTS_BYTES)
    ends = np.cumsum([len(some) for some in np.array_split(np.arange(n), number)])
    groups: list[list[Piece]] = [[] for _ in ends]
    first = 0
    for p in parts:
        group = np.searchsorted(ends, first + np.arange(len(p.which)), side="right")
        for k in np.unique(group):
            some = np.flatnonzero(group == k)
            at = jax.tree.map(lambda v, i=some: v[i], p.coordinates)
            groups[k].append(Piece(p.which[some], p.family, at))
        first += len(p.which)
    return groups


def as_coordinates(family: Family, coordinates: Any) -> Any:
    """Coordinates as arrays of JAX's; those of a path as floats."""
    if isinstance(family, Path):
        return jnp.asarray(coordinates, jnp.result_type(float))
    numbers = isinstance(coordinates, list | tuple) and np.ndim(coordinates[0]) == 0
    return jax.tree.map(jnp.asarray, np.asarray(coordinates) if numbers else coordinates)


def t_batch_for(family: Family, coordinates: Any, t_batch: int | None) -> int:
    """How many of the points are evaluated at once, if the user does not say."""
    if t_batch is not None:
        return _check.positive(t_batch, "t_batch")
    if jax.default_backend() == "cpu":
        return 1  # keeps the activations in cache: 2.3 times faster than vmap
    return max(1, min(count(coordinates), _T_BATCH_BYTES // bytes_of(family, coordinates)))


def bytes_of(family: Family, coordinates: Any) -> int:
    """Of one network of the family."""
    leaves = jax.tree.leaves(type_at(family, coordinates))
    return sum(v.size * v.dtype.itemsize for v in leaves)
