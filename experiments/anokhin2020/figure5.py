"""`python -m experiments.anokhin2020.figure5`: error along Arc + WA, few or all training data.

Two networks with two hidden layers, connected layer by layer by arcs with weight adjustment. Left:
as many training images as the narrower hidden layer has units, so that the least squares are
exact; right: all of them (anokhin2020, Fig. 5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import mcjax
from mcjax import figures
from mcjax.data import IMAGENET, crop_and_flip, load
from mcjax.methods import Arc, LayerByLayer, WeightAdjustment
from mcjax.models import MLP
from mcjax.path import Legs
from mcjax.study import machine
from mcjax.training import Protocol

from ..common import Run, digits, done, write
from .study import Study


@dataclasses.dataclass
class Figure5(Run):
    """Train and test error along an Arc + WA path between three-layer networks (Figure 5)."""

    data: str = "cifar10"
    """Data set: cifar10 (the paper's) or mnist."""
    hidden: tuple[int, int] = (6144, 2000)
    """Widths of the hidden layers (the paper's: 6144 2000)."""
    epochs: int = 400
    """Epochs of training."""
    steps: int = 10
    """Steps of t on each leg."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""


def study_of(options: Figure5) -> Study:
    name = "digits" if options.small else options.data
    work = options.working("anokhin2020", f"figure5-{name}")
    protocol, hidden, augment = Protocol(options.epochs), options.hidden, None
    if options.small:
        data = digits(options.smoke)
        protocol, hidden = (Protocol(2, 32), (24, 16)) if options.smoke else (
            Protocol(20, 32), (256, 96))  # fmt: skip
    else:
        data = load(name, options.data_dir)
    if name == "cifar10":
        data, augment = data.standardised(*IMAGENET), crop_and_flip
    return Study(
        name, MLP(hidden), data, dataclasses.replace(protocol, augment=augment), protocol, work
    )


def curves(study: Study, a: Any, b: Any, count: int, steps: int) -> dict[str, Any]:
    """Error (%) at every t of the path adjusted and measured on the first `count` images."""
    x, y = (v[:count] for v in study.train_data)
    method = LayerByLayer(Arc(), WeightAdjustment(points=steps + 1))
    path = mcjax.connect(study.trace(a), a, b, method, x=x).path
    assert isinstance(path, Legs)
    t = path.grid(steps)
    error = {
        split: (100 * (1 - mcjax.evaluate(path, study.apply, data, t).accuracy)).tolist()
        for split, data in (("train", (x, y)), ("test", study.test_data))
    }
    # The paper counts sub-paths: the extra legs belong to the one that they lead to or from.
    return {"examples": len(x), "legs": len(path.legs), "t": t.tolist(), "error": error}


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The error on every leg, test beside training data."""
    panels = record["panels"]
    with figures.house_style():
        drawn, whole = figures.new_panels(len(panels), width=4.9)
        colour = figures.colours_of(["Arc + WA"])["Arc + WA"]
        for axis, panel in zip(drawn, panels, strict=True):
            s = np.array(panel["t"]) * panel["legs"]
            figures.line(axis, s, panel["error"]["train"], colour, dim=True, lw=2)
            figures.line(axis, s, panel["error"]["test"], colour)
            for leg in range(1, panel["legs"], 2):
                axis.axvspan(leg, leg + 1, color="#F6F6F6", lw=0, zorder=0)
            axis.grid(axis="x", visible=False)
            axis.set(title=f"{panel['examples']:,} training images", xlabel="leg of the path",
                     ylabel="error (%)", xlim=(0, panel["legs"]))  # fmt: skip
            axis.set_ylim(bottom=0)
            axis.set_xticks(range(panel["legs"] + 1), ["A", *range(1, panel["legs"]), "B"])
        for axis, panel in zip(drawn, panels, strict=True):
            figures.end_labels(axis, {
                split: (panel["error"][split][-1], figures.shade(colour, 0.45 * (split == "train")))
                for split in ("train", "test")
            })  # fmt: skip
        figures.save_figure(whole, file)


def main(options: Figure5) -> None:
    study = study_of(options)
    a, b = study.networks(range(2), "endpoints")
    few, every = min(study.model.hidden), len(study.data.x_train)
    steps = 2 if options.smoke else options.steps
    panels = [curves(study, a, b, count, steps) for count in (few, every)]
    stem = options.results(study.folder, __file__) / f"figure5-{study.name}"
    files = [stem.with_suffix(f".{kind}") for kind in ("json", "png", "md")]
    record = {"machine": machine(), "data": study.data.name, "model": repr(study.model),
              "protocol": study.protocol.to_dict(), "panels": panels}  # fmt: skip
    write(files[0], record)
    draw(record, files[1])
    lines = [
        "| training images | highest train error (%) | highest test error (%) |",
        "|---:|---:|---:|",
    ]
    for panel in panels:
        worst = [f"{max(panel['error'][s]):.2f}" for s in ("train", "test")]
        lines.append(f"| {panel['examples']} | " + " | ".join(worst) + " |")
    text = "\n".join(lines) + "\n"
    write(files[2], text)
    print(text)
    done(*files)


if __name__ == "__main__":
    main(tyro.cli(Figure5, description=__doc__))
