"""Proximal alternating minimisation: permutation and curve in turn (tatro2020, App. E)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _check, _check_model
from .._lazy import lazily
from .._readonly import make_read_only
from .._tree import linear_combination, squared_distance
from .._types import Params, Permutations
from ..align import Matching
from ..align.learned import Objective, Search, learn_permutations, squared_distance_of
from ..align.relaxations import pull_to_start
from ..network.action import Action
from ..path import Bezier, Transported
from ..training.curves import train_curve
from ..training.data import Data
from ..training.protocol import Protocol
from .problem import Connection, Method, Problem
from .trained import CURVES, check_align, check_protocol, end_of

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")


@dataclasses.dataclass(frozen=True)
class PamFit:
    """A curve and the permutation it ends at: the result of `Pam.minimise`.

    - `path`: the quadratic Bézier curve from A to P·B
    - `permutations`: P
    - `objective`: (2 k + 1,) values of the objective: at the start, then after each permutation
      and each curve step; with the proximal terms it never rises
    - `proximal`: (2 k + 1,) the proximal term of each step (0 at the start)
    - `matchings`: of each outer iteration
    """

    path: Bezier
    permutations: Mapping[str, np.ndarray]
    objective: np.ndarray
    proximal: np.ndarray
    matchings: tuple[Matching, ...]

    def __post_init__(self) -> None:
        make_read_only(self, "permutations", "objective", "proximal")

    @property
    def status(self) -> str:
        """`"trained"`, or `"not finite"` where a value of the objective is not."""
        return "trained" if np.isfinite(self.objective).all() else "not finite"


@dataclasses.dataclass(frozen=True, repr=False)
class Pam(Method):
    """Permutation and quadratic Bézier curve, each minimised in turn (tatro2020, App. E).

    Proximal alternating minimisation of E_t ℓ(r(t; θ̃, P)) over permutations P and curves θ̃
    (Eq. 34), where r is the quadratic Bézier curve with control point ½(θ_A + Pθ_B) + θ̃ (Eq. 35),
    so that it moves with P. `minimise` shows how the objective falls.

    - `protocol`: of the curve steps
    - `align`: a method whose order of B's units it starts from ("PAM Aligned"), None for B's own
    - `iterations`: outer ones (the paper's is 1)
    - `permutation_protocol`: of the permutation steps; default, the paper's: the curve's for 20
      epochs at half its rate. A rate at which no entry of the matrices falls below others leaves P
      as it is
    - `proximal`: ν of both proximal terms
    - `candidates`: samples of the Birkhoff decomposition
    """

    protocol: Protocol = CURVES
    align: Any = None
    iterations: int = 1
    permutation_protocol: Protocol | None = None
    proximal: float = 1e3
    candidates: int = 32

    source = "tatro2020, App. E"
    needs_inputs = "all"
    needs_labels = True
    moves_end = True

    def __post_init__(self) -> None:
        _check.positive(self.iterations, "iterations")
        check_protocol(self.protocol)
        if self.permutation_protocol is not None:
            check_protocol(self.permutation_protocol, "permutation_protocol")
        if not self.proximal > 0:
            raise ValueError(f"proximal must be positive, got {self.proximal}")
        _check.positive(self.candidates, "candidates")
        check_align(self.align)

    @property
    def label(self) -> str:
        return "PAM" if self.align is None else "PAM, aligned"

    def connect(self, problem: Problem) -> Connection:
        found = self.minimise(problem)
        return Connection(found.path, found.permutations, found.status)

    def _aligned(self, problem: Problem) -> Action:
        begin = end_of(self.align, problem).action
        if begin.elements:
            raise ValueError(
                f"align: PAM learns permutations, and {self.align!r} scaled, signed or rotated B's "
                "units too; pass one that only permutes"
            )
        return begin

    @_check.on_host
    def minimise(
        self,
        problem: Problem,
        *,
        start: Permutations | None = None,
        directory: str | FilePath | None = None,
        progress: Callable[[str, int, float], None] | None = None,
    ) -> PamFit:
        """Permutation and curve, and the objective after each step.

        Each outer iteration learns P by projected SGD (`mcjax.align.learn_permutations`), then
        trains θ̃ by SGD, both with a proximal term 1/(2ν); rates halve with each iteration. A curve
        step that ends higher than it began is not taken: the objective is monotone, as Theorem E.1
        says of exact minimisation.

        **Arguments:**
        - `problem`: the networks, inputs and labels to train on, the task and the key
        - `start`: permutations to begin with; default: those of `align`
        - `directory`: keep the state after each epoch and go on there
        - `progress`: called after each epoch with (`"permutation"` or `"curve"`, epoch, loss)

        **Returns:** a `PamFit`.

        **Raises:** `ValueError` for networks without groups, data that are not the task's.

            >>> import jax, numpy as np, mcjax
            >>> from mcjax.methods import Pam, Problem
            >>> from mcjax.models import MLP
            >>> from mcjax.training import Protocol
            >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
            >>> model = MLP((4,), 2)
            >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
            >>> problem = Problem(mcjax.trace(model.apply, a, x), a, b, x, y)
            >>> brief = Pam(Protocol(3, batch=4), permutation_protocol=Protocol(2, batch=4))
            >>> found = brief.minimise(problem)
            >>> bool(found.objective[-1] <= found.objective[0])
            True
        """
        a, b, search = self._begin(problem)
        network, data, folder = problem.network, (problem.x, problem.y), directory
        begin = self._aligned(problem) if start is None else Action.of(network, start)
        permutations = begin.permutations
        path = Bezier.between(a, network.permute(permutations, b))
        objective: Any = search.objective
        history, pulls, matchings = [objective(path)], [0.0], []
        for k in range(self.iterations):
            keys = jax.random.split(jax.random.fold_in(problem.key, k))
            slower = dataclasses.replace(search, protocol=_slower(search.protocol, k))
            matching = learn_permutations(
                Transported.between(network, a, b, permutations, bump=_bump(path)), data, slower,
                key=keys[0], task=problem.task, directory=_inside(folder, f"permutation-{k}"),
                progress=_named(progress, "permutation"),
            )  # fmt: skip
            path = _along(path, network.permute(matching.permutations, b))
            moved = squared_distance_of(matching.permutations, permutations)
            pulls.append(moved / (2 * self.proximal))
            permutations = dict(matching.permutations)
            matchings.append(matching)
            history.append(objective(path))
            trained: Any = self._curve_step(
                problem, path, k, key=keys[1], directory=_inside(folder, f"curve-{k}"),
                progress=_named(progress, "curve"),
            )  # fmt: skip
            pull = float(squared_distance(trained.points[1], path.points[1])) / (2 * self.proximal)
            value = objective(trained)
            taken = value + pull <= history[-1]
            history.append(value if taken else history[-1])
            pulls.append(pull if taken else 0.0)
            path = trained if taken else path
        if not np.isfinite(history).all():
            warnings.warn(
                "the objective of PAM is not finite: is the loss of A and B?", stacklevel=3
            )
        return PamFit(path, permutations, np.array(history), np.array(pulls), tuple(matchings))

    def _begin(self, problem: Problem) -> tuple[Params, Params, Search]:
        """The two networks, packed, and how permutations are learned; all checked."""
        network, data = problem.network, (problem.x, problem.y)
        _check_model.network(network)
        _check.random_key(problem.key)
        a, b = network.check_parameters(a=problem.a, b=problem.b)
        whole = Data(data, network)
        whole.check(problem.task, network.apply_fn, a, self.protocol.attack)
        protocol = self.permutation_protocol
        if protocol is None:
            protocol = dataclasses.replace(
                self.protocol, epochs=20, learning_rate=self.protocol.learning_rate / 2
            )
        objective = Objective.on(network, data, self.protocol.batch, task=problem.task)
        search = Search(
            protocol, proximal=self.proximal, candidates=self.candidates, objective=objective
        )
        return a, b, search

    def _curve_step(self, problem: Problem, path: Bezier, k: int, **how: Any) -> Any:
        """The curve after the step of the k-th iteration."""
        data, protocol = (problem.x, problem.y), _slower(self.protocol, k)
        steps = Data(data, problem.network).steps(protocol.batch) * protocol.epochs
        plain = dataclasses.replace(protocol, weight_decay=0.0, augment=None, attack=None)
        fitted = train_curve(
            path, problem.network, data, protocol, task=problem.task,
            optimizer=_pulled(plain, steps, self.proximal), **how,
        )  # fmt: skip
        return fitted.path


def _inside(directory: str | FilePath | None, name: str) -> FilePath | None:
    return None if directory is None else FilePath(directory) / name


def _slower(protocol: Protocol, k: int) -> Protocol:
    """The protocol at the k-th outer iteration: the rate is halved each time."""
    return dataclasses.replace(protocol, learning_rate=protocol.learning_rate / 2**k)


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
