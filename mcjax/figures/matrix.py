"""A value for every two networks as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .curves import save_figure

# Networks beyond which numbers in the cells could not be read.
_WRITTEN = 12


def draw_matrix(
    matrix: np.ndarray,
    label: str,
    path: str | Path | None = None,
    *,
    names: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """A symmetric matrix as colours, bright for low values; up to 12 networks with the numbers.

    **Arguments:**
    - `matrix`: (N, N); the diagonal is not drawn
    - `label`: what the values are
    - `path`: picture file, its ending says the format; default: none is written
    - `names`: of the networks; default: 0, 1, …
    - `ax`: axes to draw on; default: those of a new figure

    **Returns:** the axes.

    **Raises:** `ValueError` for names of another number.
    """
    import matplotlib
    from matplotlib.figure import Figure

    n = len(matrix)
    names = [str(i) for i in range(n)] if names is None else list(names)
    if len(names) != n:
        raise ValueError(f"names: {len(names)} for {n} networks")
    shown = np.ma.masked_invalid(np.where(np.eye(n, dtype=bool), np.nan, matrix))
    with matplotlib.rc_context({"font.size": 10} if ax is None else {}):
        panel = Figure(figsize=(6.4, 5.2), layout="constrained").subplots() if ax is None else ax
        image = panel.imshow(shown, cmap="viridis_r")
        panel.figure.colorbar(image, ax=panel, label=label)
        few = np.unique(np.linspace(0, n - 1, min(n, 2 * _WRITTEN)).round().astype(int))
        panel.set_xticks(few, [names[k] for k in few])
        panel.set_yticks(few, [names[k] for k in few])
        panel.set(xlabel="network", ylabel="network")
        for i, j in zip(*np.nonzero(~np.ma.getmaskarray(shown)), strict=True):
            if n <= _WRITTEN:
                dark = float(image.norm(float(shown[i, j]))) > 0.5  # type: ignore[arg-type]
                colour = "white" if dark else "black"
                panel.text(j, i, f"{shown[i, j]:.2g}", ha="center", va="center", color=colour)
        if path is not None:
            save_figure(panel.figure, path)
    return panel
