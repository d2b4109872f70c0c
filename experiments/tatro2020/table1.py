"""`python -m experiments.tatro2020.table1`: average and minimum accuracy along trained curves."""

from __future__ import annotations

import numpy as np
import tyro

from mcjax.evaluation import Curve

from ..common import over_pairs, spread
from .paper import TABLE1
from .study import LABELS, Options, Study


def main(options: Options) -> None:
    study = Study(options)
    results = {k: [study.measure(p, k) for p in range(study.pairs)] for k in options.kinds}
    paper = TABLE1.get((options.model, options.data), {}) if not options.small else {}
    lines = [
        f"Test accuracy (%) along the learned curve, {over_pairs(study.pairs)}.",
        study.protocol_line(),
        "",
        "| curve | average | paper | minimum | paper |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind, records in results.items():
        curves = [Curve.from_dict(r["curves"]["test"]) for r in records]
        ours = (
            [100 * c.mean("accuracy") for c in curves],
            [100 * c.worst("accuracy") for c in curves],
        )
        lines.append(_row(LABELS[kind], ours, paper.get(kind)))
    ends = [
        50 * (r["curves"]["test"]["accuracy"][0] + r["curves"]["test"]["accuracy"][-1])
        for r in results["unaligned"]
    ]
    lines.append(_row("End points", (ends, None), paper.get("endpoints")))
    moved = [
        f"{LABELS[k]}: {r['units_moved']} units moved by the permutation step (chosen: "
        f"{r['chosen']}), objective {' → '.join(f'{v:.4f}' for v in r['objective'])}"
        for k in options.kinds if "pam" in k for r in results[k]
    ]  # fmt: skip
    study.write(
        "table1", "\n".join([*lines, "", *(f"- {m}" for m in moved)]) + "\n", results=results
    )


def _row(label: str, ours: tuple, paper: tuple | None) -> str:
    cells = []
    for values, reported in zip(ours, paper or (None, None), strict=True):
        cells.append("–" if values is None else spread(np.array(values)))
        cells.append("–" if reported is None else "{:.1f} ± {:.1f}".format(*reported))
    return f"| {label} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(tyro.cli(Options))
