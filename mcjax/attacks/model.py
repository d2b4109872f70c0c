"""A network with the attack inside: what an evaluation runs on attacked inputs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from .._inputs import length
from .._types import ApplyFn, Params
from ..tasks import CLASSIFICATION, Task
from .attack import Attack


@dataclasses.dataclass(frozen=True)
class AttackedModel:
    """A model of the inputs that `attack_inputs` makes: the outputs at x attacked.

    Equal for the same model, attack and task, so that nothing is compiled twice.
    """

    apply_fn: ApplyFn
    attack: Attack
    task: Task = CLASSIFICATION

    def __call__(self, params: Params, inputs: Any) -> Any:
        x, y, number, key = inputs
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(number)
        moved = self.attack.perturb(self.apply_fn, params, x, y, key=keys, task=self.task)
        return self.apply_fn(params, moved)


def attack_inputs(
    x: Any, y: Any, key: jax.Array, start: int = 0
) -> tuple[Any, Any, np.ndarray, jax.Array]:
    """What an `AttackedModel` takes: its start at example n is drawn from fold_in(key, n).

    So the result does not depend on how the data are cut into blocks and chunks.

    **Arguments:**
    - `start`: number of the first example
    """
    return x, y, np.arange(start, start + length(x), dtype=np.int32), key


__all__ = ["AttackedModel", "attack_inputs"]
