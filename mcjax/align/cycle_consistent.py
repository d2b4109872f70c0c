"""n networks aligned at once, cycle-consistently (C²M³, Crisostomi et al. 2024)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled_for
from .._readonly import make_read_only
from .._tree import is_inexact, linear_combination, squared_norm
from .._types import Params
from ..network.action import Action
from ..network.batch_norm import without
from ..network.mixing import Matrices
from ..network.network import Network
from ..transport.solution import BOUND, LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver, as_solver
from .arrays import exponent_of, float_arrays, inner_product
from .weights import descend, seed_of

_MAX_STEPS = 50
_TOLERANCE = 1e-6
_STEP_SIZES = 21

Permuted = list[dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Matchings:
    """Permutations of n networks' units to one common order, that of the first network.

    - `permutations`: for each network; `network.permute(permutations[i], networks[i])` aligns it
      to all others. From j to i it goes by `between(i, j)`, and any cycle of these is the identity
    - `objective`: Σ_{i<j} ⟨P_i θ_i, P_j θ_j⟩ at the start and after every step of Frank–Wolfe,
      with relaxed matrices, then that of the permutations
    - `status`: `"optimal"` (the sum of ‖θ_i‖ ‖θ_j‖ is attained), `"local optimum"` (no group of
      any one network is better placed otherwise) or `"stopped at a bound"` (of steps); as the
      solver's where that is less
    """

    permutations: tuple[Mapping[str, np.ndarray], ...]
    objective: np.ndarray
    status: str
    network: Network = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        make_read_only(self, "permutations", "objective")

    def __repr__(self) -> str:
        return f"Matchings({len(self.permutations)} networks: {self.status})"

    def between(self, i: int, j: int) -> dict[str, Any]:
        """Permutations that align network j to network i."""
        there, back = (Action.of(self.network, self.permutations[k]) for k in (j, i))
        return (back.inverse() @ there).permutations

    def summary(self) -> str:
        """How many networks, the objective before and after, and the status."""
        return (
            f"{len(self.permutations)} networks, cycle-consistent: {self.status}\n"
            f"total  {self.objective[0]:12.5g} -> {self.objective[-1]:12.5g}"
        )


@_check.on_host
def match_many(
    network: Network,
    networks: Sequence[Params],
    *,
    key: jax.Array | None = None,
    steps: int = _MAX_STEPS,
    solver: Solver = Exact(),
) -> Matchings:
    """Permutations that maximise Σ_{i<j} ⟨P_i θ_i, P_j θ_j⟩ over all networks at once.

    Frank–Wolfe on doubly stochastic matrices: the gradient at the current matrices is an
    assignment problem for each group of each network; the best of a grid of step sizes is taken,
    so the objective never falls. It starts from weight matching to the first network and goes on
    from the nearest permutations (or the start, if that is better): group after group of one
    network is assigned anew while that helps. Since every network is matched to one common order,
    aligning i to j to k to i is exactly the identity.

    **Arguments:**
    - `networks`: at least two parameter trees of the traced structure
    - `key`: of the weight matchings (each has an order of its own; default `jax.random.key(0)`)
    - `steps`: at most so many of Frank–Wolfe, and as many afterwards
    - `solver`: of the assignments

    **Returns:** `Matchings`.

    **Raises:** `ValueError` for fewer than two networks, parameters that do not fit, and for a
    `key` or a `solver` that are none.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a = {"w1": w1, "w2": w2}
        >>> network = mcjax.trace(f, a, jnp.ones((2, 4)))
        >>> turned = [network.permute(network.random_permutations(jax.random.key(i)), a)
        ...           for i in range(3)]
        >>> found = mcjax.align.match_many(network, turned)
        >>> aligned = [network.permute(p, t) for p, t in zip(found.permutations, turned)]
        >>> all(bool((aligned[0]["w1"] == v["w1"]).all()) for v in aligned)
        True
    """
    _check_model.network(network)
    solver = as_solver(solver)
    if isinstance(networks, dict) or not isinstance(networks, Sequence):
        raise ValueError(
            f"networks must be a sequence of parameter trees, got a {type(networks).__name__}"
        )
    if len(networks) < 2:
        raise ValueError(f"networks: at least two are needed, got {len(networks)}")
    _check.positive(steps, "steps")
    trees = network.check_parameters(**{f"networks[{i}]": p for i, p in enumerate(networks)})
    search = _FrankWolfe(network, trees, solver, steps)
    seed = seed_of(key)
    arrays = [float_arrays(jax.tree.leaves(tree)) for tree in trees]
    first = [network.identity_permutations()] + [
        dict(descend(network, arrays[0], b, np.random.default_rng([*seed, i]), solver=solver)
             .permutations)
        for i, b in enumerate(arrays[1:])
    ]  # fmt: skip
    found, history, status = search.run(first)
    back = Action.of(network, found[0]).inverse()
    common = [(back @ Action.of(network, p)).permutations for p in found]
    permutations = tuple({n: np.asarray(v) for n, v in p.items()} for p in common)
    return Matchings(permutations, np.array(history), status, network)


class _FrankWolfe:
    """Frank–Wolfe on doubly stochastic matrices, then ascent from the nearest permutations."""

    def __init__(
        self, network: Network, trees: Sequence[Params], solver: Solver, steps: int
    ) -> None:
        self.network, self.solver, self.steps = network, solver, steps
        self.trees, self.exponent = _prepared(trees)
        self.statuses: set[str] = set()

    def run(self, first: Permuted) -> tuple[Permuted, list[float], str]:
        """(permutations, the objective on the way, status)"""
        start, history = self.value(first), []
        history.append(start)
        found = [{n: self.assigned(m) for n, m in of.items()} for of in self.relax(first, history)]
        value = self.value(found)
        if value < start:
            found, value = first, start
        found, value, ended = self.ascend(found, value)
        history.append(value)
        counted = _counted(self.network, self.trees)
        squares = [inner_product(v, v) for v in map(float_arrays, counted)]
        most = (sum(v**0.5 for v in squares) ** 2 - sum(squares)) / 2
        status = worst(LOCAL if ended else BOUND, *self.statuses)
        if value >= (1 - _TOLERANCE) * most:
            status = OPTIMAL  # Cauchy–Schwarz
        return found, [float(np.ldexp(v, 2 * self.exponent)) for v in history], status

    def value(self, permutations: Permuted) -> float:
        matrices = _matrices(self.network, permutations)
        return float(_objective(self.network, self.trees, matrices))

    def relax(self, first: Permuted, history: list[float]) -> list[dict[str, Any]]:
        """Matrices of great value; `history` grows by that of each step."""
        matrices = _matrices(self.network, first)
        for _ in range(self.steps):
            gradient = jax.device_get(_gradient(self.network, self.trees, matrices))
            assigned = [{n: self.assigned(g) for n, g in of_one.items()} for of_one in gradient]
            towards = _matrices(self.network, assigned)
            values = np.asarray(_along(self.network, self.trees, matrices, towards))
            best = int(values.argmax())
            if values[best] <= history[-1] + _TOLERANCE * abs(history[-1]):
                break
            step = best / (_STEP_SIZES - 1)
            matrices = [
                linear_combination((1 - step, step), pair)
                for pair in zip(matrices, towards, strict=True)
            ]
            history.append(float(values[best]))
        return matrices

    def ascend(self, found: Permuted, value: float) -> tuple[Permuted, float, bool]:
        """The group of one network that gains most is assigned anew, while that helps.

        **Returns:** (permutations, value, whether none is left that gains)
        """
        for _ in range(self.steps):
            matrices = _matrices(self.network, found)
            gradient = jax.device_get(_gradient(self.network, self.trees, matrices))
            gains = [
                (_gain(g, found[i][n], new), i, n, new)
                for i, of_one in enumerate(gradient)
                for n, g in of_one.items()
                for new in [self.assigned(g)]
            ]
            for gain, i, name, new in sorted(gains, key=lambda g: g[0], reverse=True):
                if gain <= _TOLERANCE * abs(value):
                    return found, value, True
                moved = [{**p, name: new} if k == i else p for k, p in enumerate(found)]
                reached = self.value(moved)
                if reached > value:  # not so where a group stands twice on a parameter
                    found, value = moved, reached
                    break
            else:
                return found, value, True
        return found, value, False

    def assigned(self, matrix: Any) -> np.ndarray:
        """argmax ⟨P, M⟩ for each matrix, as index arrays."""
        matrix = np.asarray(matrix)
        columns = []
        for one in matrix.reshape(-1, *matrix.shape[-2:]):
            permutation, _, status = self.solver.assign(one)
            self.statuses.add(status)
            columns.append(permutation)
        return np.stack(columns).astype(np.int32).reshape(matrix.shape[:-1])


def _gain(gradient: np.ndarray, old: np.ndarray, new: np.ndarray) -> float:
    """⟨G, P' − P⟩."""
    entries = (np.take_along_axis(gradient, p[..., None], -1) for p in (new, old))
    first, second = entries
    return float((first - second).sum(dtype=np.float64))


