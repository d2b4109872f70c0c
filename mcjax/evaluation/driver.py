"""The driver of every evaluation: piece after piece of a family, block after block of data."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import _check
from .._compiled import compiled
from .._stream import Block, Stream
from .._tree import squared_distance
from ..path import Family
from ..path._base import first_of
from .pieces import Gathered, Piece
from .sharding import Sharded
from .sweep import Plan, Sums, sweep

# Leaf number → values of shape (T, …) that stand in for a piece's.
Replaced = Mapping[int, jax.Array]


@dataclasses.dataclass(frozen=True)
class Found:
    """What an evaluation has found at T points.

    - `values`: metric name → (T,) means
    - `lengths`: (T − 1,) distances between points that follow one another
    - `examples`: how many
    """

    values: Mapping[str, np.ndarray]
    lengths: np.ndarray
    examples: int


def run(
    plan: Plan,
    parts: Sequence[Piece | Gathered],
    n_points: int,
    stream: Stream,
    *,
    statistics: Callable[[Piece], Replaced],
    prepare: Callable[[Any, Any, int], Any],
    where: Callable[[int], str],
    mesh: Mesh | None = None,
    lengths: bool = True,
) -> Found:
    """Metrics of the points of a family over all data.

    Goes through the data once for each part.

    **Arguments:**
    - `parts`: those of a family, of `n_points` in all (see `pieces`)
    - `statistics`: piece (its points at hand) → what stands in for leaves of its points
    - `prepare`: (x, y, number of the first example) → what the model is given as x; raises for
      labels that are not the task's
    - `where`: number of a point → how a message names it
    - `lengths`: whether to measure distances
    """
    stream.passes(len(parts), f"a path in {len(parts)} pieces")
    values = {k: np.empty(n_points) for k in plan.task.metrics}
    broken, examples = np.zeros(n_points), 0
    measure = _Lengths(n_points) if lengths else None
    for planned in parts:
        piece = planned.at_hand()
        replaced = statistics(piece)
        if measure is not None:
            measure.add(piece)
        if mesh is None:
            step = _step(plan, piece, replaced)
        else:
            step = Sharded(mesh, plan, piece.family, piece.coordinates, replaced)
        total, examples = _over_blocks(step, stream, prepare)
        broken[piece.which] = total.broken
        for k, found in total.values.items():
            values[k][piece.which] = found / examples
    _warn_of_broken(broken, examples, where)
    return Found(values, np.zeros(0) if measure is None else measure.found, examples)


def _step(plan: Plan, piece: Piece, replaced: Replaced) -> Callable[..., Sums]:
    sums = compiled(sweep, plan, of=jax.tree.structure(piece.family))

    def step(x: Any, y: Any, weights: np.ndarray) -> Sums:
        x, y = jax.tree.map(jnp.asarray, (x, y))
        given = dict(replaced), x, y, jax.device_put(weights)
        return sums(piece.family, piece.coordinates, *given)

    return step


def _over_blocks(
    step: Callable[..., Sums],
    stream: Stream,
    prepare: Callable[[Any, Any, int], Any],
) -> tuple[Sums, int]:
    """(sums in float64 over all blocks, number of examples).

    The sums of a block are fetched when the next has been sent off: the device is never idle, and
    never holds more than two blocks.
    """
    total, examples = None, 0
    sent: tuple[Block, Sums] | None = None
    for block in stream.blocks():
        x, y = block.data
        sums = step(prepare(x, y, block.start), y, block.weights)
        examples += block.n
        if sent is not None:
            total = _fetched(total, *sent)
        sent = block, sums
    assert sent is not None
    return _fetched(total, *sent), examples


def _fetched(total: Sums | None, block: Block, sums: Sums) -> Sums:
    found = jax.tree.map(lambda v: np.asarray(v, np.float64), sums)
    if found.nan.any():
        _check.no_nan(block.data[0], "x")
        raise ValueError("x holds NaN")
    return found if total is None else jax.tree.map(np.add, total, found)


def _warn_of_broken(broken: np.ndarray, examples: int, where: Callable[[int], str]) -> None:
    first = np.flatnonzero(broken)
    if first.size:
        i = int(first[0])
        more = f", and at {first.size - 1} other points" if first.size > 1 else ""
        warnings.warn(
            f"metrics are not finite for {int(broken[i])} of {examples} examples at "
            f"{where(i)}{more}",
            stacklevel=6,
        )


class _Lengths:
    """Distances between points that follow one another, measured while they are at hand.

    - `waiting`: number of a distance → the one of its two points that has been at hand
    """

    def __init__(self, n: int) -> None:
        self.found = np.zeros(max(0, n - 1))
        self.waiting: dict[int, Any] = {}

    def add(self, piece: Piece) -> None:
        which, family = piece.which, piece.family
        measured = compiled(_distances, of=jax.tree.structure(family))
        inside, first, last = measured(family, piece.coordinates)
        follows = np.diff(which) == 1
        self.found[which[:-1][follows]] = np.asarray(inside, np.float64)[follows]
        self._meet(which[0] - 1, first)
        for k in np.flatnonzero(~follows):
            for i, number in ((k, which[k]), (k + 1, which[k + 1] - 1)):
                at = jax.tree.map(lambda v, i=i: v[i], piece.coordinates)
                self._meet(number, compiled(_point, of=jax.tree.structure(family))(family, at))
        self._meet(which[-1], last)

    def _meet(self, number: int, point: Any) -> None:
        """One of the two points of a distance."""
        if number in self.waiting:
            between = compiled(_distance)(self.waiting.pop(number), point)
            self.found[number] = np.asarray(between)
        elif 0 <= number < len(self.found):
            self.waiting[number] = point


def _point(family: Family, c: Any) -> Any:
    return family.at(c)


def _distances(family: Family, coordinates: Any) -> tuple[jax.Array, Any, Any]:
    """Distances from point to point, the first point and the last; each is computed once."""
    first = family.at(first_of(coordinates))

    def step(before, c):
        point = family.at(c)
        return point, _distance(before, point)

    last, found = jax.lax.scan(step, first, jax.tree.map(lambda v: v[1:], coordinates))
    return found, first, last


def _distance(a: Any, b: Any) -> jax.Array:
    return jnp.sqrt(squared_distance(a, b))
