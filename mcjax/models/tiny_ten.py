"""TinyTen, a narrow convolutional network of ten layers (Kornblith et al. 2019, tatro2020)."""

from __future__ import annotations

import flax.linen as nn

from ._blocks import convolution

# (channels, kernel, stride, padding) of each convolution.
_LAYERS = (
    (16, 3, 1, "SAME"),
    (16, 3, 1, "SAME"),
    (32, 3, 2, "SAME"),
    (32, 3, 1, "SAME"),
    (32, 3, 1, "SAME"),
    (64, 3, 2, "SAME"),
    (64, 3, 1, "VALID"),
    (64, 1, 1, "SAME"),
)


class TinyTen(nn.Module):
    """Eight convolutions with batch normalisation, global average pooling, logits (0.09 M).

    - `outputs`: number of classes

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.models import TinyTen
        >>> params = TinyTen().init(jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> params["params"]["Dense_0"]["kernel"].shape
        (64, 10)
    """

    outputs: int = 10

    @nn.compact
    def __call__(self, x):
        for channels, kernel, stride, padding in _LAYERS:
            x = nn.relu(convolution(x, channels, kernel, stride, padding))
        return nn.Dense(self.outputs)(x.mean((1, 2)))
