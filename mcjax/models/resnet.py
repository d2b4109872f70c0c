"""Residual networks for 32×32 images (He et al. 2016), with projections as in tatro2020."""

from __future__ import annotations

import flax.linen as nn

from ._blocks import convolution


class ResNet(nn.Module):
    """3 stages of residual blocks of two 3×3 convolutions; 6 n + 2 layers.

    A stage begins with stride 2 and a 1×1 projection with batch normalisation.

    - `blocks`: n, blocks a stage; `widths`: channels of the stages; `outputs`: number of classes
    """

    blocks: int = 5
    widths: tuple[int, ...] = (16, 32, 64)
    outputs: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.relu(convolution(x, self.widths[0], 3))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                h = nn.relu(convolution(x, width, 3, stride))
                h = convolution(h, width, 3)
                x = nn.relu(h + (x if stride == 1 else convolution(x, width, 1, stride)))
        return nn.Dense(self.outputs)(x.mean((1, 2)))


def ResNet32(outputs: int = 10) -> ResNet:  # noqa: N802  (a network's name)
    """ResNet32 of tatro2020 (0.47 M parameters).

    >>> import jax, jax.numpy as jnp
    >>> from mcjax.models import ResNet32
    >>> params = ResNet32().init(jax.random.key(0), jnp.ones((1, 32, 32, 3)))
    >>> params["params"]["Dense_0"]["kernel"].shape
    (64, 10)
    """
    return ResNet(outputs=outputs)
