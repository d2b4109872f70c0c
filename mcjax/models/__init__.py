"""The papers' networks, in flax."""

from .convolutional import VGG16, Conv2FC1
from .googlenet import GoogLeNet
from .mlp import MLP
from .resnet import ResNet, ResNet32
from .tiny_ten import TinyTen

__all__ = ["MLP", "VGG16", "Conv2FC1", "GoogLeNet", "ResNet", "ResNet32", "TinyTen"]
