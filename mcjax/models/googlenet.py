"""GoogLeNet for 32×32 images (Szegedy et al. 2015), as tatro2020 uses it."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from ._blocks import convolution

# Channels of (1×1; reduced and 3×3; reduced and second 3×3; after pooling) of each block.
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
# The auxiliary classifiers read what these blocks (stage, block) write.
_AUXILIARY = ((1, 0), (1, 3))


class GoogLeNet(nn.Module):
    """Nine Inception blocks between convolutions and global average pooling.

    The first convolution has stride 1, the first and the fourth pooling are left out and the
    branch of 5×5 convolutions has 3×3 ones; `auxiliary=True` returns the logits and those of the
    two auxiliary classifiers (their losses weigh 0.3 in training), 10.24 M parameters with 100
    classes. Parameters of a network with auxiliary classifiers serve one without.

    - `outputs`: number of classes; `width`: factor of all widths (the paper's is 1)

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.models import GoogLeNet
        >>> init = GoogLeNet(width=0.125).init
        >>> params = jax.eval_shape(init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> params["params"]["Dense_0"]["kernel"].shape
        (128, 10)
    """

    outputs: int = 10
    auxiliary: bool = False
    width: float = 1.0

    @nn.compact
    def __call__(self, x):
        for channels, kernel in ((64, 7), (64, 1), (192, 3)):
            x = nn.relu(convolution(x, self._of(channels), kernel))
        auxiliary = []
        for number, stage in enumerate(_STAGES):
            if number < 2:  # 32×32 to 16×16 to 8×8, where the original would halve it once more
                x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
            for block, channels in enumerate(stage):
                x = _Inception(tuple(map(self._of, channels)))(x)
                if self.auxiliary and (number, block) in _AUXILIARY:
                    auxiliary.append(_Auxiliary(self.outputs, self._of(128), self._of(1024))(x))
        logits = nn.Dense(self.outputs)(x.mean((1, 2)))
        return (logits, *auxiliary) if self.auxiliary else logits

    def _of(self, channels: int) -> int:
        return max(1, int(channels * self.width))


class _Inception(nn.Module):
    """Four branches side by side."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        one, reduced, three, reduced_again, five, pooled = self.channels

        def layer(x, channels, kernel):
            return nn.relu(convolution(x, channels, kernel))

        branches = (
            layer(x, one, 1),
            layer(layer(x, reduced, 1), three, 3),
            layer(layer(x, reduced_again, 1), five, 3),
            layer(nn.max_pool(x, (3, 3), (1, 1), "SAME"), pooled, 1),
        )
        return jnp.concatenate(branches, -1)


class _Auxiliary(nn.Module):
    """A classifier of features half way: pooled to 4×4, 1×1 convolution, two dense layers."""

    outputs: int
    channels: int
    hidden: int

    @nn.compact
    def __call__(self, x):
        window = (x.shape[1] // 4, x.shape[2] // 4)
        x = nn.relu(convolution(nn.avg_pool(x, window, window), self.channels, 1))
        x = nn.relu(nn.Dense(self.hidden)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.outputs)(x)
