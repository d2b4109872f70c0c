"""Neuron alignment: match units by what they compute on data (tatro2020, Algorithm 1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._types import Params
from ..network.activations import Moments, cross_moments
from ..network.axes import Atom
from ..network.network import Network
from .assignment import Term, clusters, solve, value_of
from .matching import Matching

STATISTICS = ("correlation", "l2", "inner")
TAPS = ("post", "pre")
# Variance (relative to the mean square) below which a unit counts as dead, tatro2020's ε.
_EPSILON = 1e-5


def match_activations(
    network: Network,
    a: Params,
    b: Params,
    x: Any,
    statistic: str = "correlation",
    tap: str = "post",
    *,
    chunk: int = 500,
) -> Matching:
    """Permutations that match b's units to a's by their activations (tatro2020, Eq. 2, Alg. 1).

    P = argmax Σ_i s(z_i^a, z_{P(i)}^b) over the permutations of each group, where s is

    - `"correlation"`: E[(z^a − µ^a)(z^b − µ^b)] / (σ^a σ^b) (Eq. 3); a unit that never varies
      has correlation 0 with every other;
    - `"inner"`: E[z^a z^b];
    - `"l2"`: −E[(z^a − z^b)²], the Wasserstein-2 cost of Appendix C.

    Expectations run over the batch and over all positions (space, time). A group that several
    layers read or write (a residual stream) is matched on the sum over them (Appendix D). One
    pass over the data with streaming moments serves all groups: matching is equivariant, so
    nothing is run again after a layer has been permuted. Each assignment is exact (SciPy).

    **Arguments:**
    - `a`, `b`: parameters of the traced structure
    - `x`: inputs batched on axis 0; what does not fill a last chunk is left out
    - `tap`: `"post"`, what consumers read, or `"pre"`, what producers write (batch normalisation
      applied)
    - `chunk`: examples at a time

    **Returns:** a `Matching`.

    **Raises:** `ValueError` for parameters that do not fit the network, NaN, an empty batch or
    an unknown statistic or tap.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a, b = {"w1": w1, "w2": w2}, {"w1": w1[:, ::-1], "w2": w2[::-1]}
        >>> x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
        >>> network = mcjax.trace(f, a, x)
        >>> mcjax.align.match_activations(network, a, b, x, "l2", "pre").permutations["w1"].tolist()
        [3, 2, 1, 0]
    """
    _check.one_of(statistic, STATISTICS, "statistic")
    _check.one_of(tap, TAPS, "tap")
    a, b = network.check_parameters(a=a, b=b)
    x = network.inputs(x)
    n = _check.batched(x, "x")
    chunk = min(_check.positive(chunk, "chunk"), n)
    x = jax.tree.map(jnp.asarray, x)
    state = _State(network, dict(network.identity_permutations()))
    while state.match(a, b, x, statistic, tap, chunk):
        pass  # once, unless groups stand only on arrays too large to be matched jointly
    sign = -1.0 if statistic == "l2" else 1.0
    before, after = (
        {k: sign * v for k, v in {**d, "total": sum(d.values())}.items()}
        for d in (state.before, state.after)
    )
    return Matching(
        permutations=state.permutations,
        before=before,
        after=after,
        method=f"activation matching ({statistic}, {tap}-activations)",
        minimised=statistic == "l2",
        dead=state.dead,
        metadata={"examples": n // chunk * chunk, "statistic": statistic, "tap": tap},
    )


@dataclasses.dataclass
class _State:
    """What has been matched so far."""

    network: Network
    permutations: dict[str, np.ndarray]
    settled: tuple[str, ...] = ()
    before: dict[str, float] = dataclasses.field(default_factory=dict)
    after: dict[str, float] = dataclasses.field(default_factory=dict)
    dead: dict[str, int] = dataclasses.field(default_factory=dict)

    def match(self, a: Params, b: Params, x: Any, statistic: str, tap: str, chunk: int) -> bool:
        """Match what can be matched in one pass; True if that has opened the way for more."""
        network = self.network
        done = {n: self.permutations[n] for n in self.settled}
        moved = network.permute(done, b) if done else b
        moments = cross_moments(network, a, moved, x, tap, chunk, self.settled)
        terms = [Term(_profit(m, statistic), m.fixed, m.units) for m in moments]
        self.dead |= _dead(network, moments)
        outer = {g.atom: g.outer for g in network.groups.values() if g.name not in self.settled}
        new: list[str] = []
        for cluster in clusters(outer, [t.units for t in terms]):
            mine = [t for t in terms if set(t.units) & set(cluster)]
            if mine:
                self._solve(mine, {c: outer[c] for c in cluster})
                new += [network.by_atom[c].name for c in cluster]
        self.settled += tuple(new)
        return bool(new) and len(self.settled) < len(network.groups)

    def _solve(self, terms: list[Term], outer: dict[Atom, tuple[Atom, ...]]) -> None:
        names = {c: self.network.by_atom[c].name for c in outer}
        identity = {c: self.permutations[n] for c, n in names.items()}
        label = "+".join(names.values())
        solved, value = solve(terms, outer)
        self.before[label] = value_of(terms, identity, outer)
        self.after[label] = max(value, self.before[label])
        if value > self.before[label]:
            self.permutations.update({n: np.asarray(solved[c]) for c, n in names.items()})


def _profit(m: Moments, statistic: str) -> np.ndarray:
    if statistic == "correlation":
        return correlations(m)
    inner = m.cross + _of_a(m, m.mean_a) * _of_b(m, m.mean_b)
    if statistic == "inner":
        return inner
    squares = _of_a(m, m.var_a + m.mean_a**2) + _of_b(m, m.var_b + m.mean_b**2)
    return 2 * inner - squares


def correlations(m: Moments) -> np.ndarray:
    """The correlation of every unit of a with every unit of b (tatro2020, Eq. 3), 0 if dead."""
    scale_a = _inverse_deviation(m.var_a, m.mean_a)
    scale_b = _inverse_deviation(m.var_b, m.mean_b)
    return m.cross * _of_a(m, scale_a) * _of_b(m, scale_b)


def _of_a(m: Moments, values: np.ndarray) -> np.ndarray:
    """Values of a's units, to broadcast against those of b's."""
    return values.reshape(values.shape + (1,) * len(m.units))


def _of_b(m: Moments, values: np.ndarray) -> np.ndarray:
    f = len(m.fixed)
    return values.reshape(values.shape[:f] + (1,) * len(m.units) + values.shape[f:])


def _alive(var: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return var > _EPSILON**2 * (var + mean**2)


def _inverse_deviation(var: np.ndarray, mean: np.ndarray) -> np.ndarray:
    alive = _alive(var, mean)
    return np.where(alive, 1 / np.sqrt(np.where(alive, var, 1)), 0)


def _dead(network: Network, moments: list[Moments]) -> dict[str, int]:
    """Units that never vary on any tap, in a or in b, per group that is alone on its taps."""
    alive: dict[str, np.ndarray] = {}
    for m in moments:
        if len(m.units) == 1:
            name = network.by_atom[m.units[0]].name
            both = np.minimum(
                _alive(m.var_a, m.mean_a).sum(-1), _alive(m.var_b, m.mean_b).sum(-1)
            ).sum()
            alive[name] = np.maximum(alive.get(name, 0), both)
    return {
        n: int(np.prod(network.groups[n].shape) - v)
        for n, v in alive.items()
        if np.prod(network.groups[n].shape) - v > 0
    }
