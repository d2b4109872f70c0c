"""`python -m experiments.tatro2020.figure4`: clean and robust accuracy along robust curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax.evaluation import Curve
from mcjax.figures.curves import draw_curves

from ..common import over_pairs, spread
from .study import LABELS, Options, Study

KINDS = ("unaligned", "aligned")


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Clean and attacked test data along both curves, means over pairs and their range."""
    draw_curves(
        {
            LABELS[kind]: {
                name: [Curve.from_dict(r["curves"]["test"]) for r in records]
                for name, records in both.items()
            }
            for kind, both in record["results"].items()
        },
        file,
        ends={LABELS["unaligned"]: "B", LABELS["aligned"]: "P·B"},
    )


def main(options: Options) -> None:
    study = Study(dataclasses.replace(options, robust=True))
    results = {
        kind: {
            name: [study.measure(p, kind, attacked=name == "robust") for p in range(study.pairs)]
            for name in ("clean", "robust")
        }
        for kind in KINDS
    }
    lines = [
        f"Test accuracy (%) along robust curves, {over_pairs(study.pairs)}: clean, and "
        "attacked by PGD.",
        study.protocol_line(),
        "",
        "| curve | clean, minimum | clean, middle | robust, minimum | robust, middle |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind, both in results.items():
        cells = []
        for records in both.values():
            curves = [Curve.from_dict(r["curves"]["test"]) for r in records]
            cells.append(spread(np.array([100 * c.worst("accuracy") for c in curves])))
            cells.append(spread(np.array([100 * c.accuracy[len(c.t) // 2] for c in curves])))
        lines.append(f"| {LABELS[kind]} | " + " | ".join(cells) + " |")
    ends = []
    for records in results["unaligned"].values():
        accuracies = [r["curves"]["test"]["accuracy"] for r in records]
        ends.append(spread(np.array([50 * (v[0] + v[-1]) for v in accuracies])))
    lines.append(f"| End points | {ends[0]} | – | {ends[1]} | – |")
    study.write("figure4", "\n".join([*lines, ""]), draw=draw, results=results)


if __name__ == "__main__":
    main(tyro.cli(Options))
