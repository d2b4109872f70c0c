"""`python -m experiments.anokhin2020.table2`: deep and convolutional networks on CIFAR-10.

FC3 (3072-6144-2000-10), Conv2FC1 and VGG16 without batch normalisation, connected layer by layer
with butterflies and with weight adjustment. The paper's protocol is the default: 400 epochs need
an accelerator. `--epochs`, `--examples` and `--width` make it shorter; the results say so.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from mcjax.data import IMAGENET, crop_and_flip, load
from mcjax.models import MLP, VGG16, Conv2FC1
from mcjax.training import Protocol

from ..common import Run, digits
from .paper import TABLE2
from .study import Study, highest_peak, measure_all, table, write

METHODS = (
    "linear", "arc", "linear+butterfly", "arc+butterfly", "linear+wa", "arc+wa", "ot+butterfly",
    "ot+wa", "garipov-3",
)  # fmt: skip


@dataclasses.dataclass
class Table2(Run):
    """Worst accuracy along paths between deep networks (Table 2)."""

    network: Literal["fc3", "conv2fc1", "vgg16"] = "fc3"
    """Network."""
    epochs: int = 400
    """Epochs of training; chains train half as long."""
    examples: int | None = None
    """Only so many training images (default: all)."""
    width: float = 1.0
    """Factor of VGG16's widths."""
    pairs: int = 3
    """Disjoint pairs of networks."""
    methods: tuple[str, ...] = METHODS
    """Rows of the table."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""


def study_of(options: Table2) -> Study:
    """The data, network and protocols that the options ask for."""
    name = "digits" if options.small else options.network
    work = options.working("anokhin2020", f"table2-{name}")
    if options.small:
        hidden, epochs = ((16, 12), 2) if options.smoke else ((96, 64), 20)
        protocol, chain = Protocol(epochs, 32), Protocol(epochs // 2, 32)
        return Study(
            name, MLP(hidden), digits(options.smoke), protocol, chain, work,
            points=5 if options.smoke else 21,
        )  # fmt: skip
    data = load("cifar10", options.data_dir).standardised(*IMAGENET).first(options.examples)
    models = {
        "fc3": MLP((6144, 2000)), "conv2fc1": Conv2FC1(), "vgg16": VGG16(width=options.width),
    }  # fmt: skip
    protocol = Protocol(options.epochs, augment=crop_and_flip)
    chain = Protocol(max(options.epochs // 2, 1))
    return Study(name, models[name], data, protocol, chain, work)


def main(options: Table2) -> None:
    study = study_of(options)
    networks = study.networks(range(2 * options.pairs), "endpoints")
    results = measure_all(study, networks, options.methods)
    name = study.name
    text = (
        table(study, results, TABLE2.get(name, {}))
        + f"\nPeak memory: {highest_peak(results):.2f} GB.\n"
    )
    if name == "vgg16" and options.width != 1:
        text += f"Every width is {options.width:g} times VGG16's.\n"
    out = options.results(study.folder, __file__)
    print(text)
    write(out, f"table2-{name}", study, results, text, examples=len(study.data.x_train))


if __name__ == "__main__":
    main(tyro.cli(Table2, description=__doc__))
