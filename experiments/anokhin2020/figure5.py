"""`python -m experiments.anokhin2020.figure5`: error along Arc + WA, few or all training data.

Two networks with two hidden layers, connected layer by layer by arcs with weight adjustment. Left:
as many training images as the narrower hidden layer has units, so that the least squares are
exact; right: all of them (anokhin2020, Fig. 5).
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tyro

import mcjax
from mcjax._files import write_atomically
from mcjax.data import IMAGENET, crop_and_flip, load
from mcjax.methods import Arc, LayerByLayer, WeightAdjustment
from mcjax.models import MLP
from mcjax.path import Legs
from mcjax.study import machine
from mcjax.training.protocol import Protocol

from .study import Study


@dataclasses.dataclass
class Figure5:
    """Train and test error along an Arc + WA path between three-layer networks (Figure 5)."""

    data: str = "cifar10"
    """Data set: cifar10 (the paper's) or mnist."""
    quick: bool = False
    """Digits and a small network, in under two minutes."""
    hidden: tuple[int, int] = (6144, 2000)
    """Widths of the hidden layers (the paper's: 6144 2000)."""
    epochs: int = 400
    """Epochs of training."""
    steps: int = 10
    """Steps of t on each leg."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""
    work: Path | None = None
    """Folder of the checkpoints."""
    out: Path | None = None
    """Folder of the results (default: results beside this file; with --quick the work folder)."""


def study_of(options: Figure5) -> Study:
    name = "digits" if options.quick else options.data
    work = options.work or Path("mcjax-runs/anokhin2020") / f"figure5-{name}"
    data = load(name, options.data_dir)
    protocol, hidden, augment = Protocol(options.epochs), options.hidden, None
    if options.quick:
        protocol, hidden = Protocol(20, 32), (256, 96)
    elif name == "cifar10":
        data, augment = data.standardised(*IMAGENET), crop_and_flip
    return Study(name, MLP(hidden), data, protocol, protocol, work, augment=augment)


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
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    write_atomically(file, buffer.getvalue())


def main(options: Figure5) -> None:
    study = study_of(options)
    a, b = study.networks(range(2), "endpoints")
    few, every = min(study.model.hidden), len(study.data.x_train)
    panels = [curves(study, a, b, count, options.steps) for count in (few, every)]
    out = options.out or (study.folder if options.quick else Path(__file__).parent / "results")
    record = {"machine": machine(), "data": study.data.name, "model": repr(study.model),
              "protocol": dataclasses.asdict(study.protocol), "panels": panels}  # fmt: skip
    write_atomically(out / f"figure5-{study.name}.json", json.dumps(record).encode())
    draw(panels, out / f"figure5-{study.name}.png")
    lines = [
        "| training images | highest train error (%) | highest test error (%) |",
        "|---:|---:|---:|",
    ]
    for panel in panels:
        worst = [f"{max(panel['error'][s]):.2f}" for s in ("train", "test")]
        lines.append(f"| {panel['examples']} | " + " | ".join(worst) + " |")
    text = "\n".join(lines) + "\n"
    write_atomically(out / f"figure5-{study.name}.md", text.encode())
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Figure5, description=__doc__))
