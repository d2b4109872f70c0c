"""How the papers train: optimiser, schedule and loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._types import ApplyFn, Params
from .metrics import cross_entropy


@dataclasses.dataclass(frozen=True)
class Protocol:
    """SGD as anokhin2020 trains its end points (learning rate by their schedule).

    The rate is constant for half of the training, then falls linearly to 1 % of it at 90 %.
    """

    epochs: int = 30
    batch: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """The optimiser of a training of so many steps: each time the same object."""
        return _optimizer(self, steps)


@lru_cache(maxsize=256)
def _optimizer(protocol: Protocol, steps: int) -> optax.GradientTransformation:
    def schedule(step):
        falling = (step / steps - 0.5) / 0.4
        return protocol.learning_rate * (1 - 0.99 * jnp.clip(falling, 0, 1))

    return optax.chain(
        optax.add_decayed_weights(protocol.weight_decay), optax.sgd(schedule, protocol.momentum)
    )


def cross_entropy_of(apply_fn: ApplyFn) -> Callable[[Params, Any], jax.Array]:
    """(params, (x, y)) → the mean cross-entropy of a model."""

    def loss(params: Params, batch: Any) -> jax.Array:
        x, y = batch
        return jnp.mean(cross_entropy(apply_fn(params, x), y))

    return loss
