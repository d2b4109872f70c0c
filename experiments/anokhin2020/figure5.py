"""`python -m experiments.anokhin2020.figure5`: error along Arc + WA, few or all training data.

Two networks with two hidden layers, connected layer by layer by arcs with weight adjustment. Left:
as many training images as the narrower hidden layer has units, so that the least squares are
exact; right: all of them (anokhin2020, Fig. 5).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tyro

import mcjax
from mcjax.data import IMAGENET, crop_and_flip, load
from mcjax.methods import Arc, LayerByLayer, WeightAdjustment
from mcjax.models import MLP
from mcjax.path import Legs
from mcjax.study import machine
from mcjax.training import Protocol

from ..common import Run, digits, done, save_figure, write
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


def draw(panels: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                  "axes.grid": True, "grid.alpha": 0.25}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axis, panel in zip(figure.subplots(1, 2), panels, strict=True):
            s = np.array(panel["t"]) * panel["legs"]
            for split, colour in (("train", "#0072B2"), ("test", "#D55E00")):
                axis.plot(s, panel["error"][split], color=colour, label=split, lw=1.8)
            for leg in range(1, panel["legs"]):
                axis.axvline(leg, color="0.8", lw=0.8, zorder=0)
            axis.set(title=f"{panel['examples']:,} training images", xlabel="leg of the path",
                     ylabel="error (%)", xlim=(0, panel["legs"]))  # fmt: skip
            axis.set_ylim(bottom=0)
            axis.legend(frameon=False)
        save_figure(figure, file)


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
    draw(panels, files[1])
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
