"""What transformers are trained on and how: problems, and their end points."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import flax.linen as nn
import numpy as np
import optax

import mcjax
from mcjax.data import CIFAR10, Dataset, Text, load, load_text
from mcjax.tasks import CLASSIFICATION, NEXT_TOKEN
from mcjax.training import Protocol

from ..common import Run, digits
from .models import GPT, ViT

WIDTH, DEPTH = GPT.width, GPT.depth  # of the GPT whose results have its name alone


@dataclasses.dataclass(frozen=True)
class AdamW(Protocol):
    """AdamW, its rate warmed up over a tenth of the training and then falling to 0 as a cosine."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.01

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        rate = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, max(steps // 10, 1), max(steps, 2)
        )
        return optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=self.weight_decay)
        )


@dataclasses.dataclass(frozen=True)
class Problem:
    """A model, its data (training and held out) and how end points are trained."""

    name: str
    model: nn.Module
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    task: mcjax.Task
    protocol: Protocol


# -- characters ----------------------------------------------------------------------------


def counting(numbers: int) -> Text:
    """0 1 2 … in words of digits, a text that every machine has; the last tenth is held out."""
    text = " ".join(map(str, range(numbers))).encode()
    cut = len(text) * 9 // 10
    return Text("counting", text[:cut], text[cut:], b"")


def gpt(
    run: Run, epochs: int, data_dir: Path | None, width: int = WIDTH, depth: int = DEPTH
) -> Problem:
    """A small GPT on the characters of Tiny Shakespeare (smoke and quick: of counting)."""
    protocol = AdamW(epochs, batch=32, learning_rate=2e-3)
    if run.small:
        text = counting(400 if run.smoke else 8000)
        protocol = dataclasses.replace(protocol, epochs=1 if run.smoke else 3)
    else:
        text = load_text("tiny_shakespeare", data_dir)
    size = len(text.vocabulary)
    model = GPT(size, width=width, depth=depth)
    if run.small:
        model = GPT(size, 8, 8, 1, 2) if run.smoke else GPT(size, 16, 32)
    train, test = (text.windows(part, model.context) for part in ("train", "validation"))
    name = "gpt-counting" if run.small else "gpt-shakespeare"
    if (width, depth) != (WIDTH, DEPTH):
        name += f"-{width}x{depth}"
    return Problem(name, model, train, test, NEXT_TOKEN, protocol)


# -- images --------------------------------------------------------------------------------


def vit(run: Run, name: str, epochs: int, data_dir: Path | None) -> Problem:
    """A small ViT on MNIST or CIFAR-10 (smoke and quick: on digits)."""
    if run.small:
        data: Dataset = digits(run.smoke)
        model = ViT(4, width=8, depth=1, heads=2) if run.smoke else ViT(2, width=32)
        name, protocol = "digits", AdamW(1 if run.smoke else 10, batch=32, learning_rate=2e-3)
    else:
        data, protocol = load(name, data_dir), AdamW(epochs, batch=64)
        model = ViT(7)
        if name == "cifar10":
            data, model = data.standardised(*CIFAR10), ViT(8)
    train, test = (data.x_train, data.y_train), (data.x_test, data.y_test)
    return Problem(f"vit-{name}", model, train, test, CLASSIFICATION, protocol)
