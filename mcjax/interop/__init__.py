"""Models of other frameworks as pure functions over parameters, and back; each is loaded on use."""

from . import torch

__all__ = ["torch"]
