"""The papers' networks, in flax."""

from .mlp import MLP

__all__ = ["MLP"]
