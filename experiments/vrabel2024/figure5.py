"""`python -m experiments.vrabel2024.figure5`: statistics of barriers between inputs.

Height and gap of the loss on segments between two images of a class, between an image and an
adversarial one, and, what the paper has not, between images of different classes (vrabel2024,
Fig. 5 and App. B.2.2), with bootstrap intervals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy.stats import bootstrap

from mcjax.figures import along_path, band, line, readable, shade

from ..figures import BLUE, GREEN, ORANGE, PINK, beside, figure, finish, table
from .endpoints import Endpoint, Pairs, Trained, endpoint, folder_of
from .pictures import LEAST
from .study import attack_of, attacked, by_class, delta_of, other_class, same_class

COLOURS = (BLUE, ORANGE, PINK, GREEN)
# (mean, median) of height and gap on ImageNet with GoogLeNet.
PAPER = {
    "real–real": {"height": (2.27, 1.79), "gap": (1.00, 0.47)},
    "real–adversarial": {"height": (5.82, 5.99), "gap": (5.19, 5.30)},
}


@dataclasses.dataclass
class Figure5(Trained):
    """Statistics of barriers."""

    drawn: int = 35
    """Pairs drawn of each class; of every 7 the 2 whose ends' losses differ most are left out."""


def kept(pairs: Pairs, first: np.ndarray, second: np.ndarray, each: int = 7) -> np.ndarray:
    """Rows without the 2 of every `each` with the largest difference of losses, class by class."""
    label = pairs.y[0] if isinstance(pairs.y, tuple) else pairs.y
    rows = []
    for k in np.unique(label):
        mine = np.flatnonzero(label == k)
        order = mine[np.argsort(np.abs(first - second)[mine], kind="stable")]
        rows.append(order[: len(mine) - 2 * len(mine) // each])
    return np.sort(np.concatenate(rows))


def statistic(values: np.ndarray, of: Any, seed: int) -> list[float]:
    """[value, low, high]: with a 95 % percentile bootstrap over the pairs."""
    rng = np.random.default_rng(seed)
    found = bootstrap((values,), of, n_resamples=2000, method="percentile", rng=rng)
    interval = found.confidence_interval
    return [float(of(values)), float(interval.low), float(interval.high)]


def scenarios(net: Endpoint, options: Figure5) -> dict[str, Pairs]:
    """Pairs by kind, those left out already."""
    drawn = 7 if options.smoke else options.drawn
    numbers = by_class(net, options.seed)
    real = same_class(net, numbers, drawn)
    other = other_class(net, numbers, drawn, options.seed)
    aim = net.losses(other.a, other.y[0])  # the authors' program stops below its partner's loss
    attack = attack_of(options, delta_of(options))
    found = {
        "real–real": real,
        "real–adversarial": attacked(net, other, attack, below=aim)[0],
        f"real–adversarial, to {attack.delta:g}": attacked(net, other, attack)[0],
        "different classes": other,
    }
    for what, pairs in found.items():
        last = pairs.y[1] if isinstance(pairs.y, tuple) else pairs.y
        first = pairs.y[0] if isinstance(pairs.y, tuple) else pairs.y
        rows = kept(pairs, net.losses(pairs.a, first), net.losses(pairs.c, last))
        found[what] = pairs.at(rows)
    return found


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Heights and gaps of every kind of pairs; the loss along them, a panel each."""
    values, curves = record["values"], record["curves"]
    with figure(file, 13, 6.6) as drawn:
        boxes, below = drawn.subfigures(2, 1, height_ratios=(1.15, 1))
        draw_boxes(boxes.subplots(), values)
        panels = below.subplots(1, len(values), sharey=True)
        for axes, (what, colour) in zip(panels, zip(values, COLOURS, strict=True), strict=True):
            t, quartiles = curves[what]["t"], np.maximum(curves[what]["quartiles"], LEAST)
            low, middle, high = quartiles
            line(axes, t, middle, colour)
            band(axes, t, low, high, colour)
            along_path(axes, "C")
            axes.set(yscale="log")
            count = len(values[what]["height"])
            axes.set_title(f"{what}: {count} pairs", fontsize=10, color=readable(colour))
        panels[0].set(ylabel="cross-entropy:\nmedian and quartiles")


def draw_boxes(axes: Any, values: Mapping[str, Mapping[str, Any]]) -> None:
    """A box for each kind's heights and gaps, with outliers and means."""
    for k, (what, colour) in enumerate(zip(values, COLOURS, strict=True)):
        for m, metric in enumerate(("height", "gap")):
            box = axes.boxplot(
                values[what][metric], positions=[5 * m + k], widths=0.7, patch_artist=True,
                showmeans=True, medianprops={"color": "#222222", "lw": 1.4},
                meanprops={"marker": "^", "mfc": "white", "mec": "#222222", "ms": 5},
                flierprops={"ms": 2.5, "mec": colour},
            )  # fmt: skip
            box["boxes"][0].set(facecolor=shade(colour, 0.45), edgecolor=colour)
    axes.set_xticks([1.5, 6.5], ["height: highest loss of a segment", "gap: above the higher end"])
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="cross-entropy", title="Barriers between inputs (triangles: means)")
    ends = {
        what: (-k, colour) for k, (what, colour) in enumerate(zip(values, COLOURS, strict=True))
    }
    beside(axes, ends)


def main(options: Figure5) -> None:
    folder, net = folder_of(options, "figure5"), endpoint(options)
    name = f"figure5-{net.name}"
    steps = 24 if options.smoke else 100 if options.quick else 250
    curves = {k: net.interpolate(p, steps) for k, p in scenarios(net, options).items()}
    values = {k: {"height": c.height, "gap": c.gap} for k, c in curves.items()}
    found = {
        k: {m: {"mean": statistic(v, np.mean, 0), "median": statistic(v, np.median, 0)}
            for m, v in of.items()} for k, of in values.items()
    }  # fmt: skip
    rows = []
    for what, of in found.items():
        for metric, both in of.items():
            cells = [f"{v:.3g} [{a:.3g}, {b:.3g}]" for v, a, b in both.values()]
            paper = PAPER.get(what, {}).get(metric, ("", ""))
            ends = 100 * np.mean(values[what]["gap"] == 0)
            rows.append([f"{metric}, {what}", len(values[what][metric]), *cells, *paper,
                         f"{ends:.0f} %" if metric == "gap" else ""])  # fmt: skip
    text = table(
        f"{net.name}, accuracy {net.accuracy:.1f} %, {steps} points; 95 % bootstrap intervals "
        "over pairs; the paper's: ImageNet, GoogLeNet.",
        ("", "pairs", "mean", "median", "mean, paper", "median, paper", "highest at an end"), rows,
    )  # fmt: skip
    kept_values = {k: {m: x.tolist() for m, x in v.items()} for k, v in values.items()}
    quartiles = {
        k: {"t": c.t.tolist(), "quartiles": np.quantile(c.loss, (0.25, 0.5, 0.75), axis=0).tolist()}
        for k, c in curves.items()
    }
    record = {"accuracy": net.accuracy, "statistics": found, "values": kept_values,
              "curves": quartiles}  # fmt: skip
    finish(options, folder, name, record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Figure5, description=__doc__))
