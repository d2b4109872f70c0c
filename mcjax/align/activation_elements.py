"""Activation matching over the whole group of each unit group: scales, signs, matrices too."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._stream import Inputs
from .._types import Params
from ..network.action import Action
from ..network.axes import Atom
from ..network.elements import Key, by_kind, factors
from ..network.moments import Moments, moments
from ..network.network import Network
from ..network.pools import Left, pools_of
from ..network.responses import responses
from ..symmetry.balancing import balancing_matrix
from ..symmetry.matrices import nearest_orthogonal
from ..symmetry.permutation import gather
from ..transport.elements import ElementProblem, Part
from ..transport.solution import LOCAL, worst
from ..transport.solvers import Solver
from ..transport.terms import Term, clusters
from .element_products import Kinds
from .matching import Matching

# Variance (relative to the mean square) below which a unit counts as dead.
_EPSILON = 1e-5
# Directions of so little of the largest variance are rounding of float32.
_SHOWN = 1e-6


def match_whole(
    network: Network, a: Params, b: Params, x: Inputs, tap: str, solver: Solver
) -> Matching:
    """As `match_activations` with `symmetry="full"`."""
    return _Whole(network, a, b, x, tap, solver).matching()


class _Whole:
    def __init__(
        self, network: Network, a: Params, b: Params, x: Inputs, tap: str, solver: Solver
    ) -> None:
        self.network, self.solver, self.tap, self.x = network, solver, tap, x
        self.kinds = Kinds.of(network)
        self.invertible = [
            k for g in network.groups.values() for k, f in factors(g) if f.kind == "general linear"
        ]
        every = responses(network, a, x, tap)
        found, self.left = pools_of(network, x, tap, ())
        nested = [_inside(network, pool.units) for pool in found]
        self.left += [
            Left(p.units, "an activation holds units of several groups beside each other")
            for p, fine in zip(found, nested, strict=True) if not fine
        ]  # fmt: skip
        which = [
            i for i, fine in enumerate(nested) if fine and self._clear(found[i].units, every[i])
        ]
        self.answers = [every[i] for i in which]
        self.between = self._moments(a, b, which)
        atoms = {network.groups[k[0]].atom for k in self.invertible}
        mixed = [i for i in which if not atoms.isdisjoint(found[i].units)]
        at = {i: n for n, i in enumerate(which)}
        self.own: list[dict[int, Moments]] = [
            dict(zip((at[i] for i in mixed), self._moments(p, p, mixed), strict=True))
            if mixed else {} for p in (a, b)
        ]  # fmt: skip
        self.whitening = {key: self._whitening(key) for key in self.invertible}

    def _moments(self, a: Params, b: Params, which: Sequence[int]) -> list[Moments]:
        return list(moments(self.network, a, b, self.x, self.tap, (), which)) if which else []

    def _clear(self, units: Sequence[Atom], answers: Mapping[Key, int | None]) -> bool:
        """Whether it is known what signs and matrices do to all entries of an activation."""
        keys = [k for u in units for k in self.kinds.signs.get(u, ())]
        keys += [self.kinds.rotations[u] for u in units if u in self.kinds.rotations]
        rotated = [k for k in keys if k in self.kinds.rotations.values()]
        return all(answers[k] is not None for k in keys) and all(answers[k] for k in rotated)

    # -- invertible matrices: both networks' second moments made alike -----------------------

    def _whitening(self, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """For each network the matrix that makes its second moments balanced, or 1."""
        group = self.network.groups[key[0]]
        out = []
        for of in self.own:
            grams = {k: np.zeros((*group.shape, group.size)) for k in (1, -1)}
            for i, m in of.items():
                if group.atom in m.units:
                    grams[self.answers[i][key] or 0] += _gram(m, group.atom, group.outer)
            out.append(balancing_matrix(_shown(grams[1]), _shown(grams[-1])))
        return out[0], out[1]

    def _white(self, i: int, m: Moments, of_a: int, of_b: int) -> np.ndarray:
        """Covariances with the invertible matrices of both sides applied."""
        cross = m.cross
        for atom in m.units:
            key = self.kinds.rotations.get(atom)
            if key not in self.whitening:
                continue
            outer = self.network.by_atom[atom].outer
            for side, which in ((0, of_a), (1, of_b)):
                g = self.whitening[key][which]
                if self.answers[i][key] == -1:
                    g = np.linalg.inv(g).swapaxes(-1, -2)
                cross = _mixed(cross, m, atom, outer, g, side)
        return cross

    # -- permutations, signs, rotations: by correlation --------------------------------------

    def _part(self, i: int, m: Moments) -> Part:
        cross = self._white(i, m, 0, 1)
        f, u = len(m.fixed), len(m.units)
        turned = tuple(f + k for k, atom in enumerate(m.units) if atom in self.kinds.rotations)
        scales = []
        for which, (var, mean) in enumerate(((m.var_a, m.mean_a), (m.var_b, m.mean_b))):
            alive = var > _EPSILON**2 * (var + np.abs(mean) ** 2)
            if i in self.own[which]:
                own = self.own[which][i]
                var = _diagonal(self._white(i, own, which, which), f, u)
                alive = var > 0
            total = np.where(alive, np.maximum(var, 0), 0).sum(turned, keepdims=True)
            with np.errstate(divide="ignore"):
                scales.append(np.where(total > 0, 1 / np.sqrt(total), 0))
        of_a = scales[0].reshape(scales[0].shape + (1,) * u)
        of_b = scales[1].reshape(scales[1].shape[:f] + (1,) * u + scales[1].shape[f:])
        codes = {}
        for atom in m.units:
            bits = enumerate(self.kinds.signs.get(atom, ()))
            codes[atom] = sum(((self.answers[i][k] or 0) & 1) << bit for bit, k in bits)
        return Part(Term(cross * of_a * of_b, m.fixed, m.units), codes)

    def matching(self) -> Matching:
        network = self.network
        parts = [self._part(i, m) for i, m in enumerate(self.between)]
        here = {u for p in parts for u in p.term.units}
        outer = {g.atom: g.outer for g in network.groups.values() if g.atom in here}
        signs = {t: len(keys) for t, keys in self.kinds.signs.items()}
        permutations = dict(network.identity_permutations())
        elements: dict[Key, np.ndarray] = {}
        before, after, statuses = {}, {}, {}
        partly = {u for left in self.left for u in left.units}
        for cluster in clusters(outer, [p.term.units for p in parts]):
            names = [network.by_atom[c].name for c in cluster]
            own = [p for p in parts if p.term.units[0] in cluster]
            problem = ElementProblem(
                own, {c: outer[c] for c in cluster}, signs, self.kinds.fixing, []
            )
            found = problem.solve(self.solver)
            label = "+".join(names)
            before[label], after[label] = problem.value(), found.value
            status = worst(found.status, LOCAL) if partly & set(cluster) else found.status
            for atom, name in zip(cluster, names, strict=True):
                statuses[name] = status
                permutations[name] = np.asarray(found.permutations[atom])
                keys = self.kinds.signs.get(atom, ())
                elements |= dict(zip(keys, found.signs.get(atom, ()), strict=False))
                if atom in found.rotations:
                    elements[self.kinds.rotations[atom]] = found.rotations[atom]
        action = self._joined(permutations, elements)
        unmatched = self._unmatched(statuses)
        total = {n: sum(d.values()) for n, d in (("before", before), ("after", after))}
        return Matching(
            permutations={n: np.asarray(p) for n, p in action.permutations.items()},
            elements=by_kind(network, self._exact(action)),
            before={**before, "total": total["before"]},
            after={**after, "total": total["after"]},
            method=f"activation matching over the whole group ({self.tap}-activations)",
            status="incomplete" if unmatched else worst(*statuses.values()),
            statuses=statuses,
            unmatched=unmatched,
            metadata={"examples": self.x.n, "statistic": "correlation", "tap": self.tap},
        )

    def _joined(self, permutations: Any, elements: dict[Key, np.ndarray]) -> Action:
        network, stay = self.network, self.network.identity_permutations()
        first, last = (
            Action._of(network, stay, {k: w[i] for k, w in self.whitening.items()}) for i in (1, 0)
        )
        middle = Action._of(network, permutations, elements)
        scales = Action._of(network, stay, self._scales(permutations))
        return scales @ last.inverse() @ middle @ first

    def _exact(self, action: Action) -> dict[Key, np.ndarray]:
        """Products of orthogonal matrices are orthogonal to rounding."""
        found = {k: np.asarray(v, np.float64) for k, v in action.elements.items()}
        for atom, key in self.kinds.rotations.items():
            if key in found and key not in self.whitening:
                found[key] = nearest_orthogonal(found[key], fixing_ones=self.kinds.fixing[atom])
        return found

    # -- scales: deviations of b's units made those of a's ------------------------------------

    def _scales(self, permutations: Mapping[str, np.ndarray]) -> dict[Key, np.ndarray]:
        """Least squares over log deviations: Σ_f k_f log c_f = log σ_a − log σ_b of each value."""
        network, found = self.network, {}
        for name, group in network.groups.items():
            keys = [k for k, f in factors(group) if f.kind == "positive"]
            if not keys or group.atom in self.kinds.rotations:
                continue
            rows, wanted, weights = [], [], []
            for answers, m in zip(self.answers, self.between, strict=True):
                powers = [answers.get(k) for k in keys]
                if group.atom not in m.units or None in powers:
                    continue
                sizes = []
                for var, mean in ((m.var_a, m.mean_a), (m.var_b, m.mean_b)):
                    var = np.where(var > _EPSILON**2 * (var + np.abs(mean) ** 2), var, 0)
                    sizes.append(_of_group(var, m, group.atom, group.outer))
                sizes[1] = gather(name, permutations, sizes[1], network.nesting)
                alive = (sizes[0] > 0) & (sizes[1] > 0)
                logs = [np.log(np.where(alive, v, 1)) / 2 for v in sizes]
                rows.append(powers)
                wanted.append(np.where(alive, logs[0] - logs[1], 0))
                weights.append(alive.astype(float))
            if not rows:
                continue
            k, d, w = np.array(rows, float), np.array(wanted), np.array(weights)
            normal = np.einsum("t...,tf,tg->...fg", w, k, k)
            logs = (
                np.linalg.pinv(normal, rcond=1e-9, hermitian=True)
                @ (np.einsum("t...,tf->...f", d, k)[..., None])
            )
            found |= {key: np.exp(logs[..., i, 0]) for i, key in enumerate(keys)}
        return found

    # -- what is not seen ----------------------------------------------------------------------

    def _unmatched(self, statuses: dict[str, str]) -> dict[str, str]:
        """Groups that stay as they are, or of which a factor does, and why."""
        out: dict[str, str] = {}
        for name, group in self.network.groups.items():
            if name not in statuses:
                statuses[name] = "unmatched"
                reasons = [left.why for left in self.left if group.atom in left.units]
                out[name] = reasons[0] if reasons else (
                    "no value that depends on the data shows its units alone; "
                    "match_weights(symmetry='full') matches it by weights"
                )  # fmt: skip
                continue
            hidden = self._hidden(name)
            if hidden:
                out[name] = (
                    f"no activation compared shows all of {' and '.join(map(repr, hidden))}; "
                    "match_weights(symmetry='full', init=…) goes on from here by weights"
                )
        return out

    def _hidden(self, name: str) -> list[str]:
        """Kinds of a group's factors of which some element moves no activation compared."""
        group = self.network.groups[name]
        mixed = group.atom in self.kinds.rotations
        of_kind: dict[str, list[Key]] = {}
        for key, factor in factors(group):
            if factor.matrices or not mixed:
                of_kind.setdefault(factor.kind, []).append(key)
        hidden = []
        for kind, keys in of_kind.items():
            rows = [[answers.get(k) or 0 for k in keys] for answers in self.answers]
            rank = _rank_of_signs(rows) if kind == "sign" else np.linalg.matrix_rank(rows)
            if rank < len(keys):
                hidden.append(kind)
        return hidden


