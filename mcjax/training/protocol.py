"""How a network or a curve is trained: epochs, optimiser, schedule, what is done to the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .. import _check
from .._lazy import lazily
from ..attacks import Attack

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")

# (key, a batch of x) → the batch augmented
Augment = Callable[[jax.Array, Any], Any]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """SGD with momentum and a schedule of the learning rate.

    Without `halve_every` the rate is anokhin2020's: constant for half of the training, then
    falling linearly to 1 % of it at 90 %. With it the rate halves after every so many epochs
    (tatro2020: 20 of 250), however many there are, so that a training kept on disk can go on with
    more of them; `math.inf` keeps the rate constant.

    - `epochs`, `batch`: passes over the data in random order, so many examples at a step; what
      does not fill a last batch sits out the epoch
    - `learning_rate`, `momentum`, `nesterov`: of SGD
    - `weight_decay`: λ, the gradient of λ/2 ‖θ‖² is added
    - `augment`: (key, batch of x) → batch of x, as `mcjax.data.crop_and_flip`
    - `attack`: adversarial training: each batch is attacked, after `augment` (tatro2020, Sec. 5)

    **Raises:** `ValueError` for a number that is out of range.

        >>> from mcjax.training import Protocol
        >>> Protocol(10, batch=32).to_dict()["learning_rate"]
        0.01
    """

    epochs: int = 30
    batch: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    halve_every: float | None = None
    augment: Augment | None = None
    attack: Attack | None = None

    def __post_init__(self) -> None:
        _check.positive(self.epochs, "epochs")
        _check.positive(self.batch, "batch")
        for name in ("learning_rate", "momentum", "weight_decay"):
            value = getattr(self, name)
            if not (0 <= value < math.inf):
                raise ValueError(f"{name} must be ≥ 0 and finite, got {value}")
        if self.halve_every is not None and not self.halve_every > 0:
            raise ValueError(f"halve_every must be positive, got {self.halve_every}")
        if self.augment is not None and not callable(self.augment):
            raise ValueError(
                "augment must be a function (key, batch of x) → batch of x, got a "
                f"{type(self.augment).__name__}"
            )

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """The optimiser of a training of so many steps: the same object for equal ones."""
        rate: _Falling | _Halving = _Falling(self.learning_rate, steps)
        if self.extendable:
            period = self.halve_every * steps / self.epochs  # type: ignore[operator]
            rate = _Halving(self.learning_rate, period)
        return _optimizer(rate, self.momentum, self.nesterov, self.weight_decay)

    @property
    def extendable(self) -> bool:
        """Whether more epochs leave the first ones as they are: the rate does not fall over all."""
        return self.halve_every is not None

    def to_dict(self) -> dict[str, Any]:
        """The protocol in JSON's types; an augmentation by its name."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.augment is not None:
            found["augment"] = getattr(self.augment, "__qualname__", type(self.augment).__name__)
        if self.attack is not None:
            found["attack"] = {
                "kind": type(self.attack).__name__,
                **dataclasses.asdict(self.attack),
            }
        return found


@dataclasses.dataclass(frozen=True)
class _Falling:
    """Step → rate, over a training of so many steps."""

    start: float
    steps: int

    def __call__(self, step: Any) -> jax.Array:
        falling = (step / self.steps - 0.5) / 0.4
        return self.start * (1 - 0.99 * jnp.clip(falling, 0, 1))


@dataclasses.dataclass(frozen=True)
class _Halving:
    """Step → rate, halved after every so many steps."""

    start: float
    period: float

    def __call__(self, step: Any) -> jax.Array:
        # Half a step on: XLA multiplies by 1 / period, and 7800 / 7800 would be below 1.
        return self.start * 0.5 ** jnp.floor((step + 0.5) / self.period)


@lru_cache(maxsize=32)
def _optimizer(
    rate: _Falling | _Halving, momentum: float, nesterov: bool, weight_decay: float
) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(rate, momentum or None, nesterov),
    )


def tatro2020(
    epochs: int = 250, learning_rate: float = 0.1, halvings: float = 12.5, **more: Any
) -> Protocol:
    """tatro2020's protocol, with as many halvings of the rate if there are fewer epochs.

    Nesterov momentum 0.9, weight decay 5e-4, batch 128, the rate halved every 20 of 250 epochs;
    0.1 for end points, 0.01 for curves on CIFAR-10.

    **Arguments:**
    - `more`: other fields of the `Protocol`, as `augment` and `attack`

        >>> from mcjax.training import tatro2020
        >>> tatro2020().halve_every, tatro2020(25).halve_every
        (20.0, 2.0)
    """
    return Protocol(epochs, 128, learning_rate, 0.9, 5e-4, True, epochs / halvings, **more)
