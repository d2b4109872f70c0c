"""Images in records, as bytes; these drawn, and the losses along paths between them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mcjax.figures import along_path, colour_bar, line

from ..figures import GREY

# Losses below are drawn here, on logarithmic axes.
LEAST = 1e-6


def as_record(image: np.ndarray) -> dict[str, Any]:
    """An image for JSON: its range, at least [0, 1], in 255 steps; `as_image` reads it."""
    return _packed(image, min(0.0, float(image.min())), max(1.0, float(image.max())))


def signed_record(values: np.ndarray) -> dict[str, Any]:
    """The same of what may be negative, mean over channels: 0 in the middle of its range."""
    mean = values.mean(-1, keepdims=True)
    most = float(np.abs(mean).max()) or 1.0
    return _packed(mean, -most, most) | {"channels": values.shape[-1]}


def as_image(record: Mapping[str, Any]) -> np.ndarray:
    """(height, width, channels): what `as_record` and `signed_record` were given, or its mean."""
    steps = np.frombuffer(base64.b64decode(record["uint8"]), np.uint8).reshape(record["shape"])
    low, high = record["range"]
    return low + (high - low) * steps / 255


def _packed(values: np.ndarray, low: float, high: float) -> dict[str, Any]:
    steps = np.rint(255 * (values - low) / (high - low)).astype(np.uint8)
    return {
        "shape": list(values.shape), "range": [low, high],
        "uint8": base64.b64encode(steps.tobytes()).decode(),
    }  # fmt: skip


def show(axes: Any, image: np.ndarray, title: str = "", colour: str = "#333333") -> None:
    """An image in [0, 1], of one or of three channels; what is outside is cut off."""
    image = np.clip(image, 0, 1)
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
    _bare(axes, title, colour)


def show_signed(axes: Any, record: Mapping[str, Any], title: str, *, labelled: bool = True) -> None:
    """What `signed_record` made, 0 white, with its colour bar; `labelled`: what the bar is of."""
    low, high = record["range"]
    made = axes.imshow(as_image(record)[..., 0], cmap="RdBu_r", vmin=low, vmax=high)
    several = labelled and record["channels"] > 1
    colour_bar(axes, made, "mean over channels" if several else "")
    _bare(axes, title)


def _bare(axes: Any, title: str, colour: str = "#333333") -> None:
    axes.set_title(title, fontsize=9.5, loc="center", color=colour, pad=5)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def draw_losses(
    axes: Any, paths: Mapping[str, Mapping[str, Any]], colours: Iterable[str], delta: float,
    end: str = "C", *, logarithmic: bool = True,
) -> dict[str, tuple[float, str]]:  # fmt: skip
    """Losses along paths, and δ dotted; none twice, where a round had nothing to do.

    - `paths`: name → `"t"` and `"loss"`
    - `end`: where the paths end

    **Returns:** for `beside`.
    """
    names, drawn = {}, []
    for (what, path), colour in zip(paths.items(), colours, strict=False):
        if path["loss"] in drawn:
            continue
        drawn.append(path["loss"])
        loss = np.maximum(path["loss"], LEAST)
        line(axes, path["t"], loss, colour, label=what)
        names[what] = (float(loss[len(loss) // 2]), colour)
    axes.set(ylabel="cross-entropy")
    if logarithmic:
        axes.axhline(delta, color=GREY, ls=":", lw=1.2)
        axes.annotate("δ", (0.01, delta), (0, 2), textcoords="offset points", color=GREY)
        axes.set_yscale("log")
    along_path(axes, end)
    return names
