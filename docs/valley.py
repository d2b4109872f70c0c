"""`python docs/valley.py`: the figure that opens README.md, on digits, in a minute.

Two networks 64-128-128-128-10 trained on scikit-learn's digits from different seeds; B aligned by
activations. The test loss on the plane through A, B and P·B, and the accuracy along both segments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import mcjax
from mcjax.align import match_activations
from mcjax.data import load
from mcjax.evaluation import Plane, evaluate_plane
from mcjax.figures import AFTER, BEFORE, along_path, house_style, line, save_figure
from mcjax.models import MLP
from mcjax.path import Linear
from mcjax.training import Protocol, train_networks

OUT = Path(__file__).parent / "valley.png"
_SIZE = 49  # points a side of the plane


def measure() -> dict[str, Any]:
    """The surface, both segments on it and along it, and where the networks are."""
    data = load("digits").flat()
    x, y, test = data.x_train, data.y_train, (data.x_test, data.y_test)
    model = MLP((128, 128, 128))
    a, b = train_networks(
        model.apply, lambda key: model.init(key, x[:1]), (x, y), (0, 1), Protocol(60, 32)
    )
    network = mcjax.trace(model.apply, a, x[:2])
    moved = match_activations(network, a, b, x).action(network)(b)
    plane = Plane.through(a, b, moved)
    surface = evaluate_plane(plane, network, test, _SIZE)
    t = np.linspace(0, 1, 61)
    found: dict[str, Any] = {
        "x": surface.x, "y": surface.y, "loss": surface.values["loss"],
        "corners": surface.corners, "t": t,
    }  # fmt: skip
    for name, path in (("B", Linear(a, b)), ("P·B", Linear(a, moved))):
        curve = mcjax.evaluate(path, network, test, t)
        found[name] = {
            "at": plane.coordinates_along(path, len(t)), "loss": curve.loss,
            "accuracy": 100 * curve.accuracy,
        }  # fmt: skip
    return found


def draw(found: dict[str, Any], file: Path) -> None:
    """The surface with both ways across it; the accuracy along them."""
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(12.0, 4.7))
        land = figure.add_axes((-0.035, -0.06, 0.66, 1.12), projection="3d", computed_zorder=False)
        _surface(land, found)
        panel = figure.add_axes((0.655, 0.14, 0.3, 0.7))
        _accuracies(panel, found)
        save_figure(figure, file)


def _surface(land: Any, found: dict[str, Any]) -> None:
    """The loss as heights, cut where it is above what matters; the ways on it."""
    from matplotlib.colors import LightSource, LinearSegmentedColormap
    from scipy.interpolate import RectBivariateSpline

    top = 1.15 * float(max(found["B"]["loss"].max(), found["P·B"]["loss"].max()))
    height = RectBivariateSpline(found["y"], found["x"], np.log(found["loss"]))
    x = np.linspace(found["x"][0], found["x"][-1], 200)
    y = np.linspace(found["y"][0], 1.2 * found["corners"][2, 1], 200)
    z = np.minimum(np.exp(height(y, x)), top)
    colours = LinearSegmentedColormap.from_list(
        "valley", ["#F3F7F1", "#CFE3D8", "#8FBDB9", "#5583A0", "#3B4F7D", "#2D2350"]
    )
    # What is level keeps its colour, slopes are lighter or darker.
    light = LightSource(azdeg=215, altdeg=45)
    lit = light.hillshade(z, 0.35 * np.ptp(x) / top, dx=x[1] - x[0], dy=y[1] - y[0])
    lit = np.clip(1 + 0.5 * (lit - lit[z < 0.15 * top].mean()), 0.65, 1.2)
    shaded = np.clip(colours(z / top)[..., :3] * lit[..., None], 0, 1)
    grid = np.meshgrid(x, -y)  # a plane has no upper side: P·B towards who looks at it
    land.plot_surface(*grid, z, facecolors=shaded, rstride=1, cstride=1, lw=0, antialiased=False,
                      shade=False, zorder=1)  # fmt: skip
    land.contour(*grid, z, np.linspace(0.05, 0.95, 10) * top, colors="white", linewidths=0.5,
                 alpha=0.55, zorder=2)  # fmt: skip
    up = 0.012 * top
    for name, colour in (("B", BEFORE), ("P·B", AFTER)):
        right, far = np.asarray(found[name]["at"]).T
        on = np.minimum(np.exp(height(far, right, grid=False)), top) + up
        land.plot(right, -far, on, color="white", lw=6, zorder=3, solid_capstyle="round")
        land.plot(right, -far, on, color=colour, lw=3.4, zorder=4, solid_capstyle="round")
    for name, corner in zip(("A", "B", "P·B"), found["corners"], strict=True):
        low = float(np.exp(height(corner[1], corner[0])[0, 0])) + up
        land.scatter(corner[0], -corner[1], low, s=70, color="white", edgecolor="black", lw=1.4,
                     zorder=5, depthshade=False)  # fmt: skip
        land.text(corner[0], -corner[1], low + (0.09 if name != "P·B" else -0.14) * top, name,
                  fontsize=15, weight="bold", ha="center", color="#111111", zorder=6)  # fmt: skip
    land.set(zlim=(0, top), xlim=x[[0, -1]], ylim=-y[[-1, 0]])
    land.set_box_aspect((np.ptp(x), np.ptp(y), 0.46 * np.ptp(x)), zoom=1.07)
    land.view_init(40, -75)
    land.set_axis_off()
    land.text2D(0.13, 0.875, "Test loss on the plane through A, B and P·B", fontsize=12,
                transform=land.transAxes)  # fmt: skip


def _accuracies(panel: Any, found: dict[str, Any]) -> None:
    t = found["t"]
    for name, colour, words in (("P·B", AFTER, "A to P·B"), ("B", BEFORE, "A to B")):
        accuracy = found[name]["accuracy"]
        line(panel, t, accuracy, colour, lw=3)
        middle = 0.52
        panel.annotate(
            f"{words}\n{accuracy.min():.1f} % at worst", (middle, np.interp(middle, t, accuracy)),
            (0, -9), textcoords="offset points", ha="center", va="top", color=colour, fontsize=10.5,
            weight="bold",
        )  # fmt: skip
    along_path(panel, "B or P·B")
    low = min(found[n]["accuracy"].min() for n in ("B", "P·B"))
    panel.set(ylim=(low - 0.18 * (100 - low), 100.5), title="Test accuracy along both (%)")
    panel.set_title("Test accuracy along both (%)", fontsize=12, pad=14)


if __name__ == "__main__":
    draw(measure(), OUT)
