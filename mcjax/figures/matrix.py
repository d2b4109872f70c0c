"""A value for every two networks as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .style import colour_bar, house_style, new_panels, save_figure

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
    names = _names(names, len(matrix))
    with house_style(ax is None):
        own = ax is None
        panel = new_panels(1, width=6.4, height=5.2)[0][0] if own else ax
        colour_bar(panel, _draw(panel, matrix, names), label, own=own)
        if path is not None:
            save_figure(panel.figure, path)
    return panel


def draw_matrices(
    matrices: Mapping[str, np.ndarray],
    label: str,
    path: str | Path | None = None,
    *,
    names: Sequence[str] | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Symmetric matrices beside each other, in one scale of colours.

    **Arguments:**
    - `matrices`: title → (N, N)
    - `label`, `path`, `names`: as of `draw_matrix`
    - `ax`: axes to draw on, one a matrix; default: those of a new figure

    **Returns:** the axes, one a matrix.

    **Raises:** `ValueError` for names or axes of another number, and no matrices.
    """
    if not matrices:
        raise ValueError("matrices: there are none")
    given = None if ax is None else np.ravel(np.asarray(ax, object))
    if given is not None and len(given) != len(matrices):
        raise ValueError(f"ax: {len(given)} axes for {len(matrices)} matrices")
    n = len(next(iter(matrices.values())))
    names, columns = _names(names, n), min(4, len(matrices))
    limits, digits = _scale(matrices, n)
    # Numbers of two digits fit into the cells, and the label beside the colours.
    side, label = max(2.7, 1.3 + 0.36 * min(n, _WRITTEN)), label.replace(", ", ",\n")
    with house_style(given is None):
        panels, figure = (
            new_panels(len(matrices), columns, width=side + 0.3, height=side + 0.3)
            if given is None
            else (given, given[0].figure)
        )
        for k, (panel, (title, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
            image = _draw(panel, matrix, names, limits, f".{digits}f", 7.5)
            panel.set_title(title, fontsize=9.5, loc="center")
            if k == len(matrices) - 1 or (given is None and k % columns == columns - 1):
                colour_bar(panel, image, label, own=given is None)
        if path is not None:
            save_figure(figure, path)
    return panels


def _scale(matrices: Mapping[str, np.ndarray], n: int) -> tuple[tuple[float, float], int]:
    """The least and greatest value of all, 0 among them, and how many digits tell them apart."""
    off = np.stack(list(matrices.values()))[:, ~np.eye(n, dtype=bool)]
    known = off[np.isfinite(off) & (off != 0)]
    low, high = (min(0.0, known.min()), max(0.0, known.max())) if known.size else (0.0, 1.0)
    return (low, high), max(0, 1 - int(np.floor(np.log10(max(abs(low), abs(high))))))


def _names(names: Sequence[str] | None, n: int) -> list[str]:
    names = [str(i) for i in range(n)] if names is None else list(names)
    if len(names) != n:
        raise ValueError(f"names: {len(names)} for {n} networks")
    return names


def _draw(
    panel: Any, matrix: np.ndarray, names: list[str],
    limits: tuple[float | None, float | None] = (None, None), form: str = ".2g",
    size: float | None = None,
) -> Any:  # fmt: skip
    """The image of a matrix on axes, with the numbers where they can be read."""
    n = len(matrix)
    shown = np.ma.masked_invalid(np.where(np.eye(n, dtype=bool), np.nan, matrix))
    image = panel.imshow(shown, cmap="viridis_r", vmin=limits[0], vmax=limits[1])
    few = np.unique(np.linspace(0, n - 1, min(n, 2 * _WRITTEN)).round().astype(int))
    panel.set_xticks(few, [names[k] for k in few])
    panel.set_yticks(few, [names[k] for k in few])
    panel.set(xlabel="network", ylabel="network")
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    for i, j in zip(*np.nonzero(~np.ma.getmaskarray(shown)), strict=True):
        if n <= _WRITTEN:
            dark = float(image.norm(float(shown[i, j]))) > 0.5  # type: ignore[arg-type]
            panel.text(
                j, i, format(float(shown[i, j]), form), ha="center", va="center", fontsize=size,
                color="white" if dark else "black",
            )  # fmt: skip
    return image
