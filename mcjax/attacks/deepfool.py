"""DeepFool: to the nearest boundary of the network made linear (Moosavi-Dezfooli et al. 2016)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from .. import _check
from .aim import Aim, column, norm
from .attack import Attack

# Added to each step's length, in units of the bounds: rounding must not keep a step on its side.
_BEYOND = 1e-4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Walk:
    """The sum of the steps, where they lead, the classes to cross to, and who has crossed."""

    total: jax.Array
    moved: jax.Array
    classes: jax.Array
    done: jax.Array


@dataclasses.dataclass(frozen=True)
class DeepFool(Attack):
    """Attack by steps to the nearest decision boundary of the network made linear, in L₂.

    With z the logits, ŷ the class at x₀ and k the nearest of the others,

        k = argmin_j |z_j − z_ŷ| / ‖∇(z_j − z_ŷ)‖,
        r ← r + |z_k − z_ŷ| / ‖∇(z_k − z_ŷ)‖² ∇(z_k − z_ŷ),   x = Π(x₀ + (1 + η) r),

    Π onto the range of the inputs, until the class is another (Moosavi-Dezfooli et al. 2016,
    Alg. 2, with 1e-4 added to each step's length, as the authors' program has it). Untargeted.

    - `steps`: at most
    - `overshoot`: η
    - `candidates`: classes looked at, those of the highest logits at x₀
    - `bounds`, `mean`, `std`: as of every `Attack`

    **Raises:** `ValueError` for an option out of range, and as `Attack` does.

        >>> import jax.numpy as jnp
        >>> from mcjax.attacks import DeepFool
        >>> f = lambda params, x: x @ params["w"]
        >>> x = jnp.array([[0.75, 0.25]])  # the boundary is the diagonal, at 0.5 / √2
        >>> made = DeepFool()(f, {"w": jnp.eye(2)}, x, jnp.array([0]))
        >>> made.status.tolist(), round(float(made.l2[0] * 2**0.5), 2)
        (['succeeded'], 0.51)
    """

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10

    targets = False
    block = 1

    def __post_init__(self) -> None:
        if not (self.overshoot >= 0 and math.isfinite(self.overshoot)):
            raise ValueError(f"overshoot must be ≥ 0 and finite, got {self.overshoot}")
        if _check.positive(self.candidates, "candidates") < 2:
            raise ValueError("candidates must be 2 or more: the class itself is one of them, got 1")
        super().__post_init__()

    @property
    def length(self) -> int:
        return self.steps

    def init(self, aim: Aim, key: jax.Array) -> _Walk:
        logits = aim.logits(aim.images)
        classes = jax.lax.top_k(logits, min(self.candidates, logits.shape[1]))[1]
        done = jnp.argmax(logits, 1) != aim.labels
        return _Walk(jnp.zeros_like(aim.images), aim.images, classes, done)

    def advance(self, aim: Aim, state: _Walk) -> _Walk:
        logits, pull_back = jax.vjp(aim.logits, state.moved)
        done = jnp.argmax(logits, 1) != aim.labels
        total = state.total + _to_the_nearest(logits, state.classes, lambda v: pull_back(v)[0])
        moved = jnp.clip(aim.images + (1 + self.overshoot) * total, *aim.bounds)
        stay = column(done, moved)
        return _Walk(
            jnp.where(stay, state.total, total), jnp.where(stay, state.moved, moved),
            state.classes, done,
        )  # fmt: skip

    def moved(self, state: _Walk) -> jax.Array:
        return state.moved

    def done(self, state: _Walk) -> jax.Array:
        return state.done


def _to_the_nearest(logits, classes, gradient_of) -> jax.Array:
    """The step to the nearest boundary between the first of the classes and another.

    Classes are gone through one after the other, as vmapped convolutions are slow on a CPU.
    """
    rows = jnp.arange(len(logits))
    own, least, nearest = classes[:, 0], jnp.inf, 0.0
    for k in range(1, classes.shape[1]):
        other = classes[:, k]
        along = jax.nn.one_hot(other, logits.shape[1], dtype=logits.dtype) - jax.nn.one_hot(
            own, logits.shape[1], dtype=logits.dtype
        )
        gradient = gradient_of(along)
        length = norm(gradient) + 1e-8  # a gradient that vanishes leads nowhere
        distance = jnp.abs(logits[rows, other] - logits[rows, own]) / length
        closer = distance < least
        step = column((distance + _BEYOND) / length, gradient) * gradient
        nearest = jnp.where(column(closer, gradient), step, nearest)
        least = jnp.where(closer, distance, least)
    return jnp.asarray(nearest)


__all__ = ["DeepFool"]
