"""Carlini and Wagner's attack in L₂, with its binary search (Carlini & Wagner 2017, Sec. V)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from .. import _check
from .aim import Aim, column
from .attack import Attack

# Images are kept this far, relative to half their range, from the bounds that tanh never reaches.
_INSIDE = 0.999999
# Adam's constants, those of its authors and of the attack's.
_DECAY, _DECAY_OF_SQUARES, _SMALL = 0.9, 0.999, 1e-8
# Above it c grows no more.
_GREATEST = 1e10
# How often in a round it is seen whether the objective still falls, and by how much it must.
_LOOKS, _FALL = 10, 0.9999


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Search:
    """Where the search of each image stands: a row for each, in whichever round it is.

    - `origin`, `w`: the image and where it has moved, as arguments of tanh
    - `mean`, `square`: Adam's moments; `taken`: its steps in this round
    - `round`, `c`, `low`, `high`: of the binary search; `found`: whether in this round
    - `best`, `norm`: the nearest adversarial image so far and its squared distance
    - `least`: the objective at its least in this round; `last`: what that was at the last look
    """

    origin: jax.Array
    w: jax.Array
    mean: jax.Array
    square: jax.Array
    taken: jax.Array
    round: jax.Array
    c: jax.Array
    low: jax.Array
    high: jax.Array
    found: jax.Array
    best: jax.Array
    norm: jax.Array
    least: jax.Array
    last: jax.Array


@dataclasses.dataclass(frozen=True)
class CarliniWagner(Attack):
    """Attack by the shortest perturbation in L₂ that Adam and a binary search find.

    With x′ = low + (high − low) (tanh w + 1) / 2, which stays within the bounds, Adam minimises

        ‖x′ − x‖² + c · max(z_y − max_{j ≠ y} z_j + κ, 0)

    over w from x (vrabel2024, Eq. 7, with the power of 2 that it lacks); with a target t the last
    is max_{j ≠ t} z_j − z_t + κ. c grows tenfold until an image is adversarial and is bisected
    then, for each image by itself; what is returned is the nearest adversarial image of all
    rounds, and the image itself where there was none.

    - `steps`: of Adam in a round, at most; `rounds`: of the search over c
    - `learning_rate`: of Adam, on w
    - `confidence`: κ ≥ 0, by how much the logits must differ
    - `c`: in the first round
    - `stop_early`: end a round once the least objective of an image has not fallen by 1e-4 of
      itself in a tenth of the steps
    - `bounds`, `mean`, `std`: as of every `Attack`

    **Raises:** `ValueError` for an option out of range, and as `Attack` does.

        >>> import jax.numpy as jnp
        >>> from mcjax.attacks import CarliniWagner
        >>> f = lambda params, x: x @ params["w"]
        >>> x = jnp.array([[0.75, 0.25]])  # the boundary is the diagonal, at 0.5 / √2
        >>> made = CarliniWagner(steps=100)(f, {"w": jnp.eye(2)}, x, jnp.array([0]))
        >>> made.status.tolist(), round(float(made.l2[0] * 2**0.5), 2)
        (['succeeded'], 0.5)
    """

    steps: int = 1000
    rounds: int = 9
    learning_rate: float = 0.01
    confidence: float = 0.0
    c: float = 1e-3
    stop_early: bool = True

    block = 50

    def __post_init__(self) -> None:
        for name in ("steps", "rounds"):
            _check.positive(getattr(self, name), name)
        for name in ("learning_rate", "c"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if not (self.confidence >= 0 and math.isfinite(self.confidence)):
            raise ValueError(f"confidence must be ≥ 0 and finite, got {self.confidence}")
        super().__post_init__()

    @property
    def length(self) -> int:
        return self.rounds * self.steps

    def init(self, aim: Aim, key: jax.Array) -> _Search:
        images = aim.images
        middle, half = _range(aim)
        origin = jnp.arctanh((images - middle) / half * _INSIDE)
        nothing, one = jnp.zeros_like(origin), jnp.ones(len(images), images.dtype)
        count = jnp.zeros(len(images), jnp.int32)
        return _Search(
            origin, origin, nothing, nothing, count, count, self.c * one, 0 * one,
            jnp.inf * one, one < 0, images, *(jnp.inf * one for _ in range(3)),
        )  # fmt: skip

    def advance(self, aim: Aim, state: _Search) -> _Search:
        """A step of Adam, and where it was the last one of a round the next c."""
        gradient, (objective, tried, margin) = self._gradient(aim, state)
        state = _kept(aim, state, tried, margin + self.confidence < 0)
        moved = self._moved_by_adam(state, gradient)
        over = moved.taken >= self.steps
        if self.stop_early:
            least = jnp.minimum(state.least, objective)
            look = state.taken % math.ceil(self.steps / _LOOKS) == 0
            over |= look & ~(least <= _FALL * state.last)  # one that is not finite, too
            last = jnp.where(look, least, state.last)
            moved = dataclasses.replace(moved, least=least, last=last)
        return _where(self.done(state), state, _where(over, self._next_round(state), moved))

    def moved(self, state: _Search) -> jax.Array:
        return state.best

    def done(self, state: _Search) -> jax.Array:
        return state.round >= self.rounds

    def _gradient(self, aim: Aim, state: _Search):
        middle, half = _range(aim)
        start = middle + half * jnp.tanh(state.origin)

        def total(w: jax.Array):
            tried = middle + half * jnp.tanh(w)
            margin = aim.margins(aim.logits(tried))
            hinge = jnp.maximum(margin + self.confidence, 0)
            objective = _squares(tried - start) + state.c * hinge
            return jnp.sum(objective), (objective, tried, margin)

        return jax.grad(total, has_aux=True)(state.w)

    def _moved_by_adam(self, state: _Search, gradient: jax.Array) -> _Search:
        taken = state.taken + 1
        mean = _DECAY * state.mean + (1 - _DECAY) * gradient
        square = _DECAY_OF_SQUARES * state.square + (1 - _DECAY_OF_SQUARES) * gradient**2
        power = column(taken, gradient).astype(gradient.dtype)
        root = jnp.sqrt(square / (1 - _DECAY_OF_SQUARES**power))
        w = state.w - self.learning_rate * mean / (1 - _DECAY**power) / (root + _SMALL)
        return dataclasses.replace(state, w=w, mean=mean, square=square, taken=taken)

    def _next_round(self, state: _Search) -> _Search:
        low = jnp.where(state.found, state.low, state.c)
        high = jnp.where(state.found, state.c, state.high)
        more = jnp.minimum(10 * state.c, _GREATEST)
        nothing, never = jnp.zeros_like(state.w), jnp.full_like(state.last, jnp.inf)
        return _Search(
            state.origin, state.origin, nothing, nothing, 0 * state.taken, state.round + 1,
            jnp.where(jnp.isinf(high), more, (low + high) / 2), low, high,
            jnp.zeros_like(state.found), state.best, state.norm, never, never,
        )  # fmt: skip


def _range(aim: Aim) -> tuple[float, float]:
    """Middle of the bounds, half of what lies between them."""
    low, high = aim.bounds
    return (low + high) / 2, (high - low) / 2


def _squares(rows: jax.Array) -> jax.Array:
    return jnp.sum(rows.reshape(len(rows), -1) ** 2, 1)


def _kept(aim: Aim, state: _Search, tried: jax.Array, adversarial: jax.Array) -> _Search:
    """The state with the images tried, where they are adversarial and nearer than any before."""
    distance = _squares(tried - aim.images)
    nearer = adversarial & (distance < state.norm)
    return dataclasses.replace(
        state,
        found=state.found | adversarial,
        best=jnp.where(column(nearer, tried), tried, state.best),
        norm=jnp.where(nearer, distance, state.norm),
    )


def _where(rows: jax.Array, yes: _Search, no: _Search) -> _Search:
    return jax.tree.map(lambda a, b: jnp.where(column(rows, a), a, b), yes, no)


__all__ = ["CarliniWagner"]
