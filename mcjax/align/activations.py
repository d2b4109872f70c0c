"""Neuron alignment: match units by what they compute on data (tatro2020, Algorithm 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _check, _check_model
from .._stream import Inputs
from .._types import Params
from ..network.axes import Atom
from ..network.moments import Moments, moments
from ..network.network import Network
from ..network.pools import Left, pools_of
from ..transport.groups import solve_groups
from ..transport.solution import LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver, as_solver
from ..transport.terms import Term, add_up, clusters, value_of
from .activation_elements import match_whole
from .matching import Matching
from .whole_group import SYMMETRIES, check_real

STATISTICS = ("correlation", "covariance", "l2", "inner")
TAPS = ("post", "pre")
# Variance (relative to the mean square) below which a unit counts as dead, tatro2020's ε.
_EPSILON = 1e-5
_NO_DATA = (
    "no value that depends on the data shows its units (inside while and cond nothing is "
    "observed); match_butterflies with groups= matches it by weights"
)


@_check.on_host
def match_activations(
    network: Network,
    a: Params,
    b: Params,
    x: Any,
    statistic: str = "correlation",
    tap: str = "post",
    *,
    chunk: int = 500,
    solver: Solver = Exact(),
    symmetry: str = "permutation",
) -> Matching:
    """Permutations that match b's units to a's by their activations (tatro2020, Eq. 2, Alg. 1).

    P = argmax Σ_i s(z_i^a, z_{P(i)}^b) over the permutations of each group, where s is

    - `"correlation"`: E[(z^a − µ^a)(z^b − µ^b)] / (σ^a σ^b) (Eq. 3); a unit that never varies
      has correlation 0 with every other;
    - `"covariance"`: E[(z^a − µ^a)(z^b − µ^b)], as ferbach2023: units count by how much they vary;
    - `"inner"`: E[z^a z^b];
    - `"l2"`: −E[(z^a − z^b)²], the Wasserstein-2 cost of Appendix C.

    Expectations run over the batch and over all positions (space, time, tokens): all positions of
    an activation that hold the same units are pooled, with one mean and one variance for each
    unit. A group that several layers read or write (a residual stream) is matched on the sum over
    them (Appendix D). One pass over the data with streaming moments serves all groups: matching is
    equivariant, so nothing is run again after a layer has been permuted.

    Weights may be computed (LoRA, normalised, cast, concatenated ones); a group that no layer
    reads or writes (the state of a recurrence) is compared on another value that holds it. Groups
    that the data do not show (the ranks of W + AB) stay as they are: `Matching.unmatched` says
    which and why. `Matching.statuses` says of each group whether its optimum is proved. Units
    whose deviations are tiny or huge are held in units of their own: float32 loses neither.

    Moments take 4 f u² bytes for each activation, with u units that are matched jointly and f
    indices of fixed axes that they follow (layers of a scan), whatever the number of examples,
    positions and blocks; those beyond 1 GiB go into further passes over the data. Profits take
    8 f u² bytes for each distinct set of units that are matched jointly, one set after another.

    With `symmetry="full"`, elements of the whole group of each unit group (`group.structure`), of
    what activations show of them, by correlation:

    - permutations and signs: the assignment of greatest correlation, each pair with its best signs
    - scalings: σ_b becomes σ_a on the values that the scale moves (least squares over log σ)
    - rotations: of greatest Σ ⟨z^a, g z^b⟩ (orthogonal Procrustes), of heads pair by pair
    - invertible matrices: g = W_a⁻¹ O W_b, where W_a and W_b balance the covariances of what g and
      what g⁻ᵀ moves in each network (whitening, where only one of them is seen) and O is the
      rotation of greatest correlation. No least squares: g would shrink with the correlation and
      become singular. Directions below 1e-6 of the largest variance do not count as shown

    How an activation answers each factor is found by running the model on random parameters near
    `a`. Values of groups beside each other are left out; `Matching.unmatched` also names what no
    activation shows, which `match_weights(…, init=matching, symmetry="full")` matches by weights.

    **Arguments:**
    - `a`, `b`: parameters of the traced structure
    - `x`: inputs batched on axis 0 (memory maps too, which no device holds whole), or an iterable
      of batches of them (no list, which is a tree)
    - `tap`: `"post"`, what consumers read, or `"pre"`, what producers write (batch normalisation
      applied)
    - `chunk`: examples at a time, at most; every example counts once
    - `solver`: of the assignments; its `search` is of groups that stand beside each other
    - `symmetry`: `"permutation"` or `"full"`, which is for the correlation alone (the others change
      with the scales that a group admits) and takes two more passes over the data where groups
      have invertible matrices

    **Returns:** a `Matching`.

    **Raises:** `ValueError` for parameters that do not fit the network, inputs or activations that
    are NaN or infinite, an empty batch or an unknown statistic, tap or symmetry; with `"full"` for
    another statistic and complex parameters.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a, b = {"w1": w1, "w2": w2}, {"w1": w1[:, ::-1], "w2": w2[::-1]}
        >>> x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
        >>> network = mcjax.trace(f, a, x)
        >>> mcjax.align.match_activations(network, a, b, x, "l2", "pre").permutations["w1"].tolist()
        [3, 2, 1, 0]
    """
    _check_model.network(network)
    _check.one_of(statistic, STATISTICS, "statistic")
    _check.one_of(tap, TAPS, "tap")
    _check.one_of(symmetry, SYMMETRIES, "symmetry")
    solver = as_solver(solver)
    a, b = network.check_parameters(a=a, b=b)
    x = checked_inputs(network, x, chunk)
    if symmetry == "full":
        if statistic != "correlation":
            raise ValueError(
                f"statistic must be 'correlation' with symmetry='full', got {statistic!r}: others "
                "change with the scales that a group admits"
            )
        check_real(network, network.flatten(a, "a"))
        return match_whole(network, a, b, x, tap, solver)
    state = _State(network, statistic, solver, dict(network.identity_permutations()))
    while state.match(a, b, x, tap):
        pass  # once, unless groups stand only on arrays too large to be matched jointly
    sign = -1.0 if statistic == "l2" else 1.0
    before, after = (
        {k: sign * v for k, v in {**d, "total": sum(d.values())}.items()}
        for d in (state.before, state.after)
    )
    statuses = {n: state.status(n) for n in network.groups}
    return Matching(
        permutations=state.permutations,
        before=before,
        after=after,
        method=f"activation matching ({statistic}, {tap}-activations)",
        status=_overall(statuses),
        minimised=statistic == "l2",
        dead=state.dead(),
        statuses=statuses,
        unmatched={n: state.why(n) for n, s in statuses.items() if s == "unmatched"},
        metadata={"examples": x.n, "statistic": statistic, "tap": tap},
    )


def checked_inputs(network: Network, x: Any, chunk: int) -> Inputs:
    """Inputs in blocks, each looked at for what is not finite: a compiled maximum may hide NaN."""

    def mark(batch: Any) -> Any:
        batch = network.inputs(batch)
        _check.batched(batch, "x")
        _check.finite_inputs(batch, "x")
        return batch

    return Inputs(x, _check.positive(chunk, "chunk"), mark=mark)


def _overall(statuses: Mapping[str, str]) -> str:
    return "incomplete" if "unmatched" in statuses.values() else worst(*statuses.values())


@dataclasses.dataclass
class _State:
    """What has been matched so far."""

    network: Network
    statistic: str
    solver: Solver
    permutations: dict[str, np.ndarray]
    settled: tuple[str, ...] = ()
    statuses: dict[str, str] = dataclasses.field(default_factory=dict)
    before: dict[str, float] = dataclasses.field(default_factory=dict)
    after: dict[str, float] = dataclasses.field(default_factory=dict)
    alive: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # (2, *group.shape)
    left: list[Left] = dataclasses.field(default_factory=list)

    def match(self, a: Params, b: Params, x: Inputs, tap: str) -> bool:
        """Match what can be matched in one pass; True if that has opened the way for more."""
        network = self.network
        done = {n: self.permutations[n] for n in self.settled}
        found, self.left = pools_of(network, x, tap, self.settled)
        here = {u for pool in found for u in pool.units}
        outer = {a: g.outer for a, g in network.by_atom.items() if a in here}
        together = clusters(outer, [p.units for p in found])
        mine = [[i for i, p in enumerate(found) if set(p.units) & set(c)] for c in together]
        which = [i for some in mine for i in some]
        moved = network.permute(done, b) if done else b
        values = moments(network, a, moved, x, tap, self.settled, which)
        for cluster, some in zip(together, mine, strict=True):
            self._solve([self._term(next(values)) for _ in some], {c: outer[c] for c in cluster})
        new = [network.by_atom[c].name for cluster in together for c in cluster]
        self.settled += tuple(new)
        return bool(new) and any(self._waiting(left) for left in self.left)

    def _waiting(self, left: Left) -> bool:
        """Whether some of these units have been matched since, but not all."""
        names = [self.network.by_atom[u].name for u in left.units]
        return 0 < sum(n in self.settled for n in names) < len(names)

    def _term(self, m: Moments) -> Term:
        both = np.stack([_alive(m.var_a, m.mean_a), _alive(m.var_b, m.mean_b)])
        for atom in m.units:
            here = _of_group(both, m, atom, self.network.by_atom[atom].outer)
            name = self.network.by_atom[atom].name
            self.alive[name] = self.alive.get(name, False) | here
        return Term(_profit(m, self.statistic), m.fixed, m.units)

    def _solve(self, terms: list[Term], outer: dict[Atom, tuple[Atom, ...]]) -> None:
        names = {c: self.network.by_atom[c].name for c in outer}
        start = {c: self.permutations[n] for c, n in names.items()}
        label = "+".join(names.values())
        terms = add_up(terms)
        solution = solve_groups(terms, outer, self.solver)
        self.before[label] = value_of(terms, start, outer)
        self.after[label] = max(solution.value, self.before[label])
        if solution.value > self.before[label]:
            found = {n: np.asarray(solution.permutations[c]) for c, n in names.items()}
            self.permutations.update(found)
        # Activations left out, or matched before others on them, count for less than they should.
        partly = self.settled or not {u for left in self.left for u in left.units}.isdisjoint(outer)
        status = worst(solution.status, LOCAL if partly else OPTIMAL)
        self.statuses.update(dict.fromkeys(names.values(), status))

    def dead(self) -> dict[str, int]:
        """Units that never vary on any tap, in a or in b (the more of the two), per group.

        Where several groups stand on a tap, a unit is dead if no unit of the others varies with it.
        """
        missing = {n: int((~v).sum(-1).max(0).sum()) for n, v in self.alive.items()}
        return {n: v for n, v in missing.items() if v > 0}

    def _silent(self, name: str) -> bool:
        """Whether correlation has nothing to go by: in one network no unit ever varies."""
        alive = self.alive.get(name, np.ones((2, 1)))
        varies = alive.any(axis=tuple(range(1, alive.ndim)))
        return self.statistic == "correlation" and not varies.all()

    def status(self, name: str) -> str:
        return "unmatched" if self._silent(name) else self.statuses.get(name, "unmatched")

    def why(self, name: str) -> str:
        """Why a group has not been matched."""
        if self._silent(name):
            return "none of its units varies on these inputs, in one of the networks"
        atom = self.network.groups[name].atom
        reasons = [left.why for left in self.left if atom in left.units]
        return reasons[0] if reasons else _NO_DATA


def _profit(m: Moments, statistic: str) -> np.ndarray:
    """What matching each pair of units is worth; it may take the place of `m.cross`."""
    if statistic == "correlation":
        return correlations(m, m.cross)
    if statistic == "covariance":
        return m.cross
    inner = m.cross + np.real(_of_a(m, m.mean_a) * _of_b(m, m.mean_b.conj()))
    if statistic == "inner":
        return inner
    of_a, of_b = m.var_a + np.abs(m.mean_a) ** 2, m.var_b + np.abs(m.mean_b) ** 2
    return 2 * inner - _of_a(m, of_a) - _of_b(m, of_b)


def correlations(m: Moments, out: np.ndarray | None = None) -> np.ndarray:
    """The correlation of every unit of a with every unit of b (tatro2020, Eq. 3), 0 if dead.

    - `out`: where to write them
    """
    scale_a = inverse_deviation(m.var_a, m.mean_a)
    scale_b = inverse_deviation(m.var_b, m.mean_b)
    out = np.multiply(m.cross, _of_a(m, scale_a), out)
    return np.multiply(out, _of_b(m, scale_b), out)


def _of_a(m: Moments, values: np.ndarray) -> np.ndarray:
    """Values of a's units, to broadcast against those of b's."""
    return values.reshape(values.shape + (1,) * len(m.units))


def _of_b(m: Moments, values: np.ndarray) -> np.ndarray:
    f = len(m.fixed)
    return values.reshape(values.shape[:f] + (1,) * len(m.units) + values.shape[f:])


def _alive(var: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return var > _EPSILON**2 * (var + np.abs(mean) ** 2)


def _of_group(alive: np.ndarray, m: Moments, atom: Atom, outer: Sequence[Atom]) -> np.ndarray:
    """Which of a group's units vary, (2, *group.shape), of flags over all units of a tap."""
    names = (*m.fixed, *m.units)
    kept = [1 + names.index(o) for o in (*outer, atom)]
    away = tuple(i for i in range(1, alive.ndim) if i not in kept)
    order = [0, *kept, *away]
    return np.any(np.transpose(alive, order), tuple(range(1 + len(kept), alive.ndim)))


def inverse_deviation(var: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """1 / σ; 0 for units that do not vary."""
    alive = _alive(var, mean)
    return np.where(alive, 1 / np.sqrt(np.where(alive, var, 1)), 0)
