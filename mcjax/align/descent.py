"""The search behind weight matching: settle, coordinate descent, block moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..network.axes import Atom, atoms
from ..network.network import Network
from ..symmetry.permutation import compose, invert
from ..transport.groups import beside
from ..transport.solution import LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver
from ..transport.terms import clusters, identity
from .arrays import Arrays, inner_product, scaled
from .parameters import Products, move

MAX_SWEEPS = 100
# A settled cluster is matched anew when it knows so much more than when it was last matched.
_MORE = 1.2
_REFINEMENTS = 3
# Rows over units that are not settled count where there are so many for each settled parameter.
_PROFILES = 4
# What counts as a gain, relative to the value: above the rounding of sums in float32.
GAIN = 1e-6
# What of the networks' norms a value of zero may be off by.
NOTHING = 1e-6


class Descent:
    """Permutations of network b's units, and b permuted, on the way to a local optimum.

    A cluster is a group with those inside it. Each is matched jointly, all others held.

    - `found`: group name → permutation so far; absent groups have not moved
    - `current`: b permuted
    - `squares`: ‖θ_A‖² and ‖θ_B‖²
    - `done`: clusters matched optimally on all their parameters since the last of their
      neighbours moved: matching them again would find nothing
    - `progress`: called with a line before each cluster is matched
    Leaves of extraordinary size are held in units of their own, see `scaled`; values are of the
    networks as they were given.
    """

    def __init__(
        self,
        network: Network,
        a: Arrays,
        b: Arrays,
        outer: Mapping[Atom, tuple[Atom, ...]],
        solver: Solver = Exact(),
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.network, self.solver, self.progress = network, solver, progress
        self.a, self.of_a = scaled(a)
        self.current, self.of_b = scaled(b)
        self.exponents = [i + j for i, j in zip(self.of_a, self.of_b, strict=True)]
        norms = [[inner_product([x], [x]) for x in v] for v in (self.a, self.current)]
        self.squares = tuple(
            sum(float(np.ldexp(n, 2 * e)) for n, e in zip(of, exponents, strict=True))
            for of, exponents in zip(norms, (self.of_a, self.of_b), strict=True)
        )
        self.size = math.sqrt(math.prod(map(sum, norms)))
        self.groups = clusters(outer)
        self.products = self._products()
        self.neighbours = self.products.neighbours()
        self.twice = [_twice(network, cluster) for cluster in self.groups]
        self.identity = network.identity_permutations()
        self.found: dict[str, np.ndarray] = {}
        self.done: set[int] = set()
        self.statuses = [OPTIMAL] * len(self.groups)

    def _products(self) -> Products:
        return Products(self.network, self.a, self.groups, self.exponents)

    @property
    def status(self) -> str:
        """What is known of every cluster when it was last matched, the others held."""
        return worst(*self.statuses)

    @property
    def alone(self) -> bool:
        """Whether there is one cluster: its optimum is that of the whole."""
        return len(self.groups) < 2

    def value(self) -> float:
        """⟨θ_A, P θ_B⟩."""
        return self._inner(self.current)

    def _inner(self, b: Arrays) -> float:
        return inner_product(self.a, b, self.exponents)

    def settle(
        self,
        which: Iterable[int] | None = None,
        *,
        refine: bool = True,
        noise: np.random.Generator | None = None,
    ) -> None:
        """Match cluster after cluster, each on the parameters whose other units are settled.

        The next cluster is always the one with the most settled parameters, so the order runs
        from the inputs (and outputs) inwards. For one hidden layer this is the exact optimum.
        Groups in no cluster, and clusters that are not named, count as settled. Where hardly a
        parameter is settled (groups that always stand together), rows sorted over the units of
        the other groups are compared: no permutation of those changes them.

        **Arguments:**
        - `which`: the clusters to settle (default: all)
        - `refine`: match settled neighbours anew with what each new cluster tells of them, so
          that errors made on little evidence do not spread
        - `noise`: settle in an order that differs at random
        """
        todo = list(range(len(self.groups))) if which is None else sorted(which)
        settled = set(self.network.by_atom).difference(*(self.groups[i] for i in todo))
        known: dict[int, float] = {}
        while todo:
            weights = np.array([self.products.known(i, settled) for i in todo])
            if not weights.any():
                weights = np.array([self.products.profiles(i, settled) for i in todo])
            if noise is not None:
                weights = weights * np.exp(noise.gumbel(size=len(weights)))
            i = todo.pop(int(np.argmax(weights)))
            self._say("settling", len(known), len(known) + len(todo) + 1, i)
            self._match(i, settled, gain=0, profiles=self._profiles(i, settled))
            settled |= set(self.groups[i])
            known[i] = self.products.known(i, settled)
            if refine:
                self._refine(i, known, settled)

    def _refine(self, new: int, known: dict[int, float], settled: set[Atom]) -> None:
        """Match settled neighbours of a new cluster anew where that tells them enough."""
        stale = set()
        for j in self.neighbours[new].intersection(known):
            if self.products.known(j, settled) >= _MORE * known[j]:
                stale.add(j)
        for _ in range(_REFINEMENTS):
            for j in sorted(stale):
                stale.discard(j)
                known[j] = self.products.known(j, settled)
                # A group that stands twice on a parameter may lose by what looks like a gain.
                if not self.twice[j] and self._match(j, settled):
                    stale |= self.neighbours[j].intersection(known)

    def _profiles(self, i: int, settled: set[Atom]) -> bool:
        """Whether little is known of a cluster but what its rows over other units look like."""
        return self.products.profiles(i, settled) > _PROFILES * self.products.known(i, settled)

    def descend(self, rng: np.random.Generator, stale: Iterable[int] | None = None) -> int:
        """Match one cluster after the other, in random order, until none improves.

        **Arguments:**
        - `stale`: clusters to begin with (default: all that are not `done`); neighbours of one
          that moves follow

        **Returns:** sweeps done
        """
        todo = set(range(len(self.groups))) - self.done if stale is None else set(stale)
        for sweep in range(MAX_SWEEPS):
            order = [i for i in rng.permutation(len(self.groups)) if i in todo]
            if not order:
                return sweep
            for k, i in enumerate(order):
                self._say(f"sweep {sweep + 1}", k, len(order), i)
                todo.discard(i)
                if self._match(i):
                    todo |= self.neighbours[i]
        return MAX_SWEEPS

    def _say(self, what: str, done: int, of: int, i: int) -> None:
        names = "+".join(self.network.by_atom[atom].name for atom in self.groups[i])
        self.progress(f"{what}: {done} of {of} matched, next {names}")

    def block_moves(self, rng: np.random.Generator) -> int:
        """Settle every cluster anew together with its neighbours; keep what is better.

        **Returns:** sweeps done
        """
        sweeps = 0
        for i in rng.permutation(len(self.groups)).tolist():
            saved, value = self.state(), self.value()
            block = {i} | self.neighbours[i]
            self.settle(block, noise=rng)
            sweeps += self.descend(rng, block.union(*(self.neighbours[j] for j in block)))
            if self.value() <= value + GAIN * abs(value):
                self.go_to(saved)
        return sweeps

    def state(self) -> Any:
        """Where the search is, for `go_to`."""
        return dict(self.found)

    def go_to(self, permutations: Mapping[str, np.ndarray]) -> None:
        """Permute b from where it is to these permutations."""
        there = {**self.identity, **{n: np.asarray(p) for n, p in permutations.items()}}
        back = invert({**self.identity, **self.found}, self.network.nesting)
        delta = compose(there, back, self.network.nesting)
        for i, cluster in enumerate(self.groups):
            names = [self.network.by_atom[atom].name for atom in cluster]
            if any((delta[n] != self.identity[n]).any() for n in names):
                self._move(i, {n: np.asarray(delta[n]) for n in names})

    def _match(
        self,
        i: int,
        settled: set[Atom] | None = None,
        gain: float = GAIN,
        profiles: bool = False,
    ) -> bool:
        """Match a cluster (on settled parameters only, if given): True if that is a gain."""
        axis, problems = self.products.problems(self.current, i, settled, profiles)
        before, parts = 0.0, []
        for problem in problems:
            if not (problem.terms or problem.joints):
                return False
            before += problem.value(identity(problem.outer))
            parts.append(problem.solve(self.solver))
        solution = parts[0] if axis is None else beside(parts, axis, self.products.outer[i])
        proved = not profiles and not self.twice[i]
        self.statuses[i] = worst(solution.status, OPTIMAL if proved else LOCAL)
        done = self.statuses[i] == OPTIMAL and self.products.complete(i, settled)
        least = 0 if self.alone else gain
        if solution.value - before <= least * (abs(before) + NOTHING * self.size):
            self.done |= {i} if done else set()
            return False
        names = {atom: self.network.by_atom[atom].name for atom in self.groups[i]}
        delta = {n: solution.permutations[atom] for atom, n in names.items()}
        if self.twice[i] and settled is None:
            moved = move(self.network, delta, self.current)
            if self._inner(moved) <= self.value():
                return False  # the gain was not real
        self._move(i, delta)
        self.done |= {i} if done else set()
        return True

    def _move(self, i: int, delta: dict[str, np.ndarray]) -> None:
        self.done -= {i} | self.neighbours[i]
        self.current = move(self.network, delta, self.current)
        self.products.moved(i, delta, self.current)
        before = {n: self.found.get(n, self.identity[n]) for n in delta}
        self.found.update(compose(delta, before, self.network.nesting))


def _twice(network: Network, cluster: list[Atom]) -> bool:
    return any(
        sum(x is atom for e in axes for x in atoms(e)) > 1
        for axes in network.leaf_axes
        for atom in cluster
    )
