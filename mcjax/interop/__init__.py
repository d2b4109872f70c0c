"""Models of other frameworks as pure functions over parameters, and back; each is loaded on use."""

from . import keras, torch

__all__ = ["keras", "torch"]
