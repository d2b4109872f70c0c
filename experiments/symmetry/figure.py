"""The loss along every path, and the barriers beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import ticker

from mcjax import figures
from mcjax.evaluation import Curve

# Barriers below this are drawn as this: axes are logarithmic.
_LEAST = 1e-2
_FORMS = {"as trained": "B or P·B", "absorbed": "B, P·B or g·B"}


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The loss along each path, as trained and absorbed; right a bar a barrier, and the names."""
    records = list(record["results"].values())
    curves = [Curve.from_dict(r["curve"]) for r in records]
    colours = figures.colours_of(r["label"] for r in records)
    with figures.house_style():
        from matplotlib.figure import Figure

        whole = Figure(figsize=(12, 1.5 + 0.32 * max(len(records), 8)), layout="constrained")
        left, middle, right = whole.subplots(1, 3, width_ratios=(1, 1, 1.05))
        middle.sharey(left)
        for panel, (form, end) in zip((left, middle), _FORMS.items(), strict=True):
            for r, curve in zip(records, curves, strict=True):
                mine = r["form"] == form
                colour = colours[r["label"]] if mine else figures.FAINT
                figures.line(panel, curve.t, curve.loss, colour, lw=2 if mine else 0.9,
                             zorder=2 if mine else 1.2)  # fmt: skip
            figures.along_path(panel, end)
            panel.set(title=f"Networks {form}", yscale="log")
        left.set_ylabel("held-out loss (nats)")
        left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        left.yaxis.set_minor_formatter(ticker.NullFormatter())
        middle.tick_params(labelleft=False)
        _bars(right, records, curves, colours)
        figures.save_figure(whole, file)


def _bars(
    panel: Any, records: Sequence[Mapping[str, Any]], curves: Sequence[Curve],
    colours: Mapping[str, str],
) -> None:  # fmt: skip
    """A bar a barrier, those of one form together; the names are in the colours of the lines."""
    order = [k for form in _FORMS for k, r in enumerate(records) if r["form"] == form]
    rows = np.arange(len(order)) + [0.8 * (records[k]["form"] != "as trained") for k in order]
    for row, k in zip(rows, order, strict=True):
        height = curves[k].barrier()
        panel.barh(row, max(height, _LEAST), 0.72, color=colours[records[k]["label"]])
        panel.text(max(height, _LEAST) * 1.08, row, f"{height:.3f}", va="center", fontsize=8.5)
    panel.set_yticks(rows, [records[k]["label"] for k in order])
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    panel.set(title="Barrier (loss above the chord, nats)", xscale="log", xlim=(_LEAST, None))
    for form in _FORMS:
        first = next((r for r, k in zip(rows, order, strict=True) if records[k]["form"] == form), 0)
        panel.annotate(form, (1, first - 0.62), xycoords=("axes fraction", "data"), ha="right",
                       color=figures.GREY, fontsize=8.5, style="italic")  # fmt: skip
    panel.margins(x=0.18, y=0.04)
