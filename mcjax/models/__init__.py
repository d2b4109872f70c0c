"""The papers' networks, in flax."""

from .convolutional import VGG16, Conv2FC1
from .mlp import MLP

__all__ = ["MLP", "VGG16", "Conv2FC1"]
