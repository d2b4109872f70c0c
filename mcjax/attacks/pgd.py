"""Steps along the sign of the loss's gradient, in a ball of the maximum norm."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from .aim import Aim
from .attack import Attack


class _AlongTheSign(Attack):
    """x ← Π(x + α sign ∇ₓ ℓ(f(θ, x), y)); towards a target with the opposite sign."""

    epsilon: float
    step: float
    hard_labels = False

    def __post_init__(self) -> None:
        for name in ("epsilon", "step"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        super().__post_init__()

    def init(self, aim: Aim, key: jax.Array) -> jax.Array:
        return aim.images

    def advance(self, aim: Aim, state: jax.Array) -> jax.Array:
        gradient = jax.grad(lambda images: jnp.sum(self.raised(aim, images)))(state)
        return self._project(aim, state + self.step * jnp.sign(gradient))

    def moved(self, state: jax.Array) -> jax.Array:
        return state

    def raised(self, aim: Aim, images: jax.Array) -> jax.Array:
        """(n,): what the steps raise."""
        return aim.losses(images)

    def _project(self, aim: Aim, moved: jax.Array) -> jax.Array:
        x = aim.images
        return jnp.clip(jnp.clip(moved, x - self.epsilon, x + self.epsilon), *aim.bounds)


@dataclasses.dataclass(frozen=True)
class FGSM(_AlongTheSign):
    """Attack by one step along the gradient's sign (Goodfellow et al. 2015; vrabel2024, Eq. 5).

    x + ε sign ∇ₓ ℓ(f(θ, x), y), within the range of the inputs.

    - `epsilon`: ε, in units of the bounds
    - `bounds`, `mean`, `std`: as of every `Attack`

    **Raises:** `ValueError` for a radius that is not positive, and as `Attack` does.

        >>> import jax.numpy as jnp
        >>> from mcjax.attacks import FGSM
        >>> f = lambda params, x: jnp.stack([x[:, 0], params["at"] - x[:, 0]], 1)
        >>> made = FGSM(epsilon=0.125)(
        ...     f, {"at": jnp.array(0.625)}, jnp.array([[0.375], [0.875]]), jnp.array([0, 0]))
        >>> made.x.tolist(), made.status.tolist()
        ([[0.25], [0.75]], ['succeeded', 'failed'])
    """

    epsilon: float = 8 / 255

    @property
    def step(self) -> float:
        """The one step leads to the ball's surface."""
        return self.epsilon

    @property
    def length(self) -> int:
        return 1


@dataclasses.dataclass(frozen=True)
class BIM(_AlongTheSign):
    """Attack by steps along the gradient's sign (Kurakin et al. 2017; vrabel2024, Eq. 6).

    x ← Π(x + α sign ∇ₓ ℓ(f(θ, x), y)), Π onto {‖x − x₀‖_∞ ≤ ε} and onto the range of the inputs,
    from x₀. Eq. 6 has ε for α, too: that is `BIM(epsilon, epsilon)`.

    - `epsilon`: ε, the radius; `step`: α; both in units of the bounds
    - `steps`: number of steps
    - `bounds`, `mean`, `std`: as of every `Attack`

    **Raises:** `ValueError` for a radius or a step that is not positive, and as `Attack` does.

        >>> import jax.numpy as jnp
        >>> from mcjax.attacks import BIM
        >>> f = lambda params, x: jnp.stack([x[:, 0], params["at"] - x[:, 0]], 1)
        >>> made = BIM(epsilon=0.25, step=0.125, steps=5)(
        ...     f, {"at": jnp.array(0.625)}, jnp.array([[0.375]]), jnp.array([0]))
        >>> made.x.tolist(), made.linf.tolist()
        ([[0.125]], [0.25])
    """

    epsilon: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10

    @property
    def length(self) -> int:
        return self.steps


@dataclasses.dataclass(frozen=True)
class PGD(_AlongTheSign):
    """Attack by projected gradient ascent on the loss, in a ball of the maximum norm.

    x ← Π(x + α sign ∇ₓ ℓ(f(θ, x), y)), Π onto {‖x − x₀‖_∞ ≤ ε} and onto the range of the inputs,
    from a start that is uniform in the ball (Madry et al. 2017; tatro2020, Sec. 2.3 and 5). The
    defaults are tatro2020's, for images in [0, 1].

    - `epsilon`: ε, the radius; `step`: α; both in units of the bounds
    - `steps`: number of steps
    - `bounds`, `mean`, `std`: as of every `Attack`

    **Raises:** `ValueError` for a radius or a step that is not positive, and as `Attack` does.

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.attacks import PGD
        >>> f = lambda params, x: jnp.stack([x[:, 0], -x[:, 0]], 1)
        >>> x = PGD(epsilon=0.1, step=0.1).perturb(
        ...     f, None, jnp.full((1, 1), 0.5), jnp.array([0]), key=jax.random.key(0))
        >>> round(float(x[0, 0]), 4)
        0.4
    """

    epsilon: float = 8 / 255
    step: float = 2 / 255
    steps: int = 5

    @property
    def length(self) -> int:
        return self.steps

    def init(self, aim: Aim, key: jax.Array) -> jax.Array:
        return self._project(aim, aim.images + self.epsilon * _uniform(key, aim.images))


def _uniform(key: jax.Array, x: jax.Array) -> jax.Array:
    """Uniform in [−1, 1], of the shape of x, by one key or by one for each example."""
    if not np.shape(key):
        return jax.random.uniform(key, x.shape, x.dtype, -1, 1)
    draw = jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:], x.dtype, -1, 1))
    return draw(key)


__all__ = ["BIM", "FGSM", "PGD"]
