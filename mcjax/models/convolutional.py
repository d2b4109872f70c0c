"""Convolutional networks of anokhin2020, for 32×32 images."""

from __future__ import annotations

import flax.linen as nn

from ._blocks import HE


class Conv2FC1(nn.Module):
    """Two convolutions of kernel 5 and a dense layer (anokhin2020, Sec. 5.3).

    Overlapping pooling (3, stride 2) leaves 7×7×64 = 3,136 units for the dense layer.

    - `channels`: of the convolutions; `outputs`: number of classes

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.models import Conv2FC1
        >>> params = Conv2FC1().init(jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> params["params"]["Dense_0"]["kernel"].shape
        (3136, 10)
    """

    channels: tuple[int, ...] = (32, 64)
    outputs: int = 10

    @nn.compact
    def __call__(self, x):
        for channels in self.channels:
            x = nn.relu(nn.Conv(channels, (5, 5), kernel_init=HE)(x))
            x = nn.max_pool(x, (3, 3), (2, 2))
        return nn.Dense(self.outputs)(x.reshape(x.shape[0], -1))


class VGG16(nn.Module):
    """VGG16 without batch normalisation: 13 convolutions and 3 dense layers (anokhin2020).

    - `width`: factor of all widths (the papers' is 1); `outputs`: number of classes

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.models import VGG16
        >>> params = VGG16(width=0.25).init(jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> len(params["params"])
        16
    """

    width: float = 1.0
    outputs: int = 10

    @nn.compact
    def __call__(self, x):
        for channels in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512,
                         0):  # fmt: skip
            if channels:
                n = int(channels * self.width)
                x = nn.relu(nn.Conv(n, (3, 3), kernel_init=HE)(x))
            else:
                x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(int(512 * self.width), kernel_init=HE)(x))
        return nn.Dense(self.outputs)(x)
