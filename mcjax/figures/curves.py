"""Metrics along paths as a figure: a panel a metric, a colour a method, a dash a split.

Where there are many methods, each split has a row of panels of its own.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._files import write_atomically

# Okabe and Ito's colours, then Tol's muted ones: told apart by colour-blind readers too.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000",
    "#882255", "#999933", "#332288", "#44AA99", "#DDCC77", "#AA4499", "#777777",
)  # fmt: skip
_STYLES = {"data": "-", "train": "-", "test": "--", "clean": "-", "robust": "--"}
# Panels side by side, at most in one row.
_COLUMNS = 3
# Methods beyond which the lines of two splits in one panel cannot be told apart.
_CROWDED = 6


def draw_curves(
    curves: Mapping[str, Mapping[str, Any]],
    path: str | Path | None = None,
    *,
    metrics: Sequence[str] | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Every metric along each path, axes named and scaled as the curves' task says.

    **Arguments:**
    - `curves`: method label → split → `mcjax.evaluation.Curve` (or what has `t`, `values`, `task`)
    - `path`: picture file, its ending says the format; default: none is written
    - `metrics`: one panel each; default: all that a curve has
    - `ax`: axes to draw on, one for each metric; default: those of a new figure, in which more
      than six methods get a row of panels for each split

    **Returns:** the axes, an array with one for each metric; those of the first split first.

    **Raises:** `ValueError` if there is nothing to draw, no curve has a metric, or the number of
    axes is another.
    """
    every = [c for splits in curves.values() for c in splits.values()]
    names = _metrics(every, metrics)
    given = None if ax is None else np.ravel(np.asarray(ax, object))
    if given is not None and len(given) != len(names):
        raise ValueError(
            f"ax: {len(given)} axes for {len(names)} metrics ({', '.join(names)}); say which "
            "metrics to draw"
        )
    kinds = list(dict.fromkeys(s for splits in curves.values() for s in splits))
    apart = given is None and len(kinds) > 1 and len(curves) > _CROWDED
    rows = [(kind,) for kind in kinds] if apart else [tuple(kinds)]
    columns = len(names) if apart else _columns(len(names))
    with house_style(given is None):
        panels, figure = (
            (given, given[0].figure)
            if given is not None
            else new_panels(len(names) * len(rows), columns)
        )
        styles = {s: _STYLES.get(s, "-") if len(rows[0]) > 1 else "-" for s in kinds}
        places = [(splits, name) for splits in rows for name in names]
        for panel, (splits, name) in zip(panels, places, strict=True):
            _draw(panel, name, curves, {s: styles[s] for s in splits})
            _label(panel, name, every, splits[0] if apart else "")
        handles = _handles(list(curves), rows[0], styles)
        if len(handles) > 1 and given is not None:
            panels[0].legend(handles=handles, frameon=False)
        elif len(handles) > 1:
            _legend_below(figure, handles, columns)
        if path is not None:
            save_figure(figure, path)
    return panels


def _legend_below(figure: Any, handles: Sequence[Any], columns: int) -> None:
    # About 60 letters fit below a panel, with 8 for each line and the space around it.
    longest = max(len(str(h.get_label())) for h in handles)
    count = max(min(7, 60 * columns // (8 + longest)), 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=count, frameon=False)


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure, whole or not at all; the file's ending says the format."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=150)
    write_atomically(path, buffer.getvalue())


def _metrics(every: Sequence[Any], asked: Sequence[str] | None) -> list[str]:
    there = list(dict.fromkeys(name for c in every for name in c.values))
    names = there if asked is None else list(asked)
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ValueError(f"unknown metric {unknown[0]!r}; there are {', '.join(there)}")
    if not names:
        raise ValueError("there are no curves to draw")
    return names


def house_style(own: bool) -> Any:
    import matplotlib

    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                  "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True}  # fmt: skip
    return matplotlib.rc_context(style if own else {})


def _columns(n: int) -> int:
    return n if n <= _COLUMNS else min(_COLUMNS, -(-n // 2))


def new_panels(n: int, columns: int) -> tuple[np.ndarray, Any]:
    from matplotlib.figure import Figure

    rows = -(-n // columns)
    figure = Figure(figsize=(5 * columns if n > 1 else 6.4, 0.4 + 3.8 * rows), layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for panel in panels[n:]:
        panel.remove()
    return panels[:n], figure


def _draw(panel: Any, name: str, curves: Mapping[str, Any], styles: Mapping[str, str]) -> None:
    for k, (label, splits) in enumerate(curves.items()):
        width = 2.6 - 1.3 * k / max(len(curves) - 1, 1)  # a curve under another shows beside it
        for split, curve in splits.items():
            if split in styles and name in curve.values:
                values = curve.task.scale(name) * np.asarray(curve.values[name], np.float64)
                marker = "o" if len(values) == 1 else None
                panel.plot(curve.t, values, lw=width, color=_colour(k), ls=styles[split],
                           marker=marker, label=f"{label}, {split}")  # fmt: skip


def _label(panel: Any, name: str, every: Sequence[Any], split: str) -> None:
    axes = dict.fromkeys(c.task.axis(name) for c in every if name in c.values)
    title = name.replace("_", " ")
    panel.set(
        title=f"{title[:1].upper()}{title[1:]} along the path" + (split and f", {split}"),
        ylabel=" / ".join(axes),
        xlabel="t   (network A at 0, network B at 1)",
        xlim=(0, 1),
    )


def _handles(labels: Sequence[str], kinds: Sequence[str], styles: Mapping[str, str]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=_colour(k), lw=1.8, label=v) for k, v in enumerate(labels)]
    if len(kinds) > 1:
        handles += [Line2D([], [], color="0.4", ls=styles[s], label=s) for s in kinds]
    return handles


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]
