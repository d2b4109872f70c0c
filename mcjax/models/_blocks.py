"""What the papers' networks with batch normalisation share.

The modules are in evaluation mode: they normalise by `batch_stats`. Training takes the statistics
of its batch in their place (`mcjax.training`, `mcjax.methods`), so that no module needs a flag.
"""

from __future__ import annotations

import flax.linen as nn
from jax.nn.initializers import he_normal

HE = he_normal()


def convolution(x, channels: int, kernel: int, stride: int = 1, padding="SAME"):
    """A convolution without bias and batch normalisation, inside a compact module."""
    size = (kernel, kernel)
    x = nn.Conv(channels, size, (stride, stride), padding, use_bias=False, kernel_init=HE)(x)
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5)(x)
