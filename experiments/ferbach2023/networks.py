"""Networks trained as in the paper: SGD, a rate that warms up and falls along half a cosine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import flax.linen as nn
import optax

import mcjax
from mcjax.data import Dataset, load
from mcjax.training import Protocol

from ..common import Run, digits, trained


@dataclasses.dataclass(frozen=True)
class Warmed(Protocol):
    """SGD with momentum whose rate rises from 1e-6 over 10 steps, then falls to 0 as a cosine."""

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        return _optimizer(self.learning_rate, self.momentum, steps)


@lru_cache
def _optimizer(rate: float, momentum: float, steps: int) -> optax.GradientTransformation:
    warm = min(10, steps // 2)
    return optax.sgd(optax.warmup_cosine_decay_schedule(1e-6, rate, warm, steps), momentum)


class Dense(nn.Module):
    """ReLU layers with biases that start at 0 and weights from a normal of variance 1 / fan-in."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


def data_of(options: Run) -> Dataset:
    """MNIST, pixels in [0, 1]; scikit-learn's digits in a small run."""
    return digits(options.smoke).flat() if options.small else load("mnist").flat()


def networks(
    hidden: tuple[int, ...], data: Dataset, seeds: Sequence[int], protocol: Protocol, folder: Path
) -> list[Any]:
    """Networks from these seeds, one after the other, each kept in the folder.

    Side by side they take as long (two cores: 2.6 and 2.9 s for 20,000 images), and fewer would be
    another run.
    """
    model, examples = Dense(hidden), (data.x_train, data.y_train)
    out: list[Any] = []
    for seed in seeds:
        of = f"rate{protocol.learning_rate:g}-{protocol.epochs}x{protocol.batch}-seed{seed}"
        name = f"{'-'.join(map(str, hidden))}-{of}"
        file = folder / f"{name}.safetensors"
        if not file.exists():
            (params,) = trained(model, examples, [seed], protocol, directory=folder / name,
                                label=name)  # fmt: skip
            mcjax.save(file, params)
        out.append(mcjax.load(file))
    return out
