"""What transformers are trained on and how: problems, and their end points."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import optax

import mcjax
from mcjax.data import CIFAR10, Dataset, load
from mcjax.tasks import CLASSIFICATION, NEXT_TOKEN
from mcjax.training import Protocol

from ..common import Run, digits
from .models import GPT, ViT


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


def shakespeare(data_dir: Path | None) -> tuple[bytes, bytes]:
    """Tiny Shakespeare: the training and the validation text."""
    import tensorflow_datasets as tfds

    folder = data_dir or os.environ.get("MCJAX_DATA_DIR")
    source: Any = tfds.data_source("tiny_shakespeare", data_dir=folder)
    return source["train"][0]["text"], source["validation"][0]["text"]


def counting(numbers: int) -> tuple[bytes, bytes]:
    """0 1 2 … in words of digits, a text that every machine has; the last tenth is held out."""
    text = " ".join(map(str, range(numbers))).encode()
    cut = len(text) * 9 // 10
    return text[:cut], text[cut:]


def windows(text: bytes, vocabulary: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows side by side: `context` characters each and, as targets, those one further."""
    tokens = np.searchsorted(vocabulary, np.frombuffer(text, np.uint8)).astype(np.int32)
    count = (len(tokens) - 1) // context
    x, y = (tokens[i : i + count * context].reshape(count, context) for i in (0, 1))
    return x, y


def gpt(run: Run, epochs: int, data_dir: Path | None) -> Problem:
    """A small GPT on the characters of Tiny Shakespeare (smoke and quick: of counting)."""
    protocol = AdamW(epochs, batch=32, learning_rate=2e-3)
    if run.small:
        texts = counting(400 if run.smoke else 8000)
        protocol = dataclasses.replace(protocol, epochs=1 if run.smoke else 3)
    else:
        texts = shakespeare(data_dir)
    vocabulary = np.unique(np.frombuffer(b"".join(texts), np.uint8))
    model = GPT(len(vocabulary))
    if run.small:
        model = GPT(len(vocabulary), 8, 8, 1, 2) if run.smoke else GPT(len(vocabulary), 16, 32)
    train, test = (windows(text, vocabulary, model.context) for text in texts)
    name = "gpt-counting" if run.small else "gpt-shakespeare"
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
            data, model = data.standardised(*CIFAR10), ViT(8, width=96)
    train, test = (data.x_train, data.y_train), (data.x_test, data.y_test)
    return Problem(f"vit-{name}", model, train, test, CLASSIFICATION, protocol)
