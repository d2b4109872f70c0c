"""`python -m experiments.tatro2020.figure3`: planes, training loss and the curves (Fig. 3, 5, 7).

Three planes: through both end points and the aligned second one, and through each learned curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax import figures
from mcjax.evaluation import Curve, Plane, Surface, evaluate_plane

from .study import Options, Study

KINDS = ("unaligned", "aligned")
# Points a side, and test images, of the planes.
_SIZE, _IMAGES = 17, 2000


def surface(study: Study, plane: Plane, size: int) -> Surface:
    some = tuple(v[:_IMAGES] for v in study.test_data)
    return evaluate_plane(plane, study.apply, some, size, statistics=study.sample[:_IMAGES])


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Training and test data along the curves; below it the three planes, loss and accuracy."""
    from matplotlib.figure import Figure

    colours = figures.colours_of(KINDS)
    with figures.house_style():
        whole = Figure(figsize=(13, 10.4), layout="constrained")
        top, below = whole.subfigures(2, 1, height_ratios=(1, 2.15))
        training, loss, accuracy = top.subplots(1, 3)
        for kind, of in record["along"].items():
            curve = Curve.from_dict(of["test"])
            figures.line(training, range(1, len(of["losses"]) + 1), of["losses"], colours[kind])
            figures.line(loss, curve.t, curve.loss, colours[kind])
            figures.line(accuracy, curve.t, 100 * curve.accuracy, colours[kind], label=kind)
        training.set(title="Training the curve", xlabel="epoch", ylabel="training loss")
        loss.set(title="Loss", ylabel="test cross-entropy")
        accuracy.set(title="Accuracy", ylabel="test accuracy (%)")
        for panel in (loss, accuracy):
            figures.along_path(panel, "B or P·B")
        _planes(below, record["planes"])
        figures.end_labels(training, {
            k: (of["losses"][-1], colours[k]) for k, of in record["along"].items()
        })  # fmt: skip
        figures.save_figure(whole, file)


def _planes(figure: Any, planes: Mapping[str, Any]) -> None:
    """A column a plane, its loss above its accuracy."""
    panels = figure.subplots(2, len(planes))
    handles: dict[str, Any] = {}
    for column, (name, found) in enumerate(planes.items()):
        surface = Surface.from_dict(found)
        names, paths = _drawn_on(name, surface.corners)
        for panel, metric in zip(panels[:, column], ("loss", "accuracy"), strict=True):
            surface.plot(metric=metric, names=names, paths=paths, ax=panel)
            legend = panel.get_legend()
            texts = (text.get_text() for text in legend.get_texts())
            handles |= dict(zip(texts, legend.legend_handles, strict=True))
            legend.remove()
        panels[0, column].set_title(f"Plane of {', '.join(names)}")
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))


def _drawn_on(name: str, corners: np.ndarray) -> tuple[tuple[str, str, str], dict[str, Any]]:
    """The names of a plane's networks, and the paths between them in its coordinates."""
    if name == "ends":
        a, b, aligned = corners
        return ("A", "B", "P·B"), {"to B": np.stack([a, b]), "to P·B": np.stack([a, aligned])}
    first, last, control = corners
    t = np.linspace(0, 1, 51)[:, None]
    curve = (1 - t) ** 2 * first + 2 * t * (1 - t) * control + t**2 * last
    end = "B" if name == "unaligned" else "P·B"
    return ("A", end, "control point"), {
        f"{name} curve": curve, f"to {end}": np.stack([first, last]),
    }  # fmt: skip


def main(options: Options) -> None:
    study = Study(options)
    size = 3 if options.smoke else 7 if options.quick else _SIZE
    a, b = study.pair(0)
    curves = {k: study.curve_of(0, k) for k in KINDS}
    aligned = curves["aligned"][0].points[2]
    planes = {"ends": Plane.through(a, b, aligned, network=study.network)}
    for kind, (curve, _) in curves.items():
        start, middle, last = curve.points
        planes[kind] = Plane.through(start, last, middle, network=study.network)
    study.write(
        "figure3",
        draw=draw,
        planes={name: surface(study, plane, size).to_dict() for name, plane in planes.items()},
        along={
            k: {"losses": r["losses"], "test": study.measure(0, k)["curves"]["test"]}
            for k, (_, r) in curves.items()
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
