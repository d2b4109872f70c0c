"""A number for each of several names as a figure: horizontal bars, in the order given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .style import (
    AFTER,
    BEFORE,
    GREY,
    LARGEST,
    drawable,
    house_style,
    new_panels,
    one_panel,
    save_figure,
)

_LINES = (GREY, BEFORE)


def draw_bars(
    bars: Mapping[str, float],
    label: str,
    path: str | Path | None = None,
    *,
    lines: Mapping[str, float] | None = None,
    spread: Mapping[str, float] | None = None,
    ax: Any = None,
) -> Any:
    """A bar for each name, the first on top, and vertical lines to compare them with.

    What is not finite, or above 1e300, has no bar.

    **Arguments:**
    - `bars`: name → value; `lines`: name → value, of two at most
    - `spread`: name → what a whisker shows to both sides, as a standard deviation
    - `label`: what the values are
    - `path`: picture file, its ending says the format; default: none is written
    - `ax`: axes to draw on; default: those of a new figure

    **Returns:** the axes.

    **Raises:** `ValueError` for an `ax` that is not one.
    """
    with house_style(ax is None):
        if ax is None:
            ax = new_panels(1, width=6.4, height=1.3 + 0.28 * len(bars))[0][0]
        widths = [value if abs(value) < LARGEST else math.nan for value in bars.values()]
        one_panel(ax).barh(range(len(bars)), widths, color=AFTER, height=0.7)
        for k, (name, value) in enumerate(bars.items()):
            known = abs(value) < LARGEST
            text = f" {value:.3g}" if known else " –"
            wide = (spread or {}).get(name, 0.0) if known else 0.0
            if wide:
                ax.errorbar(value, k, xerr=wide, color="0.15", capsize=2, lw=1)
            at = (max(value, 0) + wide if known else 0, k)
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # lines may cross here
            ax.text(*at, text, va="center", fontsize=8, bbox=ground)
        for (name, value), colour in zip((lines or {}).items(), _LINES, strict=False):
            place = value if abs(value) < LARGEST else math.nan
            ax.axvline(place, color=colour, ls="--", lw=1.5, label=f"{drawable(name)}: {value:.3g}")
        ax.set_yticks(range(len(bars)), [drawable(name) for name in bars])
        ax.set_ylim(len(bars) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set(xlabel=label)
        if lines:
            place = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
            ax.legend(frameon=False, ncols=len(lines), borderaxespad=0.1, **place)
        if path is not None:
            save_figure(ax.figure, path)
    return ax


__all__ = ["draw_bars"]
