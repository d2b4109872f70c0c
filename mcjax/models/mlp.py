"""Fully connected networks."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    """x ↦ W_n φ(… φ(W_1 x + b_1) …) + b_n with φ = ReLU (anokhin2020, Sec. 3.1 and 4.1).

    Weights and biases start uniform in ±1/√fan_in, as in the papers' programs.

    Images are flattened.

    - `hidden`: widths of the hidden layers; `outputs`: number of classes

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.models import MLP
        >>> model = MLP((5,), 3)
        >>> params = model.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> model.apply(params, jnp.ones((2, 4))).shape
        (2, 3)
    """

    hidden: tuple[int, ...] = (2000,)
    outputs: int = 10

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.relu(self.dense(width, x.shape[-1])(x))
        return self.dense(self.outputs, x.shape[-1])(x)

    def dense(self, width: int, fan_in: int) -> nn.Dense:
        def uniform(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -1, 1) / jnp.sqrt(fan_in)

        return nn.Dense(width, kernel_init=uniform, bias_init=uniform)
