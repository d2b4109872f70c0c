"""`python -m experiments.tatro2020.table2`: training loss along the learned curves."""

from __future__ import annotations

import tyro

from mcjax.evaluation import Curve

from ..common import over_pairs, spread
from .paper import TABLE2
from .study import LABELS, Options, Study


def main(options: Options) -> None:
    study = Study(options)
    losses = {
        kind: [
            Curve.from_dict(study.measure(p, kind)["curves"]["train"]).mean("loss")
            for p in range(study.pairs)
        ]
        for kind in options.kinds
    }
    paper = {} if options.small else TABLE2.get((options.model, options.data), {})
    lines = [
        "Average cross-entropy along the learned curve on 10,000 training images, not augmented",
        f"(the paper's: at convergence), {over_pairs(study.pairs)}.",
        study.protocol_line(),
        "",
        "| curve | training loss | paper |",
        "|---|---:|---:|",
    ]
    for kind, values in losses.items():
        reported = "{:.3f} ± {:.3f}".format(*paper[kind]) if kind in paper else "–"
        lines.append(f"| {LABELS[kind]} | {spread(values, 4)} | {reported} |")
    study.write("table2", "\n".join([*lines, ""]), losses=losses)


if __name__ == "__main__":
    main(tyro.cli(Options))
