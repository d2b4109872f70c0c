"""What all figures share: fonts, grids, panels, labels beside lines, the ends of t, files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._files import write_atomically
from .colours import shade

# Two things in every figure that has them: what was there, and what has become of it.
BEFORE, AFTER = "#D55E00", "#0072B2"
# What is larger has no place: matplotlib's ticks and margins overflow.
LARGEST = 1e300
# Reference lines, and what stands behind.
GREY, FAINT = "#6B6B6B", "#D9D9D9"
_RULES: Any = {
    "font.size": 10, "legend.frameon": False, "legend.fontsize": 9, "legend.handlelength": 1.4,
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.titlepad": 8,
    "axes.labelsize": 9.5, "axes.labelcolor": "#333333", "axes.edgecolor": "#999999",
    "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "axes.formatter.useoffset": False,
    "grid.color": "#E8E8E8", "grid.linewidth": 0.8,
    "xtick.color": "#777777", "xtick.labelcolor": "#333333", "xtick.labelsize": 9,
    "ytick.color": "#777777", "ytick.labelcolor": "#333333", "ytick.labelsize": 9,
    "lines.linewidth": 2.0, "lines.solid_capstyle": "round", "image.interpolation": "nearest",
    "figure.facecolor": "white", "savefig.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.08, "figure.constrained_layout.h_pad": 0.08,
}  # fmt: skip


def house_style(own: bool = True) -> Any:
    """A context in which figures have the house's style; with `own=False` it changes nothing."""
    import matplotlib

    return matplotlib.rc_context(_RULES if own else {})


def new_panels(
    count: int, columns: int | None = None, *, width: float = 4.6, height: float = 3.4,
    sharey: Literal["row"] | bool = False,
) -> tuple[np.ndarray, Any]:  # fmt: skip
    """Panels of a new figure, row by row; to be called inside `house_style()`.

    **Arguments:**
    - `columns`: panels in a row; default: 3 at most, rows equally long
    - `width`, `height`: inches of a panel
    - `sharey`: as for matplotlib's `subplots`

    **Returns:** the axes, (count,), and the figure.
    """
    from matplotlib.figure import Figure

    columns = (count if count <= 3 else min(3, -(-count // 2))) if columns is None else columns
    rows = -(-count // columns)
    size = (max(width * columns, 6.0), height * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False, sharey=sharey))
    for panel in panels[count:]:
        panel.remove()
    return panels[:count], figure


def one_panel(ax: Any) -> Any:
    """The axes to draw on.

    **Raises:** `ValueError` for what is not one of matplotlib's axes.
    """
    if not hasattr(ax, "axvline"):
        many = f" of {np.size(ax)}" if isinstance(ax, np.ndarray) else ""
        raise ValueError(f"ax must be one of matplotlib's axes, got a {type(ax).__name__}{many}")
    return ax


def along_path(panel: Any, end: str | None = "B", start: str = "A") -> None:
    """The horizontal axis of a path: t from 0 to 1, the networks' names at its ends.

    - `end`: where the path ends: `"B"`, or `"P·B"`, which is B with its units permuted; None: it
      is not known, and the ends are 0 and 1
    """
    first, last = ("0", "1") if end is None else (start, end)
    panel.set(xlim=(0, 1), xlabel="t")
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], [first, "¼", "½", "¾", last])


def line(panel: Any, x: Any, y: Any, colour: str, *, dim: bool = False, **options: Any) -> Any:
    """A line; `dim`: pale and thin, of what stands beside what is shown (training data, say)."""
    if dim:
        options = {"lw": 1.2, "zorder": 1.8} | options
        colour = shade(colour, 0.55)
    return panel.plot(x, y, color=colour, **options)[0]


def band(panel: Any, x: Any, low: Any, high: Any, colour: str) -> Any:
    """The range of several curves behind their mean."""
    return panel.fill_between(x, low, high, color=colour, alpha=0.16, lw=0, zorder=1.5)


def beside(panel: Any, names: Mapping[str, tuple[float, str]]) -> None:
    """Names of lines right of a panel, in the order of their heights, where ends coincide.

    - `names`: text → (height, colour)
    """
    from matplotlib.lines import Line2D

    order = sorted(names, key=lambda name: names[name][0], reverse=True)
    handles = [Line2D([], [], color=names[name][1], label=drawable(name)) for name in order]
    legend = panel.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))
    for text, name in zip(legend.get_texts(), order, strict=True):
        text.set_color(readable(names[name][1]))


