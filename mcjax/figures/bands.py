"""Many curves over one t as a figure: median, quartiles, and each where there are few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .style import (
    AFTER,
    FAINT,
    along_path,
    band,
    house_style,
    line,
    new_panels,
    one_panel,
    save_figure,
)

# Curves that are drawn one by one, at most.
_FEW = 30


def draw_bands(
    t: np.ndarray, values: np.ndarray, path: str | Path | None = None, *, ax: Any = None,
    ylabel: str = "loss",
) -> Any:  # fmt: skip
    """The median and the quartiles of curves of shape (curves, T).

    **Arguments:**
    - `path`: picture file, its ending says the format; default: none is written
    - `ax`: axes to draw on; default: those of a new figure

    **Returns:** the axes.

    **Raises:** `ValueError` for an `ax` that is not one.
    """
    with house_style(ax is None):
        if ax is None:
            ax = new_panels(1)[0][0]
        ax = one_panel(ax)
        low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75), axis=0)
        if len(values) <= _FEW:
            ax.plot(t, values.T, color=FAINT, lw=0.8)
        band(ax, t, low, high, AFTER)
        line(ax, t, middle, AFTER)
        along_path(ax, "C")
        ax.set(title=f"{len(values):,} pairs: median and quartiles", ylabel=ylabel)
        if path is not None:
            save_figure(ax.figure, path)
    return ax
