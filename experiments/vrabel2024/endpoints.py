"""Trained networks whose inputs are connected; all take pixels in [0, 1]."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mcjax.data import CIFAR10, Dataset, crop_and_flip, load
from mcjax.models import Conv2FC1, ResNet
from mcjax.training import Protocol

from ..common import digits, trained
from ..figures import Seeded


@dataclasses.dataclass
class Options(Seeded):
    """A figure of vrabel2024."""

    data: Literal["mnist", "cifar10"] = "mnist"
    """Data set: a CNN for MNIST, a residual network for CIFAR-10."""


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
class Endpoint:
    """A trained network and its data.

    - `name`: of the data set; `model`: flax module; `params`: its parameters
    - `data`: images in [0, 1]; `accuracy`: on the test images, in percent
    """

    name: str
    model: Any
    params: Any
    data: Dataset
    accuracy: float

    @property
    def apply(self) -> Any:
        """(params, x) → logits."""
        return self.model.apply


def endpoint(options: Options) -> Endpoint:
    """The network of a run: trained once, kept in the work folder."""
    data, model, protocol = setting(options)
    folder = options.working("vrabel2024", "endpoints")
    (params,) = trained(
        model, (data.x_train, data.y_train), (options.seed,), protocol,
        directory=folder / f"endpoints-{data.name}", label=f"training on {data.name}",
    )  # fmt: skip
    outputs = jax.jit(model.apply)
    found = [outputs(params, data.x_test[i : i + 1000]) for i in range(0, len(data.x_test), 1000)]
    right = np.concatenate(found).argmax(1) == data.y_test
    return Endpoint(data.name, model, params, data, 100 * float(right.mean()))


def setting(options: Options) -> tuple[Dataset, Any, Protocol]:
    """Data, model and protocol of a run; of a small one digits, which both data sets become."""
    if options.small:
        model = Conv2FC1((4, 8)) if options.smoke else Conv2FC1((8, 16))
        return digits(options.smoke), model, Protocol(30, 32, 0.05)
    if options.data == "mnist":
        return load("mnist"), Conv2FC1((8, 16)), Protocol(5, 128, 0.05)
    protocol = Protocol(12, 128, 0.1, weight_decay=5e-4, nesterov=True, augment=crop_and_flip)
    return load("cifar10"), SmallResNet(), protocol


def folder_of(options: Options, name: str) -> Path:
    """Where the results of a figure go."""
    return options.results(options.working("vrabel2024", name), __file__)
