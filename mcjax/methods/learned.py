"""The segment to B moved by an element of its symmetry group that the loss has taught."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..align.learned_action import ActionSearch, learn_action
from ..network.elements import by_kind
from ..path import Linear as Segment
from ..training.protocol import Protocol
from .aligned import WeightMatching
from .problem import Connection, Method, Problem
from .trained import check_align, check_protocol, end_of

_PROTOCOL = Protocol(epochs=10)
_WEIGHTS = WeightMatching(symmetry="full")


@dataclasses.dataclass(frozen=True, repr=False)
class ActionLearning(Method):
    """The segment to gθ_B, with g in the whole symmetry group learned by the loss on the way.

    min_g E_t ℓ((1 − t) θ_A + t gθ_B) from where `align` has brought B; never worse than that. See
    `mcjax.align.learn_action`.

    - `protocol`: epochs, batch, augmentation, attack
    - `align`: the method to begin with, None for B as it is
    - `interval`: t is drawn uniformly between these
    - `optimizer`: any of optax; default: AdamW at 3e-4
    """

    protocol: Protocol = _PROTOCOL
    align: Any = _WEIGHTS
    interval: tuple[float, float] = (0.4, 0.6)
    optimizer: Any = None

    label = "Learned, full"
    source = "Theus et al. 2025"
    needs_inputs = "all"
    needs_labels = True
    moves_end = True

    def __post_init__(self) -> None:
        check_protocol(self.protocol)
        check_align(self.align)
        self.search()

    def search(self) -> ActionSearch:
        """How the action is learned."""
        return ActionSearch(self.protocol, self.optimizer, self.interval)

    def connect(self, problem: Problem) -> Connection:
        p = problem
        found = learn_action(
            p.network, p.a, p.b, (p.x, p.y), self.search(),
            key=p.key, start=end_of(self.align, p).action, task=p.task,
        )  # fmt: skip
        action = found.action
        return Connection(
            Segment(p.a, action(p.b)), action.permutations, found.status,
            elements=by_kind(p.network, action.elements),
            metadata={"objective before": found.before, "objective after": found.after},
        )  # fmt: skip


__all__ = ["ActionLearning"]
