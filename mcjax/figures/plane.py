"""A plane through three networks as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .colours import colours_of
from .style import colour_bar, house_style, save_figure

_LEVELS = 16


def draw_plane(
    surface: Any,
    path: str | Path | None = None,
    metric: str | None = None,
    *,
    names: tuple[str, str, str] = ("A", "B", "C"),
    paths: Mapping[str, np.ndarray] | None = None,
    ax: Any = None,
) -> Any:
    """Filled contours of a metric, the three networks and paths on the plane.

    Bright is good: which values are, and what the colours are called, says the surface's task. Its
    loss is drawn on a logarithmic scale where it is positive.

    **Arguments:**
    - `surface`: `mcjax.evaluation.Surface` (or what has `x`, `y`, `values`, `corners`, `task`)
    - `path`: picture file, its ending says the format; default: none is written
    - `metric`: default: the accuracy if the task has one, else its loss
    - `names`: of the plane's networks
    - `paths`: label → (points, 2) coordinates
    - `ax`: axes to draw on; default: those of a new figure

    **Returns:** the axes.

    **Raises:** `ValueError` for an unknown metric, or one that is nowhere finite.
    """
    task = surface.task
    metric = task.headline if metric is None else metric
    if metric not in surface.values:
        raise ValueError(f"unknown metric {metric!r}; there are {', '.join(surface.values)}")
    values = task.scale(metric) * np.asarray(surface.values[metric], np.float64)
    values = np.ma.masked_invalid(values)
    if values.count() == 0:
        raise ValueError(f"{metric} is not finite at any point of the plane")
    with house_style(ax is None):
        panel = _panel(surface) if ax is None else ax
        logarithmic = metric == task.loss and bool(values.min() > 0)
        colours = "viridis" if task.direction(metric) == "low" else "viridis_r"
        scale = _scale(values, logarithmic)
        filled = panel.contourf(surface.x, surface.y, values, cmap=colours, **scale)
        bar = colour_bar(panel, filled, task.axis(metric), own=ax is None)
        if logarithmic:
            bar.ax.yaxis.set_major_formatter(lambda v, _: f"{v:.3g}")
            bar.ax.yaxis.set_minor_formatter(lambda v, _: "")
        panel.grid(visible=False)
        panel.set(xlabel="distance in parameter space", aspect="equal")
        _paths(panel, paths or {}, panel.figure if ax is None else panel)
        _networks(panel, surface.corners, names)
        if path is not None:
            save_figure(panel.figure, path)
    return panel


def _panel(surface: Any) -> Any:
    from matplotlib.figure import Figure

    wide, high = np.ptp(surface.x), np.ptp(surface.y)
    size = (6.4, float(np.clip(1.6 + 5 * high / wide, 3, 7)))
    return Figure(figsize=size, layout="constrained").subplots()


def _scale(values: Any, logarithmic: bool) -> dict[str, Any]:
    """Levels between the least and the greatest value, which may be the same."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        around = 0.01 * abs(low) or 0.01
        low, high = low - around, high + around
    if logarithmic:
        return {"levels": np.geomspace(low, high, _LEVELS + 1), "norm": LogNorm()}
    return {"levels": MaxNLocator(_LEVELS).tick_values(low, high)}


def _networks(panel: Any, corners: np.ndarray, names: tuple[str, str, str]) -> None:
    panel.plot(*corners.T, "o", color="white", mec="black", mew=1.2, ms=8, zorder=4)
    for name, corner in zip(names, corners, strict=True):
        panel.annotate(
            name, corner, (0, 10), textcoords="offset points", ha="center", color="black",
            zorder=5, bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8},
        )  # fmt: skip


def _paths(panel: Any, paths: Mapping[str, np.ndarray], place: Any) -> None:
    """Paths on the plane, white around their colours; names below the figure or in the axes."""
    if not paths:
        return
    handles = []
    for label, colour in colours_of(paths).items():
        points = np.asarray(paths[label]).T
        panel.plot(*points, color="white", lw=5, solid_capstyle="round", zorder=3)
        handles += panel.plot(*points, color=colour, lw=2.6, label=label, zorder=3)
    where: Any = {"loc": "outside lower center", "ncols": 3} if place is not panel else {}
    place.legend(handles=handles, frameon=place is panel, **where)
