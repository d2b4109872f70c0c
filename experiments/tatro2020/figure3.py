"""`python -m experiments.tatro2020.figure3`: planes, training loss and the curves (Fig. 3, 5, 7).

Three planes: through both end points and the aligned second one, and through each learned curve.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tyro

from mcjax.evaluation import Curve, Plane, Surface, evaluate_plane
from mcjax.path import Linear

from ..common import draw_panels
from .study import Options, Study

# Points a side, and test images, of the planes.
_SIZE, _IMAGES = 17, 2000


def surface(study: Study, plane: Plane, size: int) -> Surface:
    some = tuple(v[:_IMAGES] for v in study.test_data)
    return evaluate_plane(plane, study.apply, some, size, statistics=study.sample[:_IMAGES])


def main(options: Options) -> None:
    study = Study(options)
    size = 3 if options.smoke else 7 if options.quick else _SIZE
    a, b = study.pair(0)
    curves = {k: study.curve_of(0, k) for k in ("unaligned", "aligned")}
    aligned = curves["aligned"][0].points[2]
    plane = Plane.through(a, b, aligned, network=study.network)
    segments = {
        "to B": plane.coordinates_along(Linear(a, b), 3),
        "to P·B": plane.coordinates_along(Linear(a, aligned), 3),
    }
    planes: dict[str, Any] = {"ends": (plane, ("A", "B", "P·B"), segments)}
    for kind, (curve, _) in curves.items():
        start, middle, last = curve.points
        through = Plane.through(start, last, middle, network=study.network)
        end = "B" if kind == "unaligned" else "P·B"
        drawn = {
            f"{kind} curve": through.coordinates_along(curve),
            "segment": through.coordinates_along(Linear(curve.points[0], curve.points[2]), 3),
        }
        planes[kind] = (through, ("A", end, "control point"), drawn)
    surfaces = {}
    for name, (plane, names, paths) in planes.items():
        found = surface(study, plane, size)
        surfaces[name] = found.to_dict()
        for metric in ("accuracy", "loss"):
            file = study.figure(f"figure3-plane-{name}-{metric}")
            found.plot(file, metric, names=names, paths=paths)
    labels = {"unaligned": "Unaligned", "aligned": "Aligned"}
    tests = {k: Curve.from_dict(study.measure(0, k)["curves"]["test"]) for k in curves}
    draw_panels(
        [
            ("Training", "epoch", "training loss", {
                labels[k]: (np.arange(1, len(r["losses"]) + 1), r["losses"])
                for k, (_, r) in curves.items()}),
            ("Along the curve", "t", "test loss", {
                labels[k]: (c.t, c.loss) for k, c in tests.items()}),
            ("Along the curve", "t", "test accuracy (%)", {
                labels[k]: (c.t, 100 * c.accuracy) for k, c in tests.items()}),
        ],
        study.figure("figure3"),
    )  # fmt: skip
    study.write("figure3", planes=surfaces)


if __name__ == "__main__":
    main(tyro.cli(Options))
