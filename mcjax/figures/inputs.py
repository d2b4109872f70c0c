"""Losses between inputs before and after a bypass, and images along one path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .style import AFTER, BEFORE, GREY, along_path, band, house_style, line, save_figure

# Losses below are drawn here, on a logarithmic axis.
_LEAST = 1e-5


def draw_joined(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], delta: float,
    label: str, shown: Mapping[str, Any], path: str | Path | None = None, *, shape: Any = None,
    ax: Any = None,
) -> np.ndarray:  # fmt: skip
    """A panel a kind of pairs, then the images of one path, where inputs are images.

    **Arguments:**
    - `curves`: kind → (t, losses of shape (pairs, T)) on the straight lines and on the chains
    - `delta`: δ; `label`: of the losses
    - `shown`: as `mcjax.study_inputs.JoinedInputs` has it
    - `path`: picture file; `shape`: of an image, where it is not that of the inputs
    - `ax`: axes to draw the losses on, one for each kind, and no images; default: those of a new
      figure

    **Returns:** the axes of the losses, one for each kind.

    **Raises:** `ValueError` for axes of another number.
    """
    given = None if ax is None else np.ravel(np.asarray(ax, object))
    if given is not None and len(given) != len(curves):
        raise ValueError(f"ax: {len(given)} axes for {len(curves)} kinds ({', '.join(curves)})")
    with house_style(given is None):
        panels = _figure(len(curves), shown, shape) if given is None else given
        for k, (panel, (kind, of)) in enumerate(zip(panels, curves.items(), strict=True)):
            _draw(panel, kind, of, delta)
            if not k:
                panel.set_ylabel(label)
        _names(panels[-1], own=given is None)
        if path is not None:
            save_figure(panels[0].figure, path)
    return panels


def _figure(count: int, shown: Mapping[str, Any], shape: Any) -> np.ndarray:
    """A new figure's panels of losses; below them images along one path, if inputs are images."""
    from matplotlib.figure import Figure

    made = ((name, as_images(shown[name]["x"], shape)) for name in ("straight", "chain"))
    rows = [(name, images) for name, images in made if images is not None]
    figure = Figure(figsize=(12, 6.8 if rows else 3.8), layout="constrained")
    heights = (2.2, *(1.0 for _ in rows))
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    places = grid[0].subgridspec(1, count)
    panels: list[Any] = []
    for k in range(count):
        panels.append(figure.add_subplot(places[k], sharey=panels[0] if panels else None))
    for r, (name, images) in enumerate(rows):
        line = grid[r + 1].subgridspec(1, len(images))
        for k, image in enumerate(images):
            _image(figure.add_subplot(line[k]), image, shown, name, k)
    return np.array(panels, object)


def _draw(axes: Any, kind: str, of: tuple[np.ndarray, ...], delta: float) -> None:
    for (t, losses), colour in ((of[:2], BEFORE), (of[2:], AFTER)):
        low, middle, high = np.maximum(np.nanquantile(losses, (0.1, 0.5, 0.9), axis=0), _LEAST)
        band(axes, t, low, high, colour)
        line(axes, t, middle, colour)
    axes.axhline(delta, color=GREY, ls=":", lw=1.2)
    axes.annotate("δ", (0.985, delta), (0, 2), textcoords="offset points", ha="right", color=GREY)
    along_path(axes, "C")
    axes.set(title=f"{kind[:1].upper()}{kind[1:]}, {len(of[1])} pairs", yscale="log")


def _names(panel: Any, *, own: bool) -> None:
    """What the two colours are, right of the last panel where there is room."""
    from matplotlib.lines import Line2D

    both = (("straight", BEFORE), ("around", AFTER))
    handles = [Line2D([], [], color=colour, lw=2.2, label=word) for word, colour in both]
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if own else {}
    title = "median,\n10 to 90 %" if own else "median, 10 to 90 %"
    legend = panel.legend(handles=handles, title=title, frameon=False, **place)
    legend.get_title().set_fontsize(8.5)
    for text, (_, colour) in zip(legend.get_texts(), both, strict=True):
        text.set_color(colour)


def _image(axes: Any, image: np.ndarray, shown: Mapping[str, Any], name: str, k: int) -> None:
    low, high = shown["range"]
    grey = image.ndim == 2
    axes.imshow(image if grey else np.clip((image - low) / (high - low), 0, 1), vmin=low, vmax=high,
                cmap="gray", interpolation="nearest")  # fmt: skip
    found = shown[name]
    right = found["class"][k] == shown["label"]
    axes.set_title(f"{found['class'][k]}, loss {found['loss'][k]:.2g}", fontsize=8, loc="center",
                   color="#333333" if right else BEFORE)  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not k:
        axes.set_ylabel("straight" if name == "straight" else "around")
    if name == "chain":
        axes.set_xlabel(f"t = {shown['t'][k]:.2f}", fontsize=8)


def as_images(x: np.ndarray, shape: Any = None) -> np.ndarray | None:
    """(n, height, width) or (n, height, width, 3), where inputs are images; else None."""
    shape = tuple(shape) if shape is not None else _shape_of(x.shape[1:])
    if shape is None:
        return None
    images = x.reshape(len(x), *shape)
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images


def _shape_of(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if len(shape) == 3 and shape[-1] in (1, 3):
        return shape
    if len(shape) == 2 and min(shape) > 3:
        return shape
    if len(shape) == 1 and shape[0] > 15:
        for channels in (1, 3):
            side = round((shape[0] / channels) ** 0.5)
            if side * side * channels == shape[0]:
                return (side, side, channels)
    return None


__all__ = ["as_images", "draw_joined"]
