"""Proximal alternating minimisation: permutation and curve in turn (tatro2020, App. E)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _check, _check_model
from .._lazy import lazily
from .._tree import linear_combination, squared_distance
from .._types import Params, Permutations
from ..align import Matching
from ..align.learned import Objective, learn_permutations, squared_distance_of
from ..align.relaxations import pull_to_start
from ..network.action import Action
from ..network.network import Network
from ..path import Bezier
from ..tasks import CLASSIFICATION, Task
from ..training.curves import train_curve
from ..training.data import Data
from ..training.protocol import Protocol

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")


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

    @property
    def status(self) -> str:
        """`"trained"`, or `"not finite"` where a value of the objective is not."""
        return "trained" if np.isfinite(self.objective).all() else "not finite"


@_check.on_host
def pam(
    network: Network,
    a: Params,
    b: Params,
    data: tuple[Any, Any],
    protocol: Protocol,
    *,
    key: jax.Array,
    task: Task = CLASSIFICATION,
    start: Permutations | None = None,
    iterations: int = 1,
    permutation_protocol: Protocol | None = None,
    proximal: float = 1e3,
    candidates: int = 32,
    objective: Objective | None = None,
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
    - `protocol`: of the curve steps
    - `task`: whose loss is minimised
    - `start`: permutations to begin with, default the identity; those of `match_activations` give
      the paper's "PAM Aligned"
    - `iterations`: outer ones (the paper's is 1)
    - `permutation_protocol`: of the permutation steps; default: the curve's for 20 epochs at half
      its rate, as in the paper. A rate at which no entry of the matrices falls below others
      leaves P as it is
    - `proximal`: ν of both proximal terms
    - `candidates`: samples of the Birkhoff decomposition
    - `objective`: what is compared; default: the training loss on 2,048 examples at 5 t
    - `directory`: keep the state after each epoch and go on there
    - `progress`: called after each epoch with (`"permutation"` or `"curve"`, epoch, loss)

    **Returns:** a `PAM`.

    **Raises:** `ValueError` for networks without groups or arguments that are not positive.

        >>> import jax, numpy as np, mcjax
        >>> from mcjax.models import MLP
        >>> from mcjax.training import Protocol
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
        >>> found = mcjax.methods.pam(
        ...     mcjax.trace(model.apply, a, x), a, b, (x, y), Protocol(3, batch=4),
        ...     key=jax.random.key(0), permutation_protocol=Protocol(2, batch=4))
        >>> bool(found.objective[-1] <= found.objective[0])
        True
    """
    _check_model.network(network)
    _check.random_key(key)
    _check.positive(iterations, "iterations")
    if not proximal > 0:
        raise ValueError(f"proximal must be positive, got {proximal}")
    a, b = network.check_parameters(a=a, b=b)
    if permutation_protocol is None:
        half = protocol.learning_rate / 2
        permutation_protocol = dataclasses.replace(protocol, epochs=20, learning_rate=half)
    Data(data, network).check(task, network.apply_fn, a, protocol.attack)
    if objective is None:
        objective = Objective.on(network, data, protocol.batch, task=task)
    permutations = Action.of(network, {} if start is None else start).permutations
    path = Bezier.between(a, network.permute(permutations, b))
    history, pulls, matchings = [objective(path)], [0.0], []
    folder = None if directory is None else FilePath(directory)
    for k in range(iterations):
        keys = jax.random.split(jax.random.fold_in(key, k))
        matching = learn_permutations(
            network, a, b, data, _slower(permutation_protocol, k), key=keys[0], task=task,
            start=permutations, bump=_bump(path), proximal=proximal, candidates=candidates,
            objective=objective, directory=folder and folder / f"permutation-{k}",
            progress=_named(progress, "permutation"),
        )  # fmt: skip
        path = _along(path, network.permute(matching.permutations, b))
        pulls.append(squared_distance_of(matching.permutations, permutations) / (2 * proximal))
        permutations = dict(matching.permutations)
        matchings.append(matching)
        history.append(objective(path))
        trained = _curve_step(
            network, path, data, _slower(protocol, k), proximal, keys[1], task,
            folder and folder / f"curve-{k}", _named(progress, "curve"),
        )  # fmt: skip
        pull = float(squared_distance(trained.points[1], path.points[1])) / (2 * proximal)
        value = objective(trained)
        taken = value + pull <= history[-1]
        history.append(value if taken else history[-1])
        pulls.append(pull if taken else 0.0)
        path = trained if taken else path
    if not np.isfinite(history).all():
        warnings.warn("the objective of PAM is not finite: is the loss of A and B?", stacklevel=2)
    return PAM(path, permutations, np.array(history), np.array(pulls), tuple(matchings))


def _slower(protocol: Protocol, k: int) -> Protocol:
    """The protocol at the k-th outer iteration: the rate is halved each time."""
    return dataclasses.replace(protocol, learning_rate=protocol.learning_rate / 2**k)


def _curve_step(
    network: Network, path: Bezier, data: Any, protocol: Protocol, proximal: float,
    key: jax.Array, task: Task, directory: FilePath | None, progress: Any,
) -> Bezier:  # fmt: skip
    steps = Data(data, network).steps(protocol.batch) * protocol.epochs
    plain = dataclasses.replace(protocol, weight_decay=0.0, augment=None, attack=None)
    fitted = train_curve(
        path, network, data, protocol, key=key, task=task, directory=directory,
        optimizer=_pulled(plain, steps, proximal), progress=progress,
    )  # fmt: skip
    return fitted.path  # type: ignore[return-value]


@lru_cache(maxsize=16)
def _pulled(protocol: Protocol, steps: int, proximal: float) -> optax.GradientTransformation:
    """SGD with the proximal term; the decay is in the loss of `train_curve`."""
    return optax.chain(pull_to_start(proximal), protocol.optimizer(steps))


def _bump(path: Bezier) -> Params:
    """θ̃: the control point beyond the middle of the ends."""
    return linear_combination((-0.5, 1.0, -0.5), path.points)


def _along(path: Bezier, end: Params) -> Bezier:
    """The curve with another end and the same θ̃."""
    control = linear_combination((0.5, 0.5, 1.0), (path.points[0], end, _bump(path)))
    return Bezier((path.points[0], control, end))


def _named(progress: Any, name: str) -> Any:
    return None if progress is None else lambda epoch, loss: progress(name, epoch, loss)
