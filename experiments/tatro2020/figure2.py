"""`python -m experiments.tatro2020.figure2`: what to align by."""

from __future__ import annotations

import numpy as np
import tyro

from mcjax.evaluation import Curve
from mcjax.figures.curves import draw_curves

from ..common import over_pairs, spread
from .study import LABELS, Options, Study

KINDS = ("unaligned", "aligned", "aligned-pre", "aligned-l2", "aligned-l2-pre")


def main(options: Options) -> None:
    study = Study(options)
    results = {k: [study.measure(p, k) for p in range(study.pairs)] for k in KINDS}
    labels = {**LABELS, "aligned": "Correlation, post-activations"}
    lines = [
        f"Test accuracy (%) along curves to B aligned in different ways, "
        f"{over_pairs(study.pairs)}.",
        study.protocol_line(),
        "",
        "| aligned by | average | minimum |",
        "|---|---:|---:|",
    ]
    for kind, records in results.items():
        curves = [Curve.from_dict(r["curves"]["test"]) for r in records]
        cells = [
            spread(np.array([100 * value(c) for c in curves]))
            for value in (lambda c: c.mean("accuracy"), lambda c: c.worst("accuracy"))
        ]
        lines.append(f"| {labels[kind]} | " + " | ".join(cells) + " |")
    drawn = {
        labels[k]: {"test": Curve.from_dict(r[0]["curves"]["test"])} for k, r in results.items()
    }
    draw_curves(drawn, study.figure("figure2"))
    study.write("figure2", "\n".join([*lines, ""]), results=results)


if __name__ == "__main__":
    main(tyro.cli(Options))
