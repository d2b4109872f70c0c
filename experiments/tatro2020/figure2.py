"""`python -m experiments.tatro2020.figure2`: what to align by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax.evaluation import Curve
from mcjax.figures.curves import draw_curves

from ..common import over_pairs, spread
from .study import LABELS, Options, Study

KINDS = ("unaligned", "aligned", "aligned-pre", "aligned-l2", "aligned-l2-pre")
NAMES = {**LABELS, "aligned": "Correlation, post-activations"}


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Test data along every curve, means over pairs and their range."""
    draw_curves(
        {
            NAMES[kind]: {"test": [Curve.from_dict(r["curves"]["test"]) for r in records]}
            for kind, records in record["results"].items()
        },
        file,
        ends={NAMES[k]: "B" if k == "unaligned" else "P·B" for k in record["results"]},
    )


def main(options: Options) -> None:
    study = Study(options)
    results = {k: [study.measure(p, k) for p in range(study.pairs)] for k in KINDS}
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
        lines.append(f"| {NAMES[kind]} | " + " | ".join(cells) + " |")
    study.write("figure2", "\n".join([*lines, ""]), draw=draw, results=results)


if __name__ == "__main__":
    main(tyro.cli(Options))
