"""What training minimises: the mean of a task's losses on a batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from .._inputs import mark_like, unmark
from .._static import pack
from .._tree import squared_norm
from .._types import ApplyFn, Params
from ..attacks import Attack
from ..network.batch_norm import in_training_mode, statistics_of, without
from ..tasks import CLASSIFICATION, Task
from .protocol import Augment, Protocol


@dataclasses.dataclass(frozen=True)
class MeanLoss:
    """(params, (x, y)) → the mean loss of a model: what `mcjax.fit` takes as `loss_fn`.

    - `apply_fn`: (params, x) → outputs
    - `task`: whose loss it is

        >>> import jax.numpy as jnp, mcjax
        >>> loss = mcjax.training.MeanLoss(lambda p, x: x @ p, mcjax.tasks.REGRESSION)
        >>> float(loss(jnp.ones((2, 1)), (jnp.ones((3, 2)), jnp.zeros((3, 1)))))
        4.0
    """

    apply_fn: ApplyFn
    task: Task = CLASSIFICATION

    def __call__(self, params: Params, batch: Any) -> jax.Array:
        x, y = unmark(batch)
        return jnp.mean(self.task.losses(self.apply_fn(params, x), y))


@dataclasses.dataclass(frozen=True)
class TrainingLoss:
    """(params, (x, y, key)) → the mean loss as a training step sees it.

    x is augmented, then attacked (adversarial training, tatro2020, Sec. 2.3); batch normalisation
    uses the statistics of the batch.

    - `weight_decay`: adds λ/2 ‖θ‖², for the networks on a curve, which the optimiser does not see

    Equal for the same model, task and so on, so that nothing is compiled twice.
    """

    apply_fn: ApplyFn
    task: Task = CLASSIFICATION
    augment: Augment | None = None
    attack: Attack | None = None
    weight_decay: float = 0.0

    @classmethod
    def of(
        cls, apply_fn: ApplyFn, task: Task, protocol: Protocol, weight_decay: float = 0.0
    ) -> TrainingLoss:
        return cls(apply_fn, task, protocol.augment, protocol.attack, weight_decay)

    def __call__(self, params: Params, batch: Any) -> jax.Array:
        x, y, key = batch
        params, model = pack(params), in_training_mode(self.apply_fn)
        if self.augment is not None:
            x = mark_like(self.augment(key, unmark(x)), x)
        if self.attack is not None:
            draw = jax.random.fold_in(key, 0)
            x = self.attack.perturb(model, params, x, y, key=draw, task=self.task)
        value = jnp.mean(self.task.losses(model(params, x), unmark(y)))
        if self.weight_decay:
            trained = without(statistics_of(self.apply_fn, params, x), params)
            value = value + self.weight_decay / 2 * squared_norm(trained)
        return value
