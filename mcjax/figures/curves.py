"""Curves along paths as a figure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from .._files import write_atomically

# Okabe and Ito's colours, then Tol's muted ones: told apart by colour-blind readers too.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000",
    "#882255", "#999933", "#332288", "#44AA99", "#DDCC77", "#AA4499", "#777777",
)  # fmt: skip
_STYLES = {"data": "-", "train": "-", "test": "--", "clean": "-", "robust": "--"}


def draw_curves(curves: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Loss (left) and accuracy (right) along each path, a colour a method, a dash a split.

    **Arguments:**
    - `curves`: method label → split → `Curve`
    - `path`: picture file; its ending says the format
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
             "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        panels = figure.subplots(1, 2)
        names = ("loss", "accuracy")
        kinds = list(dict.fromkeys(s for splits in curves.values() for s in splits))
        styles = {s: _STYLES.get(s, "-") if len(kinds) > 1 else "-" for s in kinds}
        for k, (splits, colour) in enumerate(zip(curves.values(), _cycle(len(curves)))):
            width = 2.6 - 1.3 * k / max(len(curves) - 1, 1)  # a curve under another shows beside it
            for split, curve in splits.items():
                for panel, name in zip(panels, names, strict=True):
                    if name in curve.values:
                        scale = 100 if name == "accuracy" else 1
                        panel.plot(curve.t, scale * np.asarray(curve.values[name]), lw=width,
                                   color=colour, ls=styles[split])  # fmt: skip
        panels[0].set(title="Loss along the path", ylabel="cross-entropy")
        panels[1].set(title="Accuracy along the path", ylabel="accuracy (%)")
        for panel in panels:
            panel.set(xlabel="t   (network A at 0, network B at 1)", xlim=(0, 1))
        handles = [Line2D([], [], color=c, lw=1.8, label=label)
                   for label, c in zip(curves, _cycle(len(curves)), strict=True)]  # fmt: skip
        if len(kinds) > 1:
            handles += [Line2D([], [], color="0.4", ls=styles[s], label=s) for s in kinds]
        # About 120 letters fit side by side, with 8 for each line and the space around it.
        columns = min(7, 120 // (8 + max(len(str(h.get_label())) for h in handles)))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=max(columns, 1), frameon=False
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=150)
    write_atomically(path, buffer.getvalue())


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]
