"""Elements of the whole symmetry group learned by the loss between two networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _check, _check_model
from .._lazy import lazily
from .._readonly import make_read_only
from .._types import Params
from ..network.action import Action
from ..network.network import Network
from ..tasks import CLASSIFICATION, Task
from ..training.curves import train_curve
from ..training.fit import check_interval
from ..training.protocol import Protocol
from .action_path import MARGIN, ActionPath
from .learned import Objective

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")


@dataclasses.dataclass(frozen=True)
class ActionSearch:
    """How an action is learned.

    - `protocol`: epochs, batch, augmentation, attack
    - `optimizer`: any of optax, of the latent arrays (zeros: where it starts); default: AdamW at
      3e-4
    - `interval`: t is drawn uniformly between these. At t = ½ two units that should be exchanged
      are the same, and the gradient does not tell: permutations need t below ½
    - `margin`: the gradient must lift another choice of a permutation by so much
    - `objective`: what tells whether the end is better than the start; default: the training loss
      on 2,048 examples at 5 t

    **Raises:** `ValueError` for a protocol that is none, an interval outside [0, 1], a margin that
    is not positive.
    """

    protocol: Protocol
    optimizer: Any = None
    interval: tuple[float, float] = (0.4, 0.6)
    margin: float = MARGIN
    objective: Objective | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.protocol, Protocol):
            raise ValueError(
                f"protocol must be a mcjax.training.Protocol, got a {type(self.protocol).__name__}"
            )
        check_interval(self.interval)
        if not self.margin > 0:
            raise ValueError(f"margin must be positive, got {self.margin}")


@dataclasses.dataclass(frozen=True, eq=False)
class LearnedAction:
    """The action that `learn_action` has found: `action(b)` is where the segment from A ends.

    - `before`, `after`: the objective with the action that it started from, and with this one;
      never greater
    - `status`: `"improved"`, `"not improved"` (then it is the start: nothing better was found) or
      `"not finite"` (the training's loss, or what it ended at: then it is the start too); whether
      there is a better one nobody knows
    - `losses`: (epochs,) the mean loss of each
    """

    action: Action
    before: float
    after: float
    status: str
    losses: np.ndarray
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_read_only(self, "losses", "metadata")

    def summary(self) -> str:
        """The objective before and after, and what the action is."""
        return (
            f"learned action: {self.status}\n"
            f"objective (lower is better) {self.before:.5g} -> {self.after:.5g} in "
            f"{len(self.losses)} epochs\n{self.action!r}"
        )


@_check.on_host
def learn_action(
    network: Network,
    a: Params,
    b: Params,
    data: tuple[Any, Any],
    search: ActionSearch,
    *,
    key: jax.Array,
    start: Action | None = None,
    task: Task = CLASSIFICATION,
    directory: str | FilePath | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> LearnedAction:
    """An element g of the whole symmetry group that minimises E_t ℓ((1 − t) θ_A + t gθ_B).

    Permutations, signs, scalings and matrices of every unit group are trained together on the
    data, with t ~ U(0.4, 0.6) unless told otherwise; see `ActionPath` for how they are kept and
    projected (Theus et al. 2025, "Generalized linear mode connectivity for transformers"). The
    result is never worse than the start.

    **Arguments:**
    - `network`: traced; `a`, `b`: parameters of its structure
    - `data`: (x, y) to train on
    - `search`: protocol, optimiser, interval of t
    - `key`: order of the data, draws of t, augmentation
    - `start`: the action to begin with, as of an aligner; default: the identity
    - `task`: whose loss is minimised
    - `directory`, `progress`: see `train_curve`

    **Returns:** a `LearnedAction`.

    **Raises:** `ValueError` for parameters or a start that are not the network's, a network
    without groups, data that are not the task's.

        >>> import jax, numpy as np, mcjax
        >>> from mcjax.models import MLP
        >>> from mcjax.training import Protocol
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
        >>> network = mcjax.trace(model.apply, a, x)
        >>> search = mcjax.align.ActionSearch(Protocol(2, batch=4))
        >>> found = mcjax.align.learn_action(network, a, b, (x, y), search, key=jax.random.key(0))
        >>> found.after <= found.before
        True
    """
    _check_model.network(network)
    network.check_parameters(a=a, b=b)
    if not isinstance(search, ActionSearch):
        raise ValueError(
            "search must be a mcjax.align.ActionSearch, as ActionSearch(protocol), got a "
            f"{type(search).__name__}"
        )
    if not network.groups:
        raise ValueError("the network has no group of two units or more: there is no action")
    begin = Action.identity(network) if start is None else _checked(start, network)
    protocol = dataclasses.replace(search.protocol, weight_decay=0.0)
    path = ActionPath(network, a, begin(b), margin=search.margin)
    objective = search.objective
    if objective is None:
        objective = Objective.on(network, data, protocol.batch, task=task)
    before = objective(path)
    fitted = train_curve(
        path, network, data, protocol, key=key, task=task, directory=directory,
        optimizer=_adamw() if search.optimizer is None else search.optimizer,
        interval=search.interval, progress=progress,
    )  # fmt: skip
    learned, after = _ended(fitted.path, objective) if fitted.finite else (None, np.inf)
    better = learned is not None and after < before
    status = "not finite" if learned is None else "improved" if better else "not improved"
    return LearnedAction(
        action=begin if learned is None or not better else learned @ begin,
        before=before,
        after=after if better else before,
        status=status,
        losses=fitted.losses,
        metadata={"ended at": float(after)},
    )


def _ended(path: Any, objective: Objective) -> tuple[Action | None, float]:
    """What training has ended at, and its objective; no action where it has left the group."""
    value = objective(path)
    try:
        return (path.action(), value) if np.isfinite(value) else (None, np.inf)
    except ValueError:  # singular to rounding
        return None, np.inf


def _checked(start: Any, network: Network) -> Action:
    if not isinstance(start, Action):
        raise ValueError(f"start must be a mcjax.Action, got a {type(start).__name__}")
    if start.network != network:
        raise ValueError(f"start is an action of another network, {start.network}, not {network}")
    return start


@lru_cache(maxsize=1)
def _adamw() -> optax.GradientTransformation:
    return optax.adamw(3e-4)


__all__ = ["ActionSearch", "LearnedAction", "learn_action"]
