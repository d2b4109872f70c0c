"""Paths layer by layer, with butterflies or weight adjustment (anokhin2020, Sec. 3.5 and 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import jax
import numpy as np

from .. import _check
from .._static import pack
from .._tree import is_inexact
from .._types import Params
from ..adjust.adjustment import Solved, solve_along
from ..adjust.moments import Wanted
from ..adjust.stages import Plan, Stage
from ..network.axes import Atom
from ..path import Knots, Legs, Partial, Path
from ..path import Linear as Segment
from .motions import Linear, Motion, arrays
from .problem import Connection, Leg, Method, Problem

Leaves = list[Any]


@dataclasses.dataclass(frozen=True)
class WeightAdjustment:
    """What reads a group is solved for along the leg, for A's outputs (anokhin2020, Sec. 3.5).

    W(t) = W^A φ^A [φ(t)]⁺ (Eq. 9 and 10), by least squares at evenly spaced t and straight in
    between; on x, more examples of it than the layer has units.

    - `points`: number of t of a leg at which layers are solved for, both ends among them
    """

    points: int = 11

    label = "WA"
    section = "Sec. 3.5"

    def __post_init__(self) -> None:
        if _check.positive(self.points, "points") < 2:
            raise ValueError("points must be at least 2: both ends of a leg")

    def times(self) -> np.ndarray | None:
        """The t of a leg at which readers are solved for."""
        return np.linspace(0, 1, self.points)


@dataclasses.dataclass(frozen=True)
class Butterfly:
    """What reads a group moves as what writes it does: whole butterflies (anokhin2020, Sec. 4.1).

    Layers are solved for at the ends of legs only.
    """

    label = "B-fly"
    section = "Sec. 4.1"

    def times(self) -> np.ndarray | None:
        """None: readers are not solved for along a leg."""
        return None


@dataclasses.dataclass(frozen=True, repr=False)
class LayerByLayer(Method):
    """From A to B group by group, so that in between the outputs stay A's (anokhin2020, Sec. 4).

    Θ_A → Θ_2 → … → Θ_n → Θ_B: on each leg what is written into one group of units (those of a
    residual stream together) turns from A's to B's, and the layers that read it follow. The
    path is a `mcjax.path.Legs`. With one hidden layer butterflies give the plain motion.

    - `motion`: how what is written moves: `Linear()`, `Arc()` or `OT()`, which also brings the
      group's units into A's order
    - `reader`: how what reads it follows: `WeightAdjustment()` or `Butterfly()`
    """

    motion: Motion = dataclasses.field(default_factory=Linear)
    reader: WeightAdjustment | Butterfly = WeightAdjustment()

    needs_inputs = "all"

    def __post_init__(self) -> None:
        if not isinstance(self.motion, Motion):
            raise ValueError(
                "motion must be mcjax.methods.Linear(), Arc() or OT(), or another "
                f"mcjax.methods.Motion, got {self.motion!r}"
            )
        if not callable(getattr(self.reader, "times", None)):
            raise ValueError(
                "reader must be mcjax.methods.WeightAdjustment() or Butterfly(), got "
                f"{self.reader!r}"
            )

    @property
    def label(self) -> str:
        return f"{self.motion.label} + {self.reader.label}"

    @property
    def source(self) -> str:
        return f"anokhin2020, {self.reader.section}"

    @property
    def moves_end(self) -> bool:
        return self.motion.moves_end

    def connect(self, problem: Problem) -> Connection:
        builder = _Builder(problem, self.motion, self.reader.times())
        path = builder.path()
        return Connection(path, builder.permutations, builder.status(), tuple(builder.legs))


class _Builder:
    """Builds the legs from A to B (or to B with its units permuted), stage by stage.

    - `ts`: the t of a leg at which readers are solved for, None if they move along
    - `permutations`, `legs`: filled on the way
    """

    def __init__(self, problem: Problem, motion: Motion, ts: np.ndarray | None) -> None:
        self.network, self.x = problem.network, problem.x
        self.a, self.b = pack(problem.a, "a"), pack(problem.b, "b")
        self.motion, self.ts = motion, ts
        self.plan = Plan(self.network)
        self.legs: list[Leg] = []
        self.permutations: dict[str, np.ndarray] = {}
        self.statuses: list[str] = []

    def status(self) -> str:
        """The least that is true of the matchings of the stages, else how layers were found."""
        if len(self.statuses) > 1:  # each is matched with those before it held
            worse = [s for s in self.statuses if s not in ("optimal", "local optimum")]
            return worse[0] if worse else "local optimum"
        return (self.statuses or ["least squares" if self.legs else "closed form"])[0]

    def path(self) -> Legs:
        """The whole path."""
        now, turned = self._leaves(self.a), frozenset[Atom]()
        legs: list[Path] = []
        stages = self.plan.stages
        for i, stage in enumerate(stages):
            turned |= stage.groups
            straight = self.ts is None and i == len(stages) - 1
            new, now = self._stage(stage, now, turned, straight)
            legs += new
        end = self._leaves(self.b)
        if moved := _differing(now, end):
            last = Segment(arrays(now, moved), arrays(end, moved))
            legs.append(self._partial(now, [(moved, last)]))
        return Legs(legs or [Segment(self.a, self.b)])

    # -- a stage ---------------------------------------------------------------------------

    def _stage(
        self, stage: Stage, now: Leaves, turned: Collection[Atom], straight: bool
    ) -> tuple[list[Path], Leaves]:
        """The legs of a stage, and the leaves at its end."""
        end = self._leaves(self.b) if straight else self._end(stage, now, turned)
        readers = [self._weight(n) for n in stage.readers]
        if self.motion.moves_end:
            chosen = _differing(now, end)
            if self.ts is not None:
                chosen = [i for i in chosen if i not in readers]
            end = self._ordered(stage, now, end, chosen)
        if self.ts is None:
            moved = _differing(now, end)
            return [self._partial(now, [(moved, self._move(stage, now, end, moved))])], end
        return self._adjusted(stage, now, end, turned, self.ts)

    def _end(self, stage: Stage, now: Leaves, turned: Collection[Atom]) -> Leaves:
        """The leaves at the end of a stage: Θ_k of the paper.

        Readers are solved for here only if they are not solved for along the way.
        """
        end = self.plan.mixed(self._leaves(self.a), self._leaves(self.b), turned)
        touched = {self._weight(n) for n in (*stage.writers, *stage.readers)}
        for leaf, number in self.plan.weights.items():
            if leaf not in touched and not self.plan.exact(number, turned):
                end[leaf] = now[leaf]  # solved for in an earlier stage, and not concerned by this
        todo = [*stage.writers, *(stage.readers if self.ts is None else ())]
        wanted = [self._wanted(n, turned) for n in todo if not self.plan.exact(n, turned)]
        if wanted:
            forced = [self._wanted(n, turned) for n in (*stage.writers, *stage.readers)]
            solved = self._solve(stage, Partial(self._tree(end), ()), [0.0], wanted, forced)
            for leaf, values in solved.leaves.items():
                end[leaf] = jax.device_put(values[0])
        return end

    def _adjusted(
        self, stage: Stage, now: Leaves, end: Leaves, turned: Collection[Atom], ts: np.ndarray
    ) -> tuple[list[Path], Leaves]:
        """Writers move, readers are solved for at points of the leg, with legs to and from it."""
        readers = [self._weight(n) for n in stage.readers]
        moved = [i for i in _differing(now, end) if i not in readers]
        if not moved:
            return [], now
        part = (moved, self._move(stage, now, end, moved))
        if not readers:
            return [self._partial(now, [part])], end
        wanted = [self._wanted(n, turned) for n in stage.readers]
        solved = self._solve(stage, self._partial(now, [part]), ts, wanted, ())
        knots = [solved.leaves[i] for i in readers]
        first, last = (jax.device_put([k[i] for k in knots]) for i in (0, -1))
        along = Knots(jax.device_put(knots))
        legs: list[Path] = [
            self._partial(now, [(readers, Segment(arrays(now, readers), first))]),
            self._partial(_replace(now, readers, first), [part, (readers, along)]),
        ]
        after = _replace(end, readers, last)
        exact = [w for n, w in zip(stage.readers, readers, strict=True)
                 if self.plan.exact(n, turned)]  # fmt: skip
        if exact:
            to = Segment(arrays(after, exact), arrays(end, exact))
            legs.append(self._partial(after, [(exact, to)]))
            after = _replace(after, exact, arrays(end, exact))
        return legs, after

    def _move(self, stage: Stage, now: Leaves, end: Leaves, moved: Sequence[int]) -> Path:
        trees = self._tree(now), self._tree(end)
        middle = self.motion.between(self.network, *trees, self._names(stage))
        if middle is not None:
            middle = arrays(jax.tree.leaves(middle), moved)
        return self.motion.path(arrays(now, moved), arrays(end, moved), middle)

    def _ordered(self, stage: Stage, now: Leaves, end: Leaves, chosen: Sequence[int]) -> Leaves:
        """The end of the stage with its units in the motion's order; B is permuted too."""
        names = self._names(stage)
        trees = self._tree(now), self._tree(end)
        matching = self.motion.match(self.network, *trees, names, chosen)
        if matching is None:
            return end
        found = {n: matching.permutations[n] for n in names}
        self.permutations |= found
        self.statuses.append(matching.status)
        self.b = self.network.permute(found, self.b)
        return self._leaves(self.network.permute(found, trees[1]))

    def _solve(
        self, stage: Stage, path: Path, ts: Any, wanted: Sequence[Wanted], forced: Sequence[Wanted]
    ) -> Solved:
        solved = solve_along(
            self.network, path, ts, wanted, (self.a, self.b), self.x, forced=forced
        )
        names = [self.network.layers[w.layer].name for w in wanted]
        by_layer = {n: [s[i] for s in solved.status] for i, n in enumerate(names)}
        self.legs.append(Leg(tuple(self._names(stage)), np.asarray(ts), by_layer))
        return solved

    def _names(self, stage: Stage) -> list[str]:
        """The names of the groups of a stage."""
        return [self.network.by_atom[atom].name for atom in stage.groups]

    # -- leaves ----------------------------------------------------------------------------

    def _wanted(self, number: int, turned: Collection[Atom]) -> Wanted:
        return Wanted(number, self.plan.like(number, turned))

    def _weight(self, number: int) -> int:
        return self.network.layers[number].contraction.weight

    def _leaves(self, params: Params) -> Leaves:
        return self.network.flatten(params, "params")

    def _tree(self, leaves: Leaves) -> Params:
        return jax.tree.unflatten(self.network.treedef, leaves)

    def _partial(self, base: Leaves, parts: Sequence[tuple[Sequence[int], Path]]) -> Partial:
        return Partial(self._tree(jax.device_put(base)), parts)


def _differing(a: Leaves, b: Leaves) -> list[int]:
    """Numbers of the float leaves that are not the same."""

    def differ(x: Any, y: Any) -> bool:
        # In NumPy: JAX compiles a program for each shape.
        return x is not y and is_inexact(x) and bool((np.asarray(x) != np.asarray(y)).any())

    return [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if differ(x, y)]


def _replace(leaves: Leaves, which: Sequence[int], values: Sequence[Any]) -> Leaves:
    out = list(leaves)
    for i, value in zip(which, values, strict=True):
        out[i] = value
    return out


__all__ = ["Butterfly", "LayerByLayer", "WeightAdjustment"]
