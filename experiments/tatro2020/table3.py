"""`python -m experiments.tatro2020.table3`: rate and batch of the curves, unaligned and aligned.

The paper's are on CIFAR-100; with another data set its numbers are left out.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tyro

from mcjax.evaluation import Curve

from ..common import over_pairs, spread
from .study import LABELS, Options, Study


@dataclasses.dataclass
class Table3(Options):
    """Average test accuracy along curves trained with different rates and batches (Table 3)."""

    rates: tuple[float, ...] = (0.01, 0.1, 0.5)
    """Initial learning rates of the curves."""
    batches: tuple[int, ...] = (64, 128, 256)
    """Batch sizes of the curves."""


def main(options: Table3) -> None:
    study = Study(options)
    rates, batches = ((0.01, 0.05), (32,)) if options.small else (options.rates, options.batches)
    found = {
        kind: {
            f"{rate:g}/{batch}": [
                100
                * Curve.from_dict(
                    study.measure(p, kind, learning_rate=rate, batch=batch)["curves"]["test"]
                ).mean("accuracy")
                for p in range(study.pairs)
            ]
            for rate in rates
            for batch in batches
        }
        for kind in ("unaligned", "aligned")
    }
    heads = " | ".join(f"{LABELS[k]}, batch {b}" for k in found for b in batches)
    lines = [
        f"Average test accuracy (%) along the curve, {over_pairs(study.pairs)}.",
        study.protocol_line(),
        "",
        f"| rate | {heads} |",
        "|---" * (1 + 2 * len(batches)) + "|",
    ]
    for rate in rates:
        cells = [spread(np.array(found[k][f"{rate:g}/{b}"])) for k in found for b in batches]
        lines.append(f"| {rate:g} | " + " | ".join(cells) + " |")
    lowest = min(np.mean(v) for v in found["aligned"].values())
    highest = max(np.mean(v) for v in found["unaligned"].values())
    lines += [
        "",
        f"The lowest aligned average is {lowest:.2f}, the highest unaligned one {highest:.2f}"
        " (in the paper every aligned one is above every unaligned one).",
        "",
    ]
    study.write("table3", "\n".join(lines), accuracy=found)


if __name__ == "__main__":
    main(tyro.cli(Table3))
