"""Weight matching over the whole group of each unit group: scalings and matrices too.

Both networks are made as short as they can be; then they differ by permutations, signs and
rotations, which keep the distance between them. Scales and invertible matrices are fitted last,
where the distance is that to A as it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._threads import one_if_small
from ..network.action import Action
from ..network.balance import TWICE, balanced
from ..network.blocks import plan
from ..network.elements import Key, apply_to, by_kind, factor_of, factors
from ..network.network import Network
from ..network.scalings import Scalings, squares
from ..network.stands import stands, twice
from ..symmetry.fitting import nearest_invertible, nearest_scale
from ..symmetry.matrices import nearest_orthogonal
from ..transport.solution import BOUND, LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver
from .arrays import Arrays
from .descent import MAX_SWEEPS
from .element_descent import ElementDescent
from .matching import Matching
from .parameters import move
from .tangent import tangent_step

SYMMETRIES = ("permutation", "full")
# Enough for two networks of one orbit to differ by what keeps lengths alone.
_ROUNDS, _STILL = 40, 1e-4
_FITS, _TURNS = 100, 20
# Of all scales and matrices at once: each squares what is left, relative to the networks.
_STEPS = 10
# Networks no farther apart are compared in float64, to the end.
_NEAR = 1e-2
_GAIN = 1e-4
# Gains of one matrix, near and far: below what ends the rounds.
_LAST, _FAR = 1e-8, 1e-5
# A distance so much smaller than the networks is rounding.
_ROUNDING = 1e-12


def descend_whole(
    network: Network,
    a: Arrays,
    b: Arrays,
    rng: np.random.Generator,
    *,
    restarts: int = 1,
    start: Action | None = None,
    solver: Solver = Exact(),
    progress: Callable[[str], None] = lambda line: None,
) -> Matching:
    """As `match_weights` with `symmetry="full"`, on the float leaves of both networks."""
    kinds = [None if v is None else v.dtype for v in a]
    a, given = ([None if v is None else v.astype(np.float64) for v in of] for of in (a, b))
    before = distance(a, given)
    b = given if start is None else applied(start, given)
    outer = {g.atom: g.outer for g in network.groups.values()}
    (short_a, of_a), (short_b, of_b) = (
        balanced(network, v, rounds=_ROUNDS, still=_STILL) for v in (a, b)
    )
    short = _as(short_a, kinds), _as(short_b, kinds)
    descent = ElementDescent(network, *short, outer, solver, progress)
    if start is None:
        descent.settle()
    sweeps = descent.descend(rng)
    stopped = sweeps >= MAX_SWEEPS
    for _ in range(restarts - 1):
        sweeps += descent.block_moves(rng)
    action = _joined(network, of_a, descent, of_b)
    if start is not None:
        action = action @ start
    progress("scales and matrices: fitted to A as it was given")
    fit = _Fit(network, a, applied(action, given), kinds, rng, solver)
    sweeps += fit.run()
    action = fit.action @ action
    after = distance(a, applied(action, given))
    if after >= before:  # where nothing moves is nearer
        action, after = Action.identity(network), before
    size = sum(_squared(v) for v in a if v is not None)
    alone = descent.alone and not (of_a or of_b)
    status = worst(descent.status, BOUND if stopped else OPTIMAL if alone else LOCAL)
    if after <= _ROUNDING * size:
        status = OPTIMAL
    return Matching(
        permutations={n: np.asarray(p) for n, p in action.permutations.items()},
        elements=_elements(action),
        before={"total": before},
        after={"total": after},
        method="weight matching over the whole group",
        status=status,
        minimised=True,
        sweeps=sweeps,
        metadata={"restarts": restarts},
    )


def check_real(network: Network, leaves: Sequence[Any]) -> None:
    """Raise for complex parameters: elements of larger groups are of real ones."""
    for name, leaf in zip(network.leaf_names, leaves, strict=True):
        if leaf is not None and np.iscomplexobj(leaf):
            raise ValueError(
                f"symmetry='full' is for real parameters, and leaf {name!r} is {leaf.dtype}; "
                "'permutation' takes complex ones"
            )


def _as(arrays: Arrays, kinds: Sequence[Any]) -> Arrays:
    """In the precision that the networks came in: products of units are what takes the time."""
    return [v if v is None else v.astype(k) for v, k in zip(arrays, kinds, strict=True)]


def distance(a: Arrays, b: Arrays) -> float:
    """‖θ_A − θ_B‖² over float parameters."""
    pairs = zip(a, b, strict=True)
    return sum(_squared(x - y) for x, y in pairs if x is not None)


def _squared(v: np.ndarray) -> float:
    """Its squared length, without BLAS, whose threads only wait for the memory."""
    flat = v.ravel()
    return float(np.einsum("i,i->", flat, flat))


def applied(action: Action, leaves: Sequence[Any]) -> list[Any]:
    """Float leaves moved by an action, on the host, in their own precision."""
    still = action.network.identity_permutations()
    every = {n: np.asarray(p) for n, p in action.permutations.items()}
    permutations = {n: p for n, p in every.items() if (p != still[n]).any()}
    elements = {k: np.asarray(v) for k, v in action.elements.items()}
    return apply_to(action.network, elements, move(action.network, permutations, leaves))


def _joined(
    network: Network, of_a: dict[Key, np.ndarray], descent: ElementDescent, of_b: dict
) -> Action:
    """B made short, matched to A made short, and led back to A."""
    stay = network.identity_permutations()
    middle = Action._of(network, {**stay, **descent.found}, descent.elements)
    first, last = (Action._of(network, stay, v) for v in (of_b, of_a))
    return last.inverse() @ middle @ first


def _elements(action: Action) -> dict[str, dict[str, list[Any]]]:
    """The elements of an action as `Action.of` takes them."""
    found: dict[Key, Any] = {}
    for key, element in action.elements.items():
        kind = factor_of(action.network, key).kind
        if kind.startswith("orthogonal"):  # products are orthogonal to rounding
            element = nearest_orthogonal(element, fixing_ones=kind == "orthogonal fixing ones")
        found[key] = np.asarray(element, np.float64)
    return by_kind(action.network, found)


class _Fit:
    """Coordinate descent on ‖θ_A − g θ_B‖² from where B is: scales, matrices, then all others."""

    def __init__(
        self,
        network: Network,
        a: Arrays,
        b: Arrays,
        kinds: Sequence[Any],
        rng: np.random.Generator,
        solver: Solver,
    ) -> None:
        self.network, self.a, self.current, self.rng = network, a, b, rng
        self.solver, self.kinds = solver, kinds
        self.action = Action.identity(network)
        every = [(k, f) for g in network.groups.values() for k, f in factors(g)]
        self.scalings = [k for k, f in every if f.kind == "positive"]
        self.matrices = [
            k for k, f in every if f.kind == "general linear" and not twice(network, k)
        ]

    def run(self) -> int:
        """Rounds until none improves; how many."""
        value = distance(self.a, self.current)
        size = sum(_squared(v) for v in self.a if v is not None)
        floor = np.finfo(np.float64).eps ** 2 * size
        outer = {g.atom: g.outer for g in self.network.groups.values()}
        for i in range(_FITS):
            saved = self.current, self.action
            self._scale()
            # What is left of two networks is known no better than to what ends the rounds.
            self._mix(_LAST if value <= _NEAR * size else _FAR)
            reached = distance(self.a, self.current)
            near = reached <= _NEAR * size
            if not near and value - reached <= _GAIN * value:
                return i + 1  # what is left would be matched as before
            a, b = (v if near else _as(v, self.kinds) for v in (self.a, self.current))
            descent = ElementDescent(self.network, a, b, outer, self.solver)
            descent.fine = near
            descent.descend(self.rng)
            if descent.found or descent.elements:
                stay = self.network.identity_permutations()
                step = Action._of(self.network, {**stay, **descent.found}, descent.elements)
                self._take(step)
            if near:
                self._together()
            reached = distance(self.a, self.current)
            if not reached < value:
                self.current, self.action = saved
                return i
            if value - reached <= _GAIN * value or reached <= floor:
                return i + 1
            value = reached
        return _FITS

    def _take(self, step: Action) -> None:
        self.current = applied(step, self.current)
        self.action = step @ self.action

    def _together(self) -> None:
        """All scales and matrices at once, as long as that leads nearer."""
        value = distance(self.a, self.current)
        for _ in range(_STEPS):
            step = tangent_step(self.network, self.a, self.current)
            if not step:
                return
            action = Action._of(self.network, self.network.identity_permutations(), step)
            moved = applied(action, self.current)
            reached = distance(self.a, moved)
            if reached < value:
                self.current, self.action = moved, action @ self.action
            if not reached < (1 - _GAIN) * value:
                return
            value = reached

    def _scale(self) -> None:
        """Every scaling in turn, each its best."""
        if not self.scalings:
            return
        network, keys = self.network, self.scalings
        a, b = self.a, self.current
        lengths = Scalings(network, keys, lambda i: squares(b[i]), 2)
        products = Scalings(network, keys, lambda i: a[i] * b[i], 1)
        found = {k: np.ones(network.groups[k[0]].shape) for k in keys}
        for _ in range(_TURNS):
            off = 0.0
            for key in keys:
                c, _ = nearest_scale(lengths.sums(key), products.sums(key))
                if twice(network, key):
                    c = c**TWICE
                for table in (lengths, products):
                    table.scale(key, c)
                found[key] = found[key] * c
                off = max(off, float(np.abs(np.log(c)).max(initial=0)))
            if off <= _GAIN:
                break
        self._take(Action._of(network, network.identity_permutations(), found))

    def _mix(self, gain: float) -> None:
        """Every invertible matrix in turn, each a local optimum."""
        network, leaves, found = self.network, self.current, {}
        for key in self.matrices:
            group = network.groups[key[0]]
            aw, ar, bw, br = (
                _rows(network, key, of, exponent) for of in (self.a, leaves) for exponent in (1, -1)
            )
            with one_if_small(group.size):
                g = nearest_invertible(aw, bw, ar, br, gain=gain)
            if np.abs(g - np.eye(group.size)).max(initial=0) > 0:
                leaves, found[key] = apply_to(network, {key: g}, leaves), g
        if found:
            step = Action._of(network, network.identity_permutations(), found)
            self.current, self.action = leaves, step @ self.action


def _rows(network: Network, key: Key, leaves: Sequence[Any], exponent: int) -> np.ndarray:
    """All entries of a group's units that have an exponent, (*group.shape, columns)."""
    shape = network.groups[key[0]].shape
    found = [np.zeros((*shape, 0))]
    for stand in stands(network, key):
        if not np.any(stand.exponents == exponent):
            continue
        rows = stand.rows(leaves[stand.leaf], plan(network.leaf_axes[stand.leaf])[0], shape)
        whole = np.zeros((*shape, rows.shape[-1]))
        whole[stand.index] = np.where(stand.exponents == exponent, rows, 0)
        found.append(whole)
    return np.concatenate(found, -1)


__all__ = ["SYMMETRIES", "applied", "check_real", "descend_whole", "distance"]
