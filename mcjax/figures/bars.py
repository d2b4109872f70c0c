"""A number for each of several names as a figure: horizontal bars, in the order given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .curves import COLOURS, house_style, save_figure


def draw_bars(
    bars: Mapping[str, float],
    label: str,
    path: str | Path | None = None,
    *,
    lines: Mapping[str, float] | None = None,
    ax: Any = None,
) -> Any:
    """A bar for each name, the first on top, and vertical lines to compare them with.

    What is not finite has no bar.

    **Arguments:**
    - `bars`: name → value; `lines`: name → value
    - `label`: what the values are
    - `path`: picture file, its ending says the format; default: none is written
    - `ax`: axes to draw on; default: those of a new figure

    **Returns:** the axes.
    """
    from matplotlib.figure import Figure

    with house_style(ax is None):
        if ax is None:
            size = (6.4, 1.3 + 0.28 * len(bars))
            ax = Figure(figsize=size, layout="constrained").subplots()
        ax.barh(range(len(bars)), list(bars.values()), color=COLOURS[0], height=0.7)
        for k, value in enumerate(bars.values()):
            known = math.isfinite(value)
            text = f" {value:.3g}" if known else " –"
            ax.text(max(value, 0) if known else 0, k, text, va="center", fontsize=8)
        for k, (name, value) in enumerate((lines or {}).items(), 1):
            ax.axvline(value, color=COLOURS[k], ls="--", lw=1.5, label=f"{name}: {value:.3g}")
        ax.set_yticks(range(len(bars)), list(bars))
        ax.set_ylim(len(bars) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set(xlabel=label)
        if lines:
            ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                      ncols=len(lines), fontsize=9)  # fmt: skip
        if path is not None:
            save_figure(ax.figure, path)
    return ax


__all__ = ["draw_bars"]
