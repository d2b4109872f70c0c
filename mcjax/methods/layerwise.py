"""Paths layer by layer, with butterflies or weight adjustment (anokhin2020, Sec. 3.5 and 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._tree import is_inexact
from .._types import Params
from ..adjust.adjustment import LayerStatus, Solved, solve_along
from ..adjust.moments import Wanted
from ..adjust.stages import Plan, Stage
from ..align import match_butterflies
from ..network.axes import Atom
from ..network.network import Network
from ..path import Arc, Knots, Legs, Linear, Partial, Path
from ..transport import Exact, Solver
from .arc import neuron_mean

Leaves = list[Any]


@dataclasses.dataclass(frozen=True)
class Leg:
    """How a leg came about: its stage's groups, and the state of each layer solved at each t."""

    groups: tuple[str, ...]
    t: np.ndarray
    layers: Mapping[str, list[LayerStatus]]


@dataclasses.dataclass
class Layerwise:
    """Builds the legs from A to B (or to B with its units permuted), stage by stage.

    - `motion`: how what is written into the groups moves: `"linear"`, `"arc"`, `"ot"`
    - `adjusting`: whether the readers are solved for along the way (else they move along)
    - `points`: number of t of a leg at which they are solved for
    - `solver`: of the transport
    """

    network: Network
    a: Params
    b: Params
    x: Any
    motion: str
    adjusting: bool
    points: int
    solver: Solver = Exact()

    def __post_init__(self) -> None:
        self.plan = Plan(self.network)
        self.status: list[Leg] = []
        self.permutations: dict[str, np.ndarray] = {}

    def path(self) -> Legs:
        """The whole path; `permutations` and `status` are filled on the way."""
        now, turned = self._leaves(self.a), frozenset[Atom]()
        legs: list[Path] = []
        stages = self.plan.stages
        for i, stage in enumerate(stages):
            turned |= stage.groups
            straight = not self.adjusting and i == len(stages) - 1
            new, now = self._stage(stage, now, turned, straight)
            legs += new
        end = self._leaves(self.b)
        if moved := _differing(now, end):
            legs.append(self._partial(now, [(moved, Linear(_pick(now, moved), _pick(end, moved)))]))
        return Legs(legs or [Linear(self.a, self.b)])

    # -- a stage ---------------------------------------------------------------------------

    def _stage(
        self, stage: Stage, now: Leaves, turned: Collection[Atom], straight: bool
    ) -> tuple[list[Path], Leaves]:
        """The legs of a stage, and the leaves at its end."""
        end = self._leaves(self.b) if straight else self._end(stage, now, turned)
        readers = [self._weight(n) for n in stage.readers]
        if self.motion == "ot":
            chosen = _differing(now, end)
            if self.adjusting:
                chosen = [i for i in chosen if i not in readers]
            end = self._transport(stage, now, end, chosen)
        if not self.adjusting:
            moved = _differing(now, end)
            return [self._partial(now, [(moved, self._move(stage, now, end, moved))])], end
        return self._adjusted(stage, now, end, turned)

    def _end(self, stage: Stage, now: Leaves, turned: Collection[Atom]) -> Leaves:
        """The leaves at the end of a stage: Θ_k of the paper.

        Readers are solved for here only if they are not solved for along the way.
        """
        end = self.plan.mixed(self._leaves(self.a), self._leaves(self.b), turned)
        touched = {self._weight(n) for n in (*stage.writers, *stage.readers)}
        for leaf, number in self.plan.weights.items():
            if leaf not in touched and not self.plan.exact(number, turned):
                end[leaf] = now[leaf]  # solved for in an earlier stage, and not concerned by this
        todo = [*stage.writers, *(() if self.adjusting else stage.readers)]
        wanted = [self._wanted(n, turned) for n in todo if not self.plan.exact(n, turned)]
        if wanted:
            forced = [self._wanted(n, turned) for n in (*stage.writers, *stage.readers)]
            solved = self._solve(stage, Partial(self._tree(end), ()), [0.0], wanted, forced)
            for leaf, values in solved.leaves.items():
                end[leaf] = np.asarray(values[0])
        return end

    def _adjusted(
        self, stage: Stage, now: Leaves, end: Leaves, turned: Collection[Atom]
    ) -> tuple[list[Path], Leaves]:
        """Writers move, readers are solved for at points of the leg, with legs to and from it."""
        readers = [self._weight(n) for n in stage.readers]
        moved = [i for i in _differing(now, end) if i not in readers]
        if not moved:
            return [], now
        part = (moved, self._move(stage, now, end, moved))
        if not readers:
            return [self._partial(now, [part])], end
        ts = np.linspace(0, 1, self.points)
        wanted = [self._wanted(n, turned) for n in stage.readers]
        solved = self._solve(stage, self._partial(now, [part]), ts, wanted, ())
        knots = [solved.leaves[i] for i in readers]
        first, last = ([np.asarray(k[i]) for k in knots] for i in (0, -1))
        legs: list[Path] = [
            self._partial(now, [(readers, Linear(_pick(now, readers), first))]),
            self._partial(_replace(now, readers, first), [part, (readers, Knots(knots))]),
        ]
        after = _replace(end, readers, last)
        exact = [w for n, w in zip(stage.readers, readers, strict=True)
                 if self.plan.exact(n, turned)]  # fmt: skip
        if exact:
            to = Linear(_pick(after, exact), _pick(end, exact))
            legs.append(self._partial(after, [(exact, to)]))
            after = _replace(after, exact, _pick(end, exact))
        return legs, after

    def _move(self, stage: Stage, now: Leaves, end: Leaves, moved: Sequence[int]) -> Path:
        if self.motion != "arc":
            return Linear(_pick(now, moved), _pick(end, moved))
        names = [self.network.by_atom[atom].name for atom in stage.groups]
        mean = neuron_mean(self.network, self._tree(now), self._tree(end), names)
        return Arc(_pick(now, moved), _pick(end, moved), _pick(jax.tree.leaves(mean), moved))

    def _transport(self, stage: Stage, now: Leaves, end: Leaves, chosen: Sequence[int]) -> Leaves:
        """The end of the stage with its units matched to those of its start; B is permuted too."""
        names = [self.network.by_atom[atom].name for atom in stage.groups]
        matching = match_butterflies(
            self.network, self._tree(now), self._tree(end),
            solver=self.solver, groups=names, leaves=chosen,
        )  # fmt: skip
        found = {n: matching.permutations[n] for n in names}
        self.permutations |= found
        self.b = self.network.permute(found, self.b)
        return self._leaves(self.network.permute(found, self._tree(end)))

    def _solve(
        self, stage: Stage, path: Path, ts: Any, wanted: Sequence[Wanted], forced: Sequence[Wanted]
    ) -> Solved:
        solved = solve_along(
            self.network, path, ts, wanted, (self.a, self.b), self.x, forced=forced
        )
        names = [self.network.layers[w.layer].name for w in wanted]
        by_layer = {n: [s[i] for s in solved.status] for i, n in enumerate(names)}
        groups = tuple(self.network.by_atom[atom].name for atom in stage.groups)
        self.status.append(Leg(groups, np.asarray(ts), by_layer))
        return solved

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
        return Partial(self._tree([jnp.asarray(v) for v in base]), parts)


def _differing(a: Leaves, b: Leaves) -> list[int]:
    """Numbers of the float leaves that are not the same."""
    pairs = enumerate(zip(a, b, strict=True))
    return [i for i, (x, y) in pairs if x is not y and is_inexact(x) and (x != y).any()]


def _pick(leaves: Sequence[Any], which: Sequence[int]) -> list[jax.Array]:
    return [jnp.asarray(leaves[i]) for i in which]


def _replace(leaves: Leaves, which: Sequence[int], values: Sequence[Any]) -> Leaves:
    out = list(leaves)
    for i, value in zip(which, values, strict=True):
        out[i] = value
    return out


__all__ = ["Layerwise", "Leg"]