def _rank_of_signs(rows: Sequence[Sequence[int]]) -> int:
    """The rank over the field of two elements."""
    basis: list[int] = []
    for row in rows:
        code = sum((k & 1) << bit for bit, k in enumerate(row))
        for other in basis:
            code = min(code, code ^ other)
        if code:
            basis.append(code)
    return len(basis)


def _inside(network: Network, units: Sequence[Atom]) -> bool:
    """Whether the units are inside one another."""
    ordered = sorted(units, key=lambda u: len(network.by_atom[u].outer))
    return all(o in network.by_atom[u].outer for i, u in enumerate(ordered) for o in ordered[:i])


def _letters(m: Moments) -> tuple[str, str, str]:
    """For an einsum of a covariance: fixed axes, units of a, units of b."""
    f, u = len(m.fixed), len(m.units)
    every = string.ascii_letters
    return every[:f], every[f : f + u], every[f + u : f + 2 * u]


def _gram(m: Moments, atom: Atom, outer: Sequence[Atom]) -> np.ndarray:
    """Second moments of a group's units, (*group.shape, n), summed over all others there."""
    fixed, of_a, of_b = _letters(m)
    k = m.units.index(atom)
    names = dict(zip((*m.fixed, *m.units), fixed + of_a, strict=True))
    same = of_a[:k] + of_b[k] + of_a[k + 1 :]
    kept = "".join(names[o] for o in outer)
    return np.einsum(f"{fixed}{of_a}{same}->{kept}{of_a[k]}{of_b[k]}", m.cross)


