"""Losses between inputs before and after a bypass, and images along one path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .curves import COLOURS, house_style, save_figure

# Losses below are drawn here, on a logarithmic axis.
_LEAST = 1e-5
# Before and after: orange and blue.
_BEFORE, _AFTER = COLOURS[1], COLOURS[0]


def draw_joined(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], delta: float,
    label: str, shown: Mapping[str, Any], path: str | Path | None = None, *, shape: Any = None,
) -> Any:  # fmt: skip
    """A panel a kind of pairs, then the images of one path, where inputs are images.

    **Arguments:**
    - `curves`: kind → (t, losses of shape (pairs, T)) on the straight lines and on the chains
    - `delta`: δ; `label`: of the losses
    - `shown`: as `mcjax.study_inputs.JoinedInputs` has it
    - `path`: picture file; `shape`: of an image, where it is not that of the inputs

    **Returns:** the figure.
    """
    from matplotlib.figure import Figure

    made = ((name, as_images(shown[name]["x"], shape)) for name in ("straight", "chain"))
    rows = [(name, images) for name, images in made if images is not None]
    count = len(shown["t"])
    with house_style(True):
        figure = Figure(figsize=(12, 6.6 if rows else 3.8), layout="constrained")
        heights = (2.2, *(1.0 for _ in rows))
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        panels = grid[0].subgridspec(1, len(curves))
        first = None
        for k, (kind, of) in enumerate(curves.items()):
            first = axes = figure.add_subplot(panels[k], sharey=first)
            _draw(axes, kind, of, delta)
            if not k:
                axes.set(ylabel=label)
                axes.legend(frameon=False, fontsize=9)
        for r, (name, images) in enumerate(rows):
            line = grid[r + 1].subgridspec(1, count)
            for k in range(count):
                _image(figure.add_subplot(line[k]), images[k], shown, name, k)
        if path is not None:
            save_figure(figure, path)
    return figure


def _draw(axes: Any, kind: str, of: tuple[np.ndarray, ...], delta: float) -> None:
    for (t, losses), colour, word in (
        (of[:2], _BEFORE, "straight"), (of[2:], _AFTER, "around the barrier")
    ):  # fmt: skip
        low, middle, high = np.maximum(np.nanquantile(losses, (0.1, 0.5, 0.9), axis=0), _LEAST)
        axes.fill_between(t, low, high, color=colour, alpha=0.2, lw=0)
        axes.semilogy(t, middle, color=colour, label=f"{word}: median, 10 to 90 %")
    axes.axhline(delta, color="0.4", ls="--", lw=0.9)
    axes.set(title=f"{kind}, {len(of[1])} pairs", xlabel="t", xlim=(0, 1))


def _image(axes: Any, image: np.ndarray, shown: Mapping[str, Any], name: str, k: int) -> None:
    low, high = shown["range"]
    grey = image.ndim == 2
    axes.imshow(image if grey else np.clip((image - low) / (high - low), 0, 1), vmin=low, vmax=high,
                cmap="gray", interpolation="nearest")  # fmt: skip
    found = shown[name]
    right = found["class"][k] == shown["label"]
    axes.set_title(f"{found['class'][k]}, loss {found['loss'][k]:.2g}", fontsize=8,
                   color="black" if right else COLOURS[4])  # fmt: skip
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
