"""A plane through three networks as a figure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from .._files import write_atomically

_LINES = ("-", "--", "-.", ":")


def draw_plane(
    surface: Any,
    path: str | Path,
    metric: str = "accuracy",
    *,
    names: tuple[str, str, str] = ("A", "B", "C"),
    paths: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Filled contours of a metric, the three networks and paths on the plane.

    **Arguments:**
    - `metric`: drawn in percent if it is `"accuracy"`, on a logarithmic scale if it is `"loss"`
    - `names`: of the plane's networks
    - `paths`: label → (points, 2) coordinates
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    if metric not in surface.values:
        raise ValueError(f"unknown metric {metric!r}; there are {', '.join(surface.values)}")
    values = np.asarray(surface.values[metric])
    more: dict[str, Any] = {"levels": 16, "cmap": "viridis"}
    if metric == "accuracy":
        values = 100 * values
    elif metric == "loss" and (values > 0).all():
        more = {"levels": np.geomspace(values.min(), values.max(), 17), "cmap": "viridis_r",
                "norm": LogNorm()}  # fmt: skip
    with matplotlib.rc_context({"font.size": 10}):
        wide, high = np.ptp(surface.x), np.ptp(surface.y)
        size = (6.4, float(np.clip(1.6 + 5 * high / wide, 3, 7)))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.subplots()
        filled = panel.contourf(surface.x, surface.y, values, **more)
        bar = figure.colorbar(filled, label="accuracy (%)" if metric == "accuracy" else metric)
        if metric == "loss":
            bar.ax.yaxis.set_major_formatter(lambda v, _: f"{v:.3g}")
            bar.ax.yaxis.set_minor_formatter(lambda v, _: "")
        for (label, points), style in zip((paths or {}).items(), _LINES * 4, strict=False):
            panel.plot(*np.asarray(points).T, style, color="white", lw=2.2, label=label)
        panel.plot(*surface.corners.T, "o", color="white", mec="black", ms=8)
        for name, corner in zip(names, surface.corners, strict=True):
            panel.annotate(
                name, corner, (0, 9), textcoords="offset points", ha="center", color="black",
                bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.75},
            )  # fmt: skip
        panel.set(xlabel="distance in parameter space", aspect="equal")
        if paths:
            legend = figure.legend(
                loc="outside lower center",
                ncols=3,
                frameon=True,
                facecolor="0.35",
                edgecolor="0.35",
            )
            for text in legend.get_texts():
                text.set_color("white")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=150)
    write_atomically(path, buffer.getvalue())