def end_labels(
    panel: Any, labels: Mapping[str, tuple[float, str]], *, size: float = 9, x: float | None = None
) -> None:
    """Names of lines right of the axes, each at its line's end, moved apart where they would meet.

    Draw everything else first: the places depend on the layout.

    **Arguments:**
    - `labels`: text → (y of the line's end, colour)
    - `size`: of the letters, in points
    - `x`: where lines end, in data coordinates; default: at the right border
    """
    if not labels:
        return
    figure = panel.get_figure(root=True)
    figure.draw_without_rendering()
    to_pixels, box = panel.transData, panel.get_window_extent()
    inside = panel.get_ylim()
    wanted = [float(np.clip(y, *sorted(inside))) for y, _ in labels.values()]
    heights = [float(to_pixels.transform((panel.get_xlim()[0], y))[1] - box.y0) for y in wanted]
    # Constrained layouts may make panels lower for what labels need; a little air allows for it.
    gap = 1.22 * size / 72 * figure.dpi / box.height
    places = spread_out([h / box.height for h in heights], gap)
    for (text, (_, colour)), height, place in zip(labels.items(), heights, places, strict=True):
        moved = abs(place - height / box.height) > 0.35 * gap
        start = 1.0 if x is None else _fraction(panel, x)
        panel.annotate(
            text, (start, height / box.height), (1.035, place), xycoords="axes fraction",
            textcoords="axes fraction", va="center", ha="left", color=readable(colour),
            fontsize=size, annotation_clip=False, arrowprops={
                "arrowstyle": "-", "color": colour, "lw": 0.8 if moved else 0, "alpha": 0.7,
                "shrinkA": 1, "shrinkB": 1, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread_out(wanted: Sequence[float], gap: float) -> list[float]:
    """Places at least `gap` apart, as near as can be (squares) to those wanted, in their order.

    >>> from mcjax.figures.style import spread_out
    >>> [round(v, 6) for v in spread_out([0.5, 0.1, 0.5], 0.1)]
    [0.45, 0.1, 0.55]
    """
    order = np.argsort(np.asarray(wanted, float), kind="stable")
    blocks: list[list[float]] = []  # [sum of what is wanted of the first place, how many]
    for rank, k in enumerate(order):
        blocks.append([wanted[k] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    firsts = [total / count for total, count in blocks for _ in range(int(count))]
    out = [0.0] * len(order)
    for rank, (k, first) in enumerate(zip(order, firsts, strict=True)):
        out[int(k)] = float(first + rank * gap)
    return out


def drawable(name: str) -> str:
    """A name that can be drawn: where it is no formula that matplotlib reads, its $ are letters.

    >>> drawable("$t^2$")
    '$t^2$'
    """
    from matplotlib.mathtext import MathTextParser

    try:
        for line in name.splitlines():  # as matplotlib does: a line break has no glyph
            MathTextParser("path").parse(line)
    except ValueError:
        return name.replace("$", r"\$")
    return name


def readable(colour: str) -> str:
    """A colour dark enough to be read as text on white."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    bright = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return shade(colour, -0.3) if bright > 0.3 else colour


def colour_bar(panel: Any, mappable: Any, label: str, *, own: bool = True, **options: Any) -> Any:
    """A colour bar as high as the panel.

    - `own`: whether the panel is of a figure of ours; one that nothing lays out gives up space
    """
    own = own or panel.get_figure(root=True).get_constrained_layout()
    place = {"cax": panel.inset_axes((1.03, 0, 0.035, 1))} if own else {"ax": panel}
    bar = panel.figure.colorbar(mappable, label=label, **place, **options)
    bar.outline.set_visible(False)
    return bar


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure, whole or not at all; the file's ending says the format."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=150)
    write_atomically(path, buffer.getvalue())


def _fraction(panel: Any, x: float) -> float:
    low, high = (panel.transData.transform((v, 0))[0] for v in panel.get_xlim())
    return float((panel.transData.transform((x, 0))[0] - low) / (high - low))


__all__ = [
    "AFTER", "BEFORE", "FAINT", "GREY", "LARGEST", "along_path", "band", "beside", "colour_bar",
    "drawable", "end_labels", "house_style", "line", "new_panels", "one_panel", "readable",
    "save_figure", "spread_out",
]  # fmt: skip
