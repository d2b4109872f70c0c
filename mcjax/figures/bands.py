"""Many curves over one t as a figure: median, quartiles, and each where there are few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .curves import COLOURS, house_style, new_panels, save_figure

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
    """
    with house_style(ax is None):
        if ax is None:
            ax = new_panels(1, 1)[0][0]
        low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75), axis=0)
        if len(values) <= _FEW:
            ax.plot(t, values.T, color="0.6", lw=0.7)
        ax.fill_between(t, low, high, color=COLOURS[0], alpha=0.2, lw=0, label="quartiles")
        ax.plot(t, middle, color=COLOURS[0], label=f"median of {len(values):,}")
        ax.set(xlabel="t   (input A at 0, input C at 1)", ylabel=ylabel, xlim=(0, 1))
        ax.legend(frameon=False)
        if path is not None:
            save_figure(ax.figure, path)
    return ax
