"""Projected gradient descent in input space (Madry et al. 2017; tatro2020, Sec. 2.3 and 5)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._inputs import length, unmark
from .._types import ApplyFn, Params
from ..tasks import CLASSIFICATION, Task


@dataclasses.dataclass(frozen=True)
class PGD:
    """Attack by projected gradient ascent on the loss, in a ball of the maximum norm.

    x ← Π(x + α sign ∇ₓ ℓ(f(θ, x), y)), Π onto {‖x − x₀‖_∞ ≤ ε} and onto the range of the inputs,
    from a start that is uniform in the ball. The defaults are tatro2020's, for images in [0, 1].

    - `epsilon`: ε, the radius; `step`: α; both in units of the inputs
    - `steps`: number of steps
    - `bounds`: least and greatest value that an input may have
    - `mean`, `std`: for each channel (the last axis), how inputs were standardised, so that
      radius, step and bounds are those of the images before

    **Raises:** `ValueError` for a radius or a step that is not positive, or empty bounds.

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
        channels = tuple(range(np.ndim(x) - 1))  # of few values even where x does not fit in memory
        with np.errstate(over="ignore"):
            low, high = (
                np.asarray(f(axis=channels), np.float64) * self.std + np.asarray(self.mean)
                for f in (x.min, x.max)
            )
        if not (low.min() >= self.bounds[0] - 1e-4 and high.max() <= self.bounds[1] + 1e-4):
            raise ValueError(
                f"x: values lie in [{low.min():.4g}, {high.max():.4g}], outside the attack's "
                f"bounds {self.bounds}; give mean and std if the inputs are standardised"
            )

    def perturb(
        self,
        apply_fn: ApplyFn,
        params: Params,
        x: jax.Array,
        y: Any,
        *,
        key: jax.Array,
        task: Task = CLASSIFICATION,
    ) -> jax.Array:
        """Inputs near x of a high loss; traces under jit and vmap.

        **Arguments:**
        - `x`: inputs in the attack's bounds; `y`: their labels
        - `key`: of the random start; or a key for each example, whose start then does not depend
          on the examples beside it
        - `task`: whose loss is raised
        """
        mean, std = self._scale(x.dtype)
        low, high = ((b - mean) / std for b in self.bounds)
        radius, step = self.epsilon / std, self.step / std
        labels = unmark(y)

        def project(moved):
            return jnp.clip(jnp.clip(moved, x - radius, x + radius), low, high)

        def loss(moved):
            return jnp.sum(task.losses(apply_fn(params, moved), labels))

        moved = project(x + radius * _uniform(key, x))
        for _ in range(self.steps):  # no loop of XLA's: convolutions are slow in them on a CPU
            moved = project(moved + step * jnp.sign(jax.grad(loss)(moved)))
        return jax.lax.stop_gradient(moved)

    def _scale(self, dtype: Any) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(self.mean, dtype), jnp.asarray(self.std, dtype)


def _uniform(key: jax.Array, x: jax.Array) -> jax.Array:
    """Uniform in [−1, 1], of the shape of x, by one key or by one for each example."""
    if not np.shape(key):
        return jax.random.uniform(key, x.shape, x.dtype, -1, 1)
    draw = jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:], x.dtype, -1, 1))
    return draw(key)


@dataclasses.dataclass(frozen=True)
class Attacked:
    """A model of the inputs that `attack_inputs` makes: the outputs at x attacked.

    Equal for the same model, attack and task, so that nothing is compiled twice.
    """

    apply_fn: ApplyFn
    attack: PGD
    task: Task = CLASSIFICATION

    def __call__(self, params: Params, inputs: Any) -> Any:
        x, y, number, key = inputs
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(number)
        moved = self.attack.perturb(self.apply_fn, params, x, y, key=keys, task=self.task)
        return self.apply_fn(params, moved)


def attack_inputs(
    x: Any, y: Any, key: jax.Array, start: int = 0
) -> tuple[Any, Any, np.ndarray, jax.Array]:
    """What an `Attacked` model takes: its start at example n is drawn from fold_in(key, n).

    So the result does not depend on how the data are cut into blocks and chunks.

    **Arguments:**
    - `start`: number of the first example
    """
    return x, y, np.arange(start, start + length(x), dtype=np.int32), key
