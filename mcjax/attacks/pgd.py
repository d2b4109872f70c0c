"""Projected gradient descent in input space (Madry et al. 2017; tatro2020, Sec. 2.3 and 5)."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from .. import _check
from .._types import ApplyFn, Params
from ..tasks import cross_entropy


@dataclasses.dataclass(frozen=True)
class PGD:
    """Attack by projected gradient ascent on the loss, in a ball of the maximum norm.

    x ← Π(x + α sign ∇ₓ ℓ(f(θ, x), y)), Π onto {‖x − x₀‖_∞ ≤ ε} and onto the range of the inputs,
    from a start that is uniform in the ball. The defaults are tatro2020's, for images in [0, 1].

    - `epsilon`: ε, the radius; `step`: α; both in units of the inputs
    - `steps`: number of steps
    - `bounds`: least and greatest value an input may have; `mean` and `std` say for each channel
      (the last axis) how inputs were standardised, so that radius, step and bounds are those of
      the images before

    **Raises:** `ValueError` for a radius or a step that is not positive, or empty bounds.

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.attacks import PGD
        >>> f = lambda params, x: jnp.stack([x[:, 0], -x[:, 0]], 1)
        >>> x = PGD(epsilon=0.1, step=0.1).perturb(
        ...     f, None, jnp.full((1, 1), 0.5), jnp.array([0]), jax.random.key(0))
        >>> round(float(x[0, 0]), 4)
        0.4
    """

    epsilon: float = 8 / 255
    step: float = 2 / 255
    steps: int = 5
    bounds: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("epsilon", "step"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        _check.positive(self.steps, "steps")
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds must be (least, greatest), got {self.bounds}")
        if not all(s > 0 for s in self.std):
            raise ValueError(f"std must be positive, got {self.std}")

    def check(self, x: Any) -> None:
        """Raise unless inputs are one array of numbers within the attack's bounds."""
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                "x: an attack moves inputs that are one array of floats; apply_fn can close over "
                f"what else it needs (got {jax.tree.map(jnp.result_type, x)})"
            )
        mean, std = self._scale(jnp.float32)
        for leaf in jax.tree.leaves(x):
            images = jnp.asarray(leaf) * std + mean
            low, high = float(images.min()), float(images.max())
            if low < self.bounds[0] - 1e-4 or high > self.bounds[1] + 1e-4:
                raise ValueError(
                    f"x: values lie in [{low:.4g}, {high:.4g}], outside the attack's bounds "
                    f"{self.bounds}; give mean and std if the inputs are standardised"
                )

    def perturb(
        self, apply_fn: ApplyFn, params: Params, x: jax.Array, y: Any, key: jax.Array
    ) -> jax.Array:
        """Inputs that the network gets wrong, if there are any near; traces under jit and vmap.

        **Arguments:**
        - `x`: inputs in the attack's bounds; `y`: their labels
        - `key`: of the random start
        """
        mean, std = self._scale(x.dtype)
        low, high = ((b - mean) / std for b in self.bounds)
        radius, step = self.epsilon / std, self.step / std

        def project(moved):
            return jnp.clip(jnp.clip(moved, x - radius, x + radius), low, high)

        def loss(moved):
            return jnp.sum(cross_entropy(apply_fn(params, moved), y))

        moved = project(x + radius * jax.random.uniform(key, x.shape, x.dtype, -1, 1))
        for _ in range(self.steps):  # no loop of XLA's: convolutions are slow in them on a CPU
            moved = project(moved + step * jnp.sign(jax.grad(loss)(moved)))
        return jax.lax.stop_gradient(moved)

    def _scale(self, dtype: Any) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(self.mean, dtype), jnp.asarray(self.std, dtype)


@lru_cache(maxsize=16)
def attacked(apply_fn: ApplyFn, attack: PGD) -> ApplyFn:
    """A model of (x, y): the outputs at x attacked, by a start that is the same each time.

    The same object for the same model and attack, so that nothing is compiled twice.
    """

    def apply(params: Params, inputs: Any) -> Any:
        x, y = inputs
        return apply_fn(params, attack.perturb(apply_fn, params, x, y, jax.random.key(0)))

    return apply
