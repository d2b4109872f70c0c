"""How the papers train: optimiser, schedule and loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

from .._tree import squared_norm
from .._types import ApplyFn, Params
from ..attacks import PGD
from ..network.batch_norm import in_training_mode, statistics_of, without
from ..tasks import cross_entropy

# (key, a batch of x) → the batch augmented
Augment = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """SGD with momentum and a schedule of the learning rate.

    Without `halve_every` the rate is anokhin2020's: constant for half of the training, then
    falling linearly to 1 % of it at 90 %. With it the rate halves after every so many epochs
    (tatro2020: 20 of 250).
    """

    epochs: int = 30
    batch: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    halve_every: float | None = None

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """The optimiser of a training of so many steps: each time the same object."""
        return _optimizer(self, steps)


@lru_cache(maxsize=256)
def _optimizer(protocol: Protocol, steps: int) -> optax.GradientTransformation:
    def schedule(step):
        if protocol.halve_every is not None:
            epoch = step / steps * protocol.epochs
            return protocol.learning_rate * 0.5 ** jnp.floor(epoch / protocol.halve_every)
        falling = (step / steps - 0.5) / 0.4
        return protocol.learning_rate * (1 - 0.99 * jnp.clip(falling, 0, 1))

    return optax.chain(
        optax.add_decayed_weights(protocol.weight_decay),
        optax.sgd(schedule, protocol.momentum or None, protocol.nesterov),
    )


def tatro2020(epochs: int = 250, learning_rate: float = 0.1, halvings: float = 12.5) -> Protocol:
    """tatro2020's protocol, with as many halvings of the rate if there are fewer epochs.

    Nesterov momentum 0.9, weight decay 5e-4, batch 128, the rate halved every 20 of 250 epochs;
    0.1 for end points, 0.01 for curves on CIFAR-10.

        >>> from mcjax.training.protocol import tatro2020
        >>> tatro2020().halve_every, tatro2020(25).halve_every
        (20.0, 2.0)
    """
    return Protocol(epochs, 128, learning_rate, 0.9, 5e-4, True, epochs / halvings)


def cross_entropy_of(apply_fn: ApplyFn) -> Callable[[Params, Any], jax.Array]:
    """(params, (x, y)) → the mean cross-entropy of a model."""

    def loss(params: Params, batch: Any) -> jax.Array:
        x, y = batch
        return jnp.mean(cross_entropy(apply_fn(params, x), y))

    return loss


@lru_cache(maxsize=64)
def training_loss(
    apply_fn: ApplyFn,
    augment: Augment | None = None,
    attack: PGD | None = None,
    weight_decay: float = 0.0,
) -> Callable[[Params, Any], jax.Array]:
    """(params, (x, y, key)) → the mean cross-entropy as a training step sees it.

    x is augmented, then attacked (adversarial training, tatro2020, Sec. 2.3); batch normalisation
    uses the statistics of the batch. `weight_decay` adds λ/2 ‖θ‖², for the networks on a curve,
    which the optimiser does not see. The same object for the same model, so that nothing is
    compiled twice.
    """
    model = in_training_mode(apply_fn)

    def loss(params: Params, batch: Any) -> jax.Array:
        x, y, key = batch
        if augment is not None:
            x = augment(key, x)
        if attack is not None:
            x = attack.perturb(model, params, x, y, jax.random.fold_in(key, 0))
        value = jnp.mean(cross_entropy(model(params, x), y))
        if weight_decay:
            value = value + weight_decay / 2 * squared_norm(
                without(statistics_of(apply_fn, params, x), params)
            )
        return value

    return loss
