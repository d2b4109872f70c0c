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
    """Networks from these seeds, each kept in the folder; those not there are trained in one scan.

    One after the other they take as long (two cores, 512 units: 2.6 s for 20,000 images, 2.9 s
    side by side), but for what is compiled.
    """
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: a network of each, and not one twice, got {list(seeds)}")
    rate = f"rate{protocol.learning_rate:g}-{protocol.epochs}x{protocol.batch}"
    name = f"{'-'.join(map(str, hidden))}-{rate}"
    files = {seed: folder / f"{name}-seed{seed}.safetensors" for seed in seeds}
    missing = [seed for seed, file in files.items() if not file.exists()]
    if missing:
        running = folder / f"{name}-seeds{'-'.join(map(str, missing))}"
        examples = (data.x_train, data.y_train)
        for seed, params in zip(
            missing,
            trained(Dense(hidden), examples, missing, protocol, directory=running, label=name),
            strict=True,
        ):
            mcjax.save(files[seed], params)
    return [mcjax.load(file) for file in files.values()]
