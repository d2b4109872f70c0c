"""Permutations learned by the loss along a curve: relaxed, trained, rounded to the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled_for
from .._types import ApplyFn, Params, Permutations
from ..network.action import Action
from ..network.network import Network
from ..path import Path, Transported
from ..tasks import CLASSIFICATION, Task
from ..training.curves import train_curve
from ..training.data import Data
from ..training.loss import TrainingLoss
from ..training.protocol import Protocol
from ..transport.decomposition import sample_permutations
from ..transport.relaxation import nearest_permutation, projected
from .matching import Matching
from .relaxations import Projection, Relaxation


@_check.on_host
def learn_permutations(
    network: Network,
    a: Params,
    b: Params,
    data: tuple[Any, Any],
    protocol: Protocol,
    *,
    key: jax.Array,
    task: Task = CLASSIFICATION,
    relaxation: Relaxation = Projection(),  # noqa: B008  (frozen)
    start: Permutations | None = None,
    bump: Params | None = None,
    proximal: float = 1e3,
    candidates: int = 32,
    objective: Objective | None = None,
    directory: str | FilePath | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Matching:
    """Permutations P that minimise E_t ℓ(θ(t; P)) + 1/(2ν) ‖P − P₀‖², from a start P₀.

    θ(t; P) = (1 − t) θ_A + t Pθ_B + 2 t (1 − t) θ̃ (tatro2020, Eq. 34–35). P is relaxed to doubly
    stochastic matrices, which are trained on the data. Then the best is taken of P₀, the nearest
    permutation and samples of the Birkhoff decomposition (App. E.4), by the objective: the result
    is never worse than the start.

    **Arguments:**
    - `data`: (x, y) to train on
    - `protocol`: epochs, batch, learning rate, augmentation; no momentum, no weight decay
    - `task`: whose loss is minimised
    - `relaxation`: `Projection()` (PAM's), `SinkhornRelaxation(temperature)` or
      `StraightThrough()`
    - `start`: P₀, default the identity
    - `bump`: θ̃, default 0
    - `proximal`: ν
    - `candidates`: samples drawn of the decomposition
    - `objective`: how candidates are scored; default: the training loss on 2,048 examples
    - `directory`, `progress`: see `train_curve`

    **Returns:** a `Matching`; its objective is what is minimised. `"not converged"` where the
    training's loss is not finite: then it is the start.

    **Raises:** `ValueError` for what is no relaxation, or ν that is not positive.

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
    _check_model.network(network)
    if not (hasattr(relaxation, "path") and hasattr(relaxation, "optimizer")):
        raise ValueError(
            "relaxation must be an object, Projection(), SinkhornRelaxation() or "
            f"StraightThrough() of mcjax.align, got {relaxation!r}"
        )
    if not proximal > 0:
        raise ValueError(f"proximal must be positive, got {proximal}")
    if not network.groups:
        raise ValueError("the network has no group of two units or more: nothing can be permuted")
    a, b = network.check_parameters(a=a, b=b)
    first = Action.of(network, {} if start is None else start)
    steps = Data(data, network).steps(protocol.batch) * protocol.epochs
    if objective is None:
        objective = Objective.on(network, data, protocol.batch, task=task)
    candidate = Transported(network, a, b, first.matrices(), bump)
    fitted = train_curve(
        relaxation.path(network, a, b, candidate.matrices, bump), network, data,
        dataclasses.replace(protocol, weight_decay=0.0), key=key, task=task, directory=directory,
        optimizer=relaxation.optimizer(protocol, steps, proximal), progress=progress,
    )  # fmt: skip
    found = [first.permutations]
    if fitted.finite:
        trained: dict[str, Any] = fitted.path.plans()  # type: ignore[attr-defined]
        plans = {n: projected(m, f"the matrix learned for {n!r}") for n, m in trained.items()}
        found.append({n: nearest_permutation(m) for n, m in plans.items()})
        found += sample_permutations(plans, candidates, _generator(key, protocol.epochs))

    def value(p: Permutations) -> float:
        score = objective(candidate.with_free(Action.of(network, p).matrices()))
        return score + squared_distance_of(p, first.permutations) / (2 * proximal)

    values = [value(p) for p in found]
    best = int(np.argmin([v if np.isfinite(v) else np.inf for v in values]))
    return Matching(
        permutations={n: np.asarray(p) for n, p in found[best].items()},
        before={"total": values[0]},
        after={"total": values[best]},
        method=f"learned alignment ({relaxation})",
        status="local optimum" if fitted.finite else "not converged",
        minimised=True,
        metadata={
            "chosen": ("start", "nearest")[best] if best < 2 else "sample",
            "candidates": len(found),
            "losses": fitted.losses.tolist(),
        },
    )


def _generator(key: jax.Array, epochs: int) -> np.random.Generator:
    """Of the candidates: training folds 0 … epochs − 1 into the key, this the next number."""
    own = _check.key_data(jax.random.fold_in(key, epochs))
    return np.random.default_rng(np.asarray(own).tolist())


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """E_t ℓ(θ(t)) at fixed t on fixed batches: a number that can be compared between paths."""

    loss: Any
    batches: Sequence[Any]
    ts: jax.Array

    @classmethod
    def on(
        cls,
        model: ApplyFn | Network,
        data: tuple[Any, Any],
        batch: int,
        *,
        task: Task = CLASSIFICATION,
        examples: int = 2048,
        points: int = 5,
    ) -> Objective:
        """The training loss on the first examples, at the middles of `points` equal parts."""
        whole, apply_fn = Data(data, model), _check_model.apply_fn_of(model)
        n = max(1, min(examples, whole.n) // batch)
        key = jax.random.key(0)
        parts = np.arange(n * min(batch, whole.n)).reshape(n, -1)
        batches = [(*whole.layout.join(whole.rows(part), whole.shared), key) for part in parts]
        return cls(TrainingLoss(apply_fn, task), batches, (jnp.arange(points) + 0.5) / points)

    def __call__(self, path: Path) -> float:
        networks = _points(path, self.ts)
        values = [_losses(self.loss, networks, batch) for batch in self.batches]
        return float(np.mean([np.asarray(v) for v in values]))


@compiled_for()
def _points(path: Path, ts: jax.Array) -> Params:
    return jax.lax.map(path.at, ts)


@compiled_for("loss")
def _losses(loss: Any, networks: Params, batch: Any) -> jax.Array:
    return jax.lax.map(lambda params: loss(params, batch), networks)


def squared_distance_of(p: Permutations, q: Permutations) -> float:
    """‖P − Q‖² of the permutation matrices: 2 for every unit that differs."""
    return 2.0 * sum(int((np.asarray(p[n]) != np.asarray(q[n])).sum()) for n in q)
