"""Proximal alternating minimisation: permutation and curve in turn (tatro2020, App. E)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import jax
import numpy as np
import optax

from .. import _check
from .._tree import linear_combination, squared_distance
from .._types import Params, Permutations
from ..align import Matching
from ..align.learned import Objective, learn_permutations, pull_to_start, squared_distance_of
from ..network.action import Action
from ..network.network import Network
from ..path import Bezier
from ..training.curves import train_curve
from ..training.protocol import Augment, Protocol


@dataclasses.dataclass(frozen=True)
class PAM:
    """A curve and the permutation it ends at.

    - `path`: the quadratic Bézier curve from A to P·B
    - `permutations`: P
    - `objective`: (2 k + 1,) values of the objective: at the start, then after each permutation
      and each curve step; with the proximal terms it never rises
    - `proximal`: (2 k + 1,) the proximal term of each step (0 at the start)
    - `matchings`: of each outer iteration
    """

    path: Bezier
    permutations: dict[str, np.ndarray]
    objective: np.ndarray
    proximal: np.ndarray
    matchings: tuple[Matching, ...]


def pam(
    network: Network,
    a: Params,
    b: Params,
    data: tuple[Any, Any],
    protocol: Protocol,
    *,
    key: jax.Array,
    start: Permutations | None = None,
    iterations: int = 1,
    permutation_epochs: int = 20,
    permutation_rate: float | None = None,
    nu: float = 1e3,
    candidates: int = 32,
    objective: Objective | None = None,
    augment: Augment | None = None,
    directory: str | FilePath | None = None,
    progress: Callable[[str, int, float], None] | None = None,
) -> PAM:
    """Minimise E_t ℓ(r(t; θ̃, P)) over permutations P and curves θ̃ in turn (Eq. 34).

    r is the quadratic Bézier curve with control point ½(θ_A + Pθ_B) + θ̃ (Eq. 35), so that it
    moves with P. Each outer iteration learns P by projected SGD (`learn_permutations`, at half
    the rate), then trains θ̃ by SGD, both with a proximal term 1/(2ν); rates halve with each
    iteration. A curve step that ends higher than it began is not taken: the objective is
    monotone, as Theorem E.1 says of exact minimisation.

    **Arguments:**
    - `data`: (x, y) to train on
    - `protocol`: of the curve step; the permutation step has `permutation_epochs`
    - `start`: permutations to begin with, default the identity; those of `match_activations` give
      the paper's "PAM Aligned"
    - `iterations`: outer ones (the paper's is 1)
    - `permutation_rate`: learning rate of the permutation step; default half the protocol's, as in
      the paper. A rate at which no entry of the matrices falls below others leaves P as it is
    - `nu`: ν of both proximal terms
    - `candidates`: samples of the Birkhoff decomposition
    - `objective`: what is compared; default: the training loss on 2,048 examples at 5 t
    - `directory`: keep the state after each epoch and go on there
    - `progress`: called after each epoch with (`"permutation"` or `"curve"`, epoch, loss)

    **Returns:** a `PAM`.

    **Raises:** `ValueError` for networks without groups or arguments that are not positive.

        >>> import jax, numpy as np, mcjax
        >>> from mcjax.models import MLP
        >>> from mcjax.training.protocol import Protocol
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
        >>> found = mcjax.methods.pam(
        ...     mcjax.trace(model.apply, a, x), a, b, (x, y), Protocol(3, batch=4),
        ...     key=jax.random.key(0), permutation_epochs=2)
        >>> bool(found.objective[-1] <= found.objective[0])
        True
    """
    _check.positive(iterations, "iterations")
    if not nu > 0:
        raise ValueError(f"nu must be positive, got {nu}")
    measure = (
        Objective.on(network.apply_fn, data, protocol.batch) if objective is None else objective
    )
    permutations = Action.of(network, {} if start is None else start).permutations
    path = Bezier.between(a, network.permute(permutations, b))
    history, proximal, matchings = [measure(path)], [0.0], []
    folder = None if directory is None else FilePath(directory)
    rate = protocol.learning_rate / 2 if permutation_rate is None else permutation_rate
    for k in range(iterations):
        rates = dataclasses.replace(protocol, learning_rate=protocol.learning_rate / 2**k)
        keys = jax.random.split(jax.random.fold_in(key, k))
        matching = learn_permutations(
            network, a, b, data,
            dataclasses.replace(rates, epochs=permutation_epochs, learning_rate=rate / 2**k),
            key=keys[0], start=permutations, bump=_bump(path), proximal=nu, candidates=candidates,
            objective=measure, augment=augment, directory=folder and folder / f"permutation-{k}",
            progress=_named(progress, "permutation"),
        )  # fmt: skip
        moved = _along(path, network.permute(matching.permutations, b))
        pulled = squared_distance_of(matching.permutations, permutations) / (2 * nu)
        permutations, path = dict(matching.permutations), moved
        matchings.append(matching)
        history.append(measure(path))
        proximal.append(pulled)
        trained = _curve_step(
            network, path, data, rates, nu, keys[1], augment,
            folder and folder / f"curve-{k}", _named(progress, "curve"),
        )  # fmt: skip
        pull = float(squared_distance(trained.points[1], path.points[1])) / (2 * nu)
        value = measure(trained)
        taken = value + pull <= history[-1]
        history.append(value if taken else history[-1])
        proximal.append(pull if taken else 0.0)
        path = trained if taken else path
    return PAM(path, permutations, np.array(history), np.array(proximal), tuple(matchings))


def _curve_step(
    network: Network, path: Bezier, data: Any, protocol: Protocol, nu: float, key: jax.Array,
    augment: Augment | None, directory: FilePath | None, progress: Any,
) -> Bezier:  # fmt: skip
    steps = len(data[0]) // protocol.batch * protocol.epochs
    fitted = train_curve(
        path, network.apply_fn, data, protocol, key=key, augment=augment, directory=directory,
        optimizer=_pulled(protocol, steps, nu), progress=progress,
    )  # fmt: skip
    return fitted.path  # type: ignore[return-value]


@lru_cache(maxsize=64)
def _pulled(protocol: Protocol, steps: int, nu: float) -> optax.GradientTransformation:
    """The protocol's SGD with the proximal term; the decay is in the loss of `train_curve`."""
    plain = dataclasses.replace(protocol, weight_decay=0.0)
    return optax.chain(pull_to_start(nu), plain.optimizer(steps))


def _bump(path: Bezier) -> Params:
    """θ̃: the control point beyond the middle of the ends."""
    return linear_combination((-0.5, 1.0, -0.5), path.points)


def _along(path: Bezier, end: Params) -> Bezier:
    """The curve with another end and the same θ̃."""
    control = linear_combination((0.5, 0.5, 1.0), (path.points[0], end, _bump(path)))
    return Bezier([path.points[0], control, end])


def _named(progress: Any, name: str) -> Any:
    return None if progress is None else lambda epoch, loss: progress(name, epoch, loss)