def _prepared(trees: Sequence[Params]) -> tuple[list[Params], int]:
    """(networks in at least float32, exponent) of which networks · 2^exponent are the given ones.

    One exponent for all, so that the sum over pairs stays what it is.
    """
    leaves = [np.asarray(v) for tree in trees for v in jax.tree.leaves(tree) if is_inexact(v)]
    wide = [v.astype(np.promote_types(v.dtype, np.float32), copy=False) for v in leaves]
    largest = max((float(np.abs(v).max(initial=0)) for v in wide), default=0.0)
    exponent = max(exponent_of(np.array(largest)), -100)

    def prepare(v: Any) -> Any:
        if not is_inexact(v):
            return v
        dtype = np.promote_types(v.dtype, np.float32)
        return v if dtype == v.dtype and not exponent else v.astype(dtype) * 2.0**-exponent

    return [jax.tree.map(prepare, tree) for tree in trees], exponent


def _counted(network: Network, trees: Sequence[Params]) -> list[Params]:
    """The networks without what does not count: statistics of normalisations."""
    return [without(network.normalisations.leaves, tree) for tree in trees]


def _relaxed(network: Network, trees: Sequence[Params], matrices: Sequence[Matrices]) -> jax.Array:
    """Σ_{i<j} ⟨D_i θ_i, D_j θ_j⟩ = ½ (‖Σ_i D_i θ_i‖² − Σ_i ‖D_i θ_i‖²)."""
    pairs = zip(matrices, trees, strict=True)
    moved = _counted(network, [network.mix(m, p, check=False) for m, p in pairs])
    total = linear_combination((1.0,) * len(moved), moved)
    return (squared_norm(total) - sum(squared_norm(m) for m in moved)) / 2


@compiled_for("network")
def _matrices(network: Network, permutations: Any) -> list[dict[str, jax.Array]]:
    return [Action.of(network, p).matrices() for p in permutations]


@compiled_for("network")
def _objective(network: Network, trees: Any, matrices: Any) -> jax.Array:
    return _relaxed(network, trees, matrices)


@compiled_for("network")
def _gradient(network: Network, trees: Any, matrices: Any) -> Any:
    return jax.grad(lambda m: _relaxed(network, trees, m))(matrices)


@compiled_for("network")
def _along(network: Network, trees: Any, matrices: Any, towards: Any) -> jax.Array:
    """The objective at steps of different sizes towards other matrices."""

    def at(step):
        mixed = [
            linear_combination((1 - step, step), pair)
            for pair in zip(matrices, towards, strict=True)
        ]
        return _relaxed(network, trees, mixed)

    return jax.lax.map(at, jnp.linspace(0, 1, _STEP_SIZES))
