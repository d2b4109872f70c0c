"""n networks aligned at once, cycle-consistently (C²M³, Crisostomi et al. 2024)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._tree import linear_combination, squared_norm
from .._types import Params
from ..network.batch_norm import without
from ..network.network import Network
from ..symmetry.permutation import compose, invert
from ..symmetry.relaxation import Matrices, matrices_of, nearest_permutation, transport
from .weights import match_weights

_MAX_STEPS = 50
_TOLERANCE = 1e-6
_STEP_SIZES = 21


@dataclasses.dataclass(frozen=True)
class Matchings:
    """Permutations of n networks' units to one common order, that of the first network.

    - `permutations`: for each network; `network.permute(permutations[i], networks[i])` aligns it
      to all others. From j to i it goes by `between(i, j)`, and any cycle of these is the identity
    - `objective`: Σ_{i<j} ⟨P_i θ_i, P_j θ_j⟩ at the start and after every step of Frank–Wolfe,
      with relaxed matrices; the last is that of the permutations
    - `converged`: whether the steps ended before their number did
    """

    permutations: tuple[dict[str, np.ndarray], ...]
    objective: np.ndarray
    converged: bool
    network: Network = dataclasses.field(repr=False)

    def between(self, i: int, j: int) -> dict[str, Any]:
        """Permutations that align network j to network i."""
        return compose(
            self.network, invert(self.network, self.permutations[i]), self.permutations[j]
        )


def match_many(
    network: Network,
    networks: Sequence[Params],
    *,
    key: jax.Array | None = None,
    steps: int = _MAX_STEPS,
) -> Matchings:
    """Permutations that maximise Σ_{i<j} ⟨P_i θ_i, P_j θ_j⟩ over all networks at once.

    Frank–Wolfe on doubly stochastic matrices: the gradient at the current matrices is an
    assignment problem for each group of each network (SciPy); the best of a grid of step sizes is
    taken, so the objective never falls. It starts from weight matching to the first network and
    ends with the nearest permutations (or the start, if that is better). Since every network is
    matched to one common order, aligning i to j to k to i is exactly the identity.

    **Arguments:**
    - `networks`: at least two parameter trees of the traced structure
    - `key`: of the weight matching
    - `steps`: at most so many

    **Returns:** `Matchings`.

    **Raises:** `ValueError` for fewer than two networks, or parameters that do not fit.

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
    if len(networks) < 2:
        raise ValueError(f"networks: at least two are needed, got {len(networks)}")
    _check.positive(steps, "steps")
    trees = network.check_parameters(**{f"networks[{i}]": p for i, p in enumerate(networks)})
    first = [network.identity_permutations()] + [
        dict(match_weights(network, trees[0], p, key=key).permutations) for p in trees[1:]
    ]
    matrices = [matrices_of(network, p) for p in first]
    value, history, converged = float(_objective(network, trees, matrices)), [], False
    history.append(value)
    for _ in range(steps):
        gradient = jax.device_get(_gradient(network, trees, matrices))
        towards = [
            matrices_of(network, {n: nearest_permutation(g) for n, g in of_one.items()})
            for of_one in gradient
        ]
        values = np.asarray(_along(network, trees, matrices, towards))
        best = int(values.argmax())
        if values[best] <= value + _TOLERANCE * abs(value):
            converged = True
            break
        step = best / (_STEP_SIZES - 1)
        matrices = [
            linear_combination((1 - step, step), pair)
            for pair in zip(matrices, towards, strict=True)
        ]
        value = float(values[best])
        history.append(value)
    rounded = [{n: nearest_permutation(m) for n, m in of_one.items()} for of_one in matrices]
    final = float(_objective(network, trees, [matrices_of(network, p) for p in rounded]))
    if final < history[0]:
        rounded, final = first, history[0]
    back = invert(network, rounded[0])
    permutations = tuple(
        {n: np.asarray(v) for n, v in compose(network, back, p).items()} for p in rounded
    )
    return Matchings(permutations, np.array([*history, final]), converged, network)


def _relaxed(network: Network, trees: Sequence[Params], matrices: Sequence[Matrices]) -> jax.Array:
    """Σ_{i<j} ⟨D_i θ_i, D_j θ_j⟩ = ½ (‖Σ_i D_i θ_i‖² − Σ_i ‖D_i θ_i‖²)."""
    statistics = network.normalisations.leaves
    moved = [
        without(statistics, transport(network, m, p)) for m, p in zip(matrices, trees, strict=True)
    ]
    total = linear_combination((1.0,) * len(moved), moved)
    return (squared_norm(total) - sum(squared_norm(m) for m in moved)) / 2


@partial(jax.jit, static_argnames="network")
def _objective(network: Network, trees: Any, matrices: Any) -> jax.Array:
    return _relaxed(network, trees, matrices)


@partial(jax.jit, static_argnames="network")
def _gradient(network: Network, trees: Any, matrices: Any) -> Any:
    return jax.grad(lambda m: _relaxed(network, trees, m))(matrices)


@partial(jax.jit, static_argnames="network")
def _along(network: Network, trees: Any, matrices: Any, towards: Any) -> jax.Array:
    """The objective at steps of different sizes towards other matrices."""

    def at(step):
        mixed = [
            linear_combination((1 - step, step), pair)
            for pair in zip(matrices, towards, strict=True)
        ]
        return _relaxed(network, trees, mixed)

    return jax.lax.map(at, jnp.linspace(0, 1, _STEP_SIZES))
