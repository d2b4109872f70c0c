"""Permutations learned by the loss along a curve: relaxed, trained, rounded to the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path as FilePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import _check
from .._types import Params, Permutations
from ..network.action import Action
from ..network.network import Network
from ..path import Path, Transported
from ..training.curves import train_curve
from ..training.protocol import Augment, Protocol, training_loss
from ..transport.decomposition import sample_permutations
from ..transport.relaxation import RELAXATIONS, nearest_permutation, project, projected
from .matching import Matching
from .straight_through import StraightThrough


def learn_permutations(
    network: Network,
    a: Params,
    b: Params,
    data: tuple[Any, Any],
    protocol: Protocol,
    *,
    key: jax.Array,
    relaxation: str = "projection",
    start: Permutations | None = None,
    bump: Params | None = None,
    proximal: float = 1e3,
    candidates: int = 32,
    terms: int = 10,
    objective: Objective | None = None,
    augment: Augment | None = None,
    directory: str | FilePath | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Matching:
    """Permutations P that minimise E_t ℓ(θ(t; P)) + 1/(2ν) ‖P − P₀‖², from a start P₀.

    θ(t; P) = (1 − t) θ_A + t Pθ_B + 2 t (1 − t) θ̃ (tatro2020, Eq. 34–35). P is relaxed to doubly
    stochastic matrices, which are trained on the data:

    - `"projection"`: SGD, each step followed by alternating projections (PAM, App. E.2)
    - `"sinkhorn"`: D = Sinkhorn(M) of free matrices M (ott-jax; the idea of Peña et al. 2023), by
      Adam
    - `"straight-through"`: P by weight matching to free parameters θ̂, to which the gradient with
      respect to Pθ_B is passed on (Git Re-Basin, Alg. 3), by Adam; a matching every step

    Then the best is taken of P₀, the nearest permutation and samples of the Birkhoff
    decomposition (App. E.4), by the objective: the result is never worse than the start.

    **Arguments:**
    - `data`: (x, y) to train on
    - `protocol`: epochs, batch and learning rate; no momentum, no weight decay
    - `start`: P₀, default the identity
    - `bump`: θ̃, default 0
    - `proximal`: ν
    - `candidates`: samples drawn; `terms`: of the decomposition
    - `objective`: how candidates are scored; default: the training loss on 2,048 examples
    - `directory`, `progress`: see `train_curve`

    **Returns:** a `Matching`; its objective is what is minimised.

    **Raises:** `ValueError` for an unknown relaxation, or ν that is not positive.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> from mcjax.models import MLP
        >>> from mcjax.training.protocol import Protocol
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
        >>> network = mcjax.trace(model.apply, a, x)
        >>> found = mcjax.align.learn_permutations(
        ...     network, a, b, (x, y), Protocol(2, batch=4), key=jax.random.key(0))
        >>> found.after["total"] <= found.before["total"]
        True
    """
    _check.one_of(relaxation, (*RELAXATIONS, "straight-through"), "relaxation")
    if not proximal > 0:
        raise ValueError(f"proximal must be positive, got {proximal}")
    if not network.groups:
        raise ValueError("the network has no group of two units or more: nothing can be permuted")
    first = Action.of(network, {} if start is None else start).permutations
    if objective is None:
        objective = Objective.on(network.apply_fn, data, protocol.batch)
    candidate = Transported(network, a, b, Action.of(network, first).matrices(), bump)
    path: Path = candidate
    if relaxation == "sinkhorn":
        path = Transported(network, a, b, candidate.matrices, bump, relaxation)
    elif relaxation == "straight-through":
        path = StraightThrough(network, a, b, a, bump)
    steps = len(data[0]) // protocol.batch * protocol.epochs
    fitted = train_curve(
        path, network.apply_fn, data, dataclasses.replace(protocol, weight_decay=0.0),
        optimizer=_optimizer(relaxation, protocol, steps, proximal), key=key, augment=augment,
        directory=directory, progress=progress,
    )  # fmt: skip
    trained: dict[str, Any] = fitted.path.plans()  # type: ignore[attr-defined]
    plans = {n: projected(m, f"the matrix learned for {n!r}") for n, m in trained.items()}
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    nearest = {n: nearest_permutation(m) for n, m in plans.items()}
    found = [first, nearest, *sample_permutations(plans, candidates, rng, terms)]
    values = [
        objective(candidate.with_free(Action.of(network, p).matrices()))
        + squared_distance_of(p, first) / (2 * proximal)
        for p in found
    ]
    best = int(np.argmin(values))
    return Matching(
        permutations={n: np.asarray(p) for n, p in found[best].items()},
        before={"total": values[0]},
        after={"total": values[best]},
        method=f"learned alignment ({relaxation})",
        status="local optimum",
        minimised=True,
        metadata={
            "chosen": ("start", "nearest")[best] if best < 2 else "sample",
            "candidates": len(found),
            "losses": fitted.losses.tolist(),
        },
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """E_t ℓ(θ(t)) at fixed t on fixed batches: a number that can be compared between paths."""

    loss: Any
    batches: Sequence[Any]
    ts: jax.Array

    @classmethod
    def on(
        cls, apply_fn: Any, data: tuple[Any, Any], batch: int, examples: int = 2048, points: int = 5
    ) -> Objective:
        """The training loss on the first examples, at the middles of `points` equal parts."""
        x, y = data
        n = max(1, min(examples, len(x)) // batch)
        key = jax.random.key(0)
        parts = (slice(i * batch, (i + 1) * batch) for i in range(n))
        batches = [(jnp.asarray(x[part]), jnp.asarray(y[part]), key) for part in parts]
        return cls(training_loss(apply_fn), batches, (jnp.arange(points) + 0.5) / points)

    def __call__(self, path: Path) -> float:
        networks = _points(path, self.ts)
        values = [_losses(self.loss, networks, batch) for batch in self.batches]
        return float(np.mean([np.asarray(v) for v in values]))


@jax.jit
def _points(path: Path, ts: jax.Array) -> Params:
    return jax.lax.map(path.at, ts)


@partial(jax.jit, static_argnames="loss")
def _losses(loss: Any, networks: Params, batch: Any) -> jax.Array:
    return jax.lax.map(lambda params: loss(params, batch), networks)


def squared_distance_of(p: Permutations, q: Permutations) -> float:
    """‖P − Q‖² of the permutation matrices: 2 for every unit that differs."""
    return 2.0 * sum(int((np.asarray(p[n]) != np.asarray(q[n])).sum()) for n in q)


def pull_to_start(strength: float) -> optax.GradientTransformation:
    """Adds the gradient of ‖φ − φ₀‖² / (2ν), φ₀ where the optimisation starts (Eq. 34)."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        pulled = jax.tree.map(lambda u, p, s: u + (p - s) / strength, updates, params, state)
        return pulled, state

    return optax.GradientTransformation(lambda params: params, update)


@lru_cache(maxsize=64)
def _optimizer(
    relaxation: str, protocol: Protocol, steps: int, proximal: float
) -> optax.GradientTransformation:
    """The same object for the same arguments, so that nothing is compiled twice."""
    if relaxation != "projection":
        return optax.adam(protocol.learning_rate)
    plain = dataclasses.replace(protocol, momentum=0.0, nesterov=False, weight_decay=0.0)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p: project(p + u) - p, updates, params), state

    projected = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    return optax.chain(pull_to_start(proximal), plain.optimizer(steps), projected)