def _mixed(
    cross: np.ndarray, m: Moments, atom: Atom, outer: Sequence[Atom], g: np.ndarray, side: int
) -> np.ndarray:
    """Covariances with a's (or b's) units of a group multiplied by its matrices."""
    fixed, of_a, of_b = _letters(m)
    mine = (of_a, of_b)[side]
    names = dict(zip((*m.fixed, *m.units), fixed + mine, strict=True))
    old, new = names[atom], "Z"
    whole = fixed + of_a + of_b
    own = "".join(names[o] for o in outer)
    return np.einsum(f"{own}{new}{old},{whole}->{whole.replace(old, new)}", g, cross)


def _diagonal(cross: np.ndarray, f: int, u: int) -> np.ndarray:
    every = list(range(f + u))
    return np.einsum(cross, every + every[f:], every)


def _of_group(var: np.ndarray, m: Moments, atom: Atom, outer: Sequence[Atom]) -> np.ndarray:
    """Variances of a group's units, of `group.shape`, summed over all else that stands there."""
    names = (*m.fixed, *m.units)
    every = list(range(len(names)))
    return np.einsum(var, every, [names.index(o) for o in (*outer, atom)])


def _shown(gram: np.ndarray) -> np.ndarray:
    """Second moments without directions that are rounding."""
    sizes, vectors = np.linalg.eigh((gram + gram.swapaxes(-1, -2)) / 2)
    kept = np.where(sizes > _SHOWN * sizes.max(-1, initial=0)[..., None], sizes, 0)
    return (vectors * kept[..., None, :]) @ vectors.swapaxes(-1, -2)


__all__ = ["match_whole"]
