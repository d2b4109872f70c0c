"""Trained networks whose inputs are connected; all take pixels in [0, 1]."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mcjax import inputs
from mcjax.data import CIFAR10, Dataset, crop_and_flip, load
from mcjax.models import Conv2FC1, ResNet
from mcjax.tasks import CLASSIFICATION
from mcjax.training import Protocol

from ..common import digits, trained
from ..figures import Seeded


@dataclasses.dataclass
class Options(Seeded):
    """A figure of vrabel2024."""

    data: Literal["mnist", "cifar10"] = "mnist"
    """Data set: a CNN for MNIST, a residual network for CIFAR-10."""


@dataclasses.dataclass
class Trained(Options):
    """A figure of vrabel2024 on a trained network."""

    epochs: int | None = None
    """Epochs of its training (default: 5 on MNIST, 12 on CIFAR-10, 30 on digits)."""


class SmallResNet(nn.Module):
    """A residual network with batch normalisation at a quarter of CIFAR-10's positions.

    Pixels are standardised inside, so that inputs and their bounds are those of images; every
    2 × 2 pixels become channels of one position, as a CPU has not the time for all of them.
    """

    blocks: int = 2
    widths: tuple[int, ...] = (16, 32, 64)

    @nn.compact
    def __call__(self, x: Any) -> Any:
        mean, std = (jnp.asarray(v, x.dtype) for v in CIFAR10)
        n, height, width, channels = x.shape
        x = ((x - mean) / std).reshape(n, height // 2, 2, width // 2, 2, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // 2, width // 2, 4 * channels)
        return ResNet(self.blocks, self.widths)(x)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of inputs: `a` and `c` (pairs, …), and `y`: the labels whose loss counts."""

    a: np.ndarray
    c: np.ndarray
    y: Any

    def __len__(self) -> int:
        return len(self.a)

    def at(self, rows: Any) -> Pairs:
        """Some of them."""
        return jax.tree.map(lambda v: v[rows], self)


jax.tree_util.register_dataclass(Pairs, ["a", "c", "y"], [])


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A trained network and its data, and what is done with its inputs.

    - `name`: of the data set; `model`: flax module; `params`: its parameters
    - `data`: images in [0, 1]; `chunk`: of them at a time
    """

    name: str
    model: Any
    params: Any
    data: Dataset
    chunk: int

    @property
    def apply(self) -> Any:
        """(params, x) → logits."""
        return self.model.apply

    @functools.cached_property
    def accuracy(self) -> float:
        """On the test images, in percent."""
        right = self._watched.logits(self.data.x_test).argmax(1) == self.data.y_test
        return 100 * float(right.mean())

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The loss of each input."""
        return self._watched.losses(x, y)

    def interpolate(self, pairs: Pairs, t: int) -> inputs.Interpolation:
        """The loss on segments."""
        return inputs.interpolate(*self._given(pairs), t, chunk=self.chunk)

    def bypass(self, pairs: Pairs, how: inputs.Bypass) -> inputs.Bypassed:
        """Chains of low loss."""
        return inputs.bypass(*self._given(pairs), how, chunk=self.chunk)

    def synthesise(
        self, x: np.ndarray, y: np.ndarray, how: inputs.Synthesis, below: Any = None
    ) -> inputs.Synthesised:
        """Inputs moved to low losses."""
        return inputs.synthesise(
            self.apply, self.params, x, (y, y), how, below=below, chunk=self.chunk
        )

    def _given(self, pairs: Pairs) -> tuple[Any, ...]:
        # Of one class its label twice, for the programs of pairs of two classes to do for it, too.
        y = pairs.y if isinstance(pairs.y, tuple) else (pairs.y, pairs.y)
        return self.apply, self.params, (pairs.a, pairs.c), y

    @property
    def _watched(self) -> inputs.Watched:
        return inputs.Watched(self.apply, self.params, CLASSIFICATION, self.chunk)


@functools.cache
def cnn(*channels: int) -> Conv2FC1:
    """The same object for the same channels: for one of them everything is compiled once."""
    return Conv2FC1(channels)


def endpoint(options: Trained) -> Endpoint:
    """The network of a run: trained once, kept in the work folder."""
    data, model, protocol = setting(options)
    name = f"endpoints-{data.name}"
    if options.epochs is not None:
        protocol = dataclasses.replace(protocol, epochs=options.epochs)
        name += f"-{options.epochs}"
    (params,) = trained(
        model, (data.x_train, data.y_train), (options.seed,), protocol,
        directory=options.working("vrabel2024", "endpoints") / name,
        label=f"training on {data.name}",
    )  # fmt: skip
    return Endpoint(data.name, model, params, data, chunk_of(options))


def chunk_of(options: Options) -> int:
    """Inputs at a time; few in a smoke run, in which every size of a batch is compiled."""
    return 8 if options.smoke else 256


def setting(options: Options) -> tuple[Dataset, Any, Protocol]:
    """Data, model and protocol of a run; of a small one digits, which both data sets become."""
    if options.smoke:
        return digits(True), cnn(4, 8), Protocol(15, 16, 0.05)
    if options.quick:
        return digits(False), cnn(8, 16), Protocol(30, 32, 0.05)
    if options.data == "mnist":
        return load("mnist"), cnn(8, 16), Protocol(5, 128, 0.05)
    protocol = Protocol(12, 128, 0.1, weight_decay=5e-4, nesterov=True, augment=crop_and_flip)
    return load("cifar10"), SmallResNet(), protocol


def folder_of(options: Options, name: str) -> Path:
    """Where the results of a figure go."""
    return options.results(options.working("vrabel2024", name), __file__)
