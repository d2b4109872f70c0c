"""Trained networks with symmetries of every kind, and what is measured on all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import mcjax
from mcjax.data import Dataset, load
from mcjax.models import MLP
from mcjax.training import Protocol

from ..common import digits, trained
from .study import Options


class Bottleneck(nn.Module):
    """An MLP with a linear layer of `rank` between its hidden layers: GL(rank) acts on it."""

    width: int = 64
    rank: int = 16

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.Dense(self.width)(x))
        x = nn.Dense(self.rank, use_bias=False)(x)
        x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(10)(x)


class Attention(nn.Module):
    """Rows of an image as tokens, a block of attention and one of two dense layers, no norms.

    Each head has a GL(d) between queries and keys, and one between values and outputs.
    """

    width: int = 32
    heads: int = 4

    @nn.compact
    def __call__(self, x: Any) -> Any:
        side = int(x.shape[-1] ** 0.5)
        h = nn.Dense(self.width)(x.reshape(-1, side, side))
        place = self.param("place", nn.initializers.normal(0.1), (side, self.width))
        h = h + place
        h = h + nn.MultiHeadDotProductAttention(self.heads, use_bias=False, name="attention")(h)
        h = h + nn.Dense(self.width)(nn.relu(nn.Dense(2 * self.width)(h)))
        return nn.Dense(10)(h.mean(-2))


@dataclasses.dataclass(frozen=True)
class Trained:
    """Networks of one architecture from different seeds, and the trace of it."""

    name: str
    model: Any
    params: list[Any]
    network: mcjax.Network


def data_of(options: Options) -> Dataset:
    """MNIST; scikit-learn's digits in a small run."""
    return digits(options.smoke).flat() if options.small else load("mnist").flat()


def train(options: Options, name: str, data: Dataset) -> Trained:
    """A network by the name of its architecture, of attention two; kept in the work folder."""
    width, rank = (8, 3) if options.smoke else (64, 16)
    model: Any = {
        "relu": lambda: MLP((width, width)),
        "bottleneck": lambda: Bottleneck(width, rank),
        "attention": lambda: Attention(width // 2, 2 if options.smoke else 4),
    }[name]()
    small = Protocol(2 if options.smoke else 10, 32, 0.02, halve_every=float("inf"))
    protocol = small if options.small else Protocol(6, 128, 0.05)
    seeds = range(options.seed, options.seed + (2 if name == "attention" else 1))
    folder = options.working("zhao2025", "networks") / f"{name}-{data.name}"
    examples = (data.x_train, data.y_train)
    params = trained(model, examples, seeds, protocol, directory=folder, label=f"training {name}")
    network = mcjax.trace(model.apply, params[0], data.x_train[:2])
    return Trained(name, model, params, network)


def in_float64(tree: Any) -> Any:
    """Arrays of floats widened."""
    return jax.tree.map(lambda v: np.asarray(v, np.float64), tree)


def symmetries(network: mcjax.Network) -> str:
    """How many units which group acts on, for a table."""
    words = []
    for group in network.groups.values():
        shape = " × ".join(map(str, group.shape))
        words.append(f"{shape} {group.symmetry}")
    return ", ".join(words)
