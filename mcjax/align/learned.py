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
from ..transport.relaxation import as_given, nearest_permutation, projected
from .matching import Matching
from .relaxations import Projection, Relaxation


@dataclasses.dataclass(frozen=True)
class Search:
    """How permutations are learned: the training of relaxed ones, and how they are rounded.

    - `protocol`: epochs, batch, learning rate, augmentation; no momentum, no weight decay
    - `relaxation`: `Projection()` (PAM's), `SinkhornRelaxation(temperature)` or
      `StraightThrough()`
    - `proximal`: ν of 1/(2ν) ‖P − P₀‖²
    - `candidates`: samples drawn of the Birkhoff decomposition
    - `objective`: how candidates are scored; default: the training loss on 2,048 examples at 5 t

    **Raises:** `ValueError` for what is no relaxation, or ν that is not positive.
    """

    protocol: Protocol
    relaxation: Relaxation = Projection()  # noqa: RUF009  (frozen)
    proximal: float = 1e3
    candidates: int = 32
    objective: Objective | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.protocol, Protocol):
            raise ValueError(
                f"protocol must be a mcjax.training.Protocol, got a {type(self.protocol).__name__}"
            )
        if not (hasattr(self.relaxation, "path") and hasattr(self.relaxation, "optimizer")):
            raise ValueError(
                "relaxation must be an object, Projection(), SinkhornRelaxation() or "
                f"StraightThrough() of mcjax.align, got {self.relaxation!r}"
            )
        if not self.proximal > 0:
            raise ValueError(f"proximal must be positive, got {self.proximal}")
        _check.positive(self.candidates, "candidates")


@_check.on_host
def learn_permutations(
    path: Transported,
    data: tuple[Any, Any],
    search: Search,
    *,
    key: jax.Array,
    task: Task = CLASSIFICATION,
    directory: str | FilePath | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Matching:
    """Permutations P that minimise E_t ℓ(θ(t; P)) + 1/(2ν) ‖P − P₀‖², from a start P₀.

    θ(t; P) = (1 − t) θ_A + t Pθ_B + 2 t (1 − t) θ̃ (tatro2020, Eq. 34–35). P is relaxed to doubly
    stochastic matrices, which are trained on the data. Then the best is taken of P₀, the nearest
    permutation and samples of the Birkhoff decomposition (App. E.4), by the objective: the result
    is never worse than the start.

    **Arguments:**
    - `path`: θ(t; P₀), as `Transported.between(network, a, b)`, or with permutations to begin with
      and a bump θ̃
    - `data`: (x, y) to train on
    - `search`: the protocol of the training, the relaxation, ν, how it is rounded
    - `key`: of the training and of the samples
    - `task`: whose loss is minimised
    - `directory`, `progress`: see `train_curve`

    **Returns:** a `Matching`; its `before` and `after` are what is minimised. `"not converged"`
    where the training's loss is not finite: then it is the start.

    **Raises:** `ValueError` for a path that is not transported by permutations, a network without
    groups, data that are not the task's.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> from mcjax.models import MLP
        >>> from mcjax.training import Protocol
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
        >>> start = mcjax.path.Transported.between(mcjax.trace(model.apply, a, x), a, b)
        >>> search = mcjax.align.Search(Protocol(2, batch=4))
        >>> found = mcjax.align.learn_permutations(start, (x, y), search, key=jax.random.key(0))
        >>> found.after["total"] <= found.before["total"]
        True
    """
    first = _start(path)
    if not isinstance(search, Search):
        raise ValueError(
            "search must be a mcjax.align.Search, as Search(protocol), got a "
            f"{type(search).__name__}"
        )
    network, protocol = path.network, search.protocol
    steps = Data(data, network).steps(protocol.batch) * protocol.epochs
    objective = search.objective
    if objective is None:
        objective = Objective.on(network, data, protocol.batch, task=task)
    fitted = train_curve(
        search.relaxation.path(path), network, data,
        dataclasses.replace(protocol, weight_decay=0.0), key=key, task=task, directory=directory,
        optimizer=search.relaxation.optimizer(protocol, steps, search.proximal),
        progress=progress,
    )  # fmt: skip
    found = [first]
    if fitted.finite:
        trained: dict[str, Any] = fitted.path.plans()  # type: ignore[attr-defined]
        plans = {n: projected(m, f"the matrix learned for {n!r}") for n, m in trained.items()}
        found.append({n: nearest_permutation(m) for n, m in plans.items()})
        found += sample_permutations(plans, search.candidates, _generator(key, protocol.epochs))

    def value(p: Permutations) -> float:
        score = objective(path.with_free(Action.of(network, p).matrices()))
        return score + squared_distance_of(p, first) / (2 * search.proximal)

    values = [value(p) for p in found]
    best = int(np.argmin([v if np.isfinite(v) else np.inf for v in values]))
    return Matching(
        permutations={n: np.asarray(p) for n, p in found[best].items()},
        before={"total": values[0]},
        after={"total": values[best]},
        method=f"learned alignment ({search.relaxation})",
        status="local optimum" if fitted.finite else "not converged",
        minimised=True,
        metadata={
            "chosen": ("start", "nearest")[best] if best < 2 else "sample",
            "candidates": len(found),
            "losses": fitted.losses.tolist(),
        },
    )


def _start(path: Transported) -> dict[str, np.ndarray]:
    """P₀ of a path, as index arrays."""
    if not isinstance(path, Transported):
        raise ValueError(
            "path must be a mcjax.path.Transported, as Transported.between(network, a, b), got a "
            f"{type(path).__name__}"
        )
    if not path.network.groups:
        raise ValueError("the network has no group of two units or more: nothing can be permuted")
    plans = {n: np.asarray(m) for n, m in path.plans().items()}
    first = {n: np.argmax(m, -1) for n, m in plans.items()}
    matrices = Action.of(path.network, first).matrices()
    if path.relaxation is not as_given or any(
        not np.array_equal(m, matrices[n]) for n, m in plans.items()
    ):
        raise ValueError(
            "path must start at permutations, with their matrices as they are "
            "(Transported.between); a relaxation is named by search"
        )
    return first


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
        if isinstance(model, Network):
            whole.check(task, apply_fn, model.template, None)
        n = max(1, min(examples, whole.n) // batch)
        key = jax.random.key(0)
        parts = np.arange(n * min(batch, whole.n)).reshape(n, -1)
        batches = [(*whole.layout.join(whole.rows(part), whole.shared), key) for part in parts]
        return cls(
            TrainingLoss(apply_fn, task), batches, (jnp.arange(points, dtype=float) + 0.5) / points
        )

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
