"""`python -m experiments.symmetry.vit`: two small ViTs on MNIST or CIFAR-10, joined."""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro

from . import endpoints
from .study import Options, Study

# Epochs of the committed results' end points.
EPOCHS = {"mnist": 4, "cifar10": 6}


@dataclasses.dataclass
class ViTOptions(Options):
    """Barriers between two small ViTs."""

    data: Literal["mnist", "cifar10"] = "mnist"
    """Data set."""


def main(options: ViTOptions) -> None:
    epochs = options.epochs or EPOCHS[options.data]
    Study(options, endpoints.vit(options, options.data, epochs, options.data_dir)).run()


if __name__ == "__main__":
    main(tyro.cli(ViTOptions))
