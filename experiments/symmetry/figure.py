"""The loss along every path, and the barriers beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from mcjax.evaluation import Curve
from mcjax.figures.curves import COLOURS

from ..common import save_figure
from .rows import ROWS

# Barriers below this are drawn as this: axes are logarithmic.
_LEAST = 1e-2


def draw(records: Sequence[dict[str, Any]], title: str, file: Path) -> None:
    """Left the loss along each path, right a bar a barrier; absorbed forms are dashed."""
    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                  "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True}  # fmt: skip
    labels = dict.fromkeys(row.label for row in ROWS)  # a way has one colour in every figure
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(12, 1.6 + 0.34 * max(len(records), 8)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for record in records:
            curve = Curve.from_dict(record["curve"])
            dash = "-" if record["form"] == "as trained" else "--"
            left.plot(curve.t, curve.loss, dash, color=colours[record["label"]], lw=1.8)
        ends = Curve.from_dict(records[0]["curve"]).loss[[0, -1]]
        left.plot((0, 1), ends, "o", color="black", ms=4, clip_on=False, zorder=3)
        left.set(
            title=title,
            xlabel="t   (dashed: absorbed)",
            ylabel="held-out loss (nats)",
            yscale="log",
            xlim=(0, 1),
        )
        left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        left.yaxis.set_minor_formatter(ticker.NullFormatter())
        _bars(right, records, colours)
        save_figure(figure, file)


def _bars(panel: Any, records: Sequence[dict[str, Any]], colours: dict[str, str]) -> None:
    barriers = [Curve.from_dict(r["curve"]).barrier() for r in records]
    rows = np.arange(len(records))
    for row, record, height in zip(rows, records, barriers, strict=True):
        absorbed = record["form"] != "as trained"
        panel.barh(
            row, max(height, _LEAST), 0.7, color=colours[record["label"]],
            hatch="////" if absorbed else None, edgecolor="white", lw=0,
        )  # fmt: skip
        panel.text(max(height, _LEAST) * 1.08, row, f"{height:.3f}", va="center", fontsize=9)
    names = [r["label"] + ("" if r["form"] == "as trained" else f" ({r['form']})") for r in records]
    panel.set_yticks(rows, names)
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.set(title="Barrier (loss above the chord)", xscale="log", xlim=(_LEAST, None))
    panel.margins(x=0.15)
