"""`python -m experiments.ferbach2023.dropout`: error of dropout against that of connectivity.

Half of the units of every hidden layer are dropped and the others doubled; how much the loss rises
is set beside the barrier between matched networks, over widths (ferbach2023, appendix). The
networks are those of `widths`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.stats import spearmanr

import mcjax
from mcjax import theory
from mcjax.figures import end_labels, line

from ..figures import BLUE, ORANGE, beside, figure, finish, table
from .networks import data_of
from .study import folder_of, kept, plain_ticks, slope, ticks_at
from .widths import Trained, Widths, measure, shapes, trained_networks, upper


@dataclasses.dataclass
class Dropout(Widths):
    """Dropout errors against barriers."""

    masks: int = 8
    """Random halves of each network."""


def dropped(params: Any, key: jax.Array) -> Any:
    """The parameters with a random half of the units of every hidden layer dropped.

    What reads a unit is doubled or zero.
    """
    layers = dict(params["params"])
    for k in range(1, len(layers)):
        layer = layers[f"Dense_{k}"]
        units = layer["kernel"].shape[0]
        kept_ = jax.random.permutation(jax.random.fold_in(key, k), units) < units / 2
        scale = kept_ * (units / jnp.sum(kept_))
        layers[f"Dense_{k}"] = {**layer, "kernel": layer["kernel"] * scale[:, None]}
    return {"params": layers}


def errors(of: Trained, data: Any, masks: int) -> list[float]:
    """For each network how much the test loss rises, mean over random halves."""
    test, out = (data.x_test, data.y_test), []
    for k, params in enumerate(of.params):
        keys = jax.random.split(jax.random.key(k), masks)
        through = mcjax.path.PolygonalChain((params, *(dropped(params, key) for key in keys)))
        whole, *halves = mcjax.evaluate(through, of.network, test, masks + 1).values["loss"]
        out.append(float(np.mean(halves) - whole))
    return out


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The error of dropout and the barrier over widths, and one against the other."""
    found = record["found"]
    with figure(file, 10.5, 3.9) as drawn:
        left, right = drawn.subplots(1, 2)
        ends, names = {}, {}
        for (depth, of), colour in zip(found.items(), (BLUE, ORANGE), strict=False):
            rows, words = of["widths"], f"{depth} hidden layer" + "s" * (depth != "1")
            widths, rise = [int(w) for w in rows], [np.mean(r["dropout"]) for r in rows.values()]
            barrier = [r["barrier"] for r in rows.values()]
            line(left, widths, rise, colour, marker="o", ms=4)
            line(left, widths, barrier, colour, ls="--", marker="s", ms=4)
            line(right, rise, barrier, colour, marker="o", ms=4)
            ends[f"dropout, {depth} hidden"] = (float(rise[-1]), colour)
            ends[f"barrier, {depth} hidden"] = (barrier[-1], colour)
            names[words] = (barrier[0], colour)
        left.set(title="(a) against width", xlabel="width", ylabel="error, test loss")
        right.set(title="(b) barrier against dropout", xlabel="rise of the loss by dropout",
                  ylabel="barrier, matched")  # fmt: skip
        for axes in (left, right):
            axes.set(xscale="log", yscale="log")
            plain_ticks(axes.yaxis)
        ticks_at(left.xaxis, widths)
        plain_ticks(right.xaxis)
        beside(right, names)
        end_labels(left, ends)


def main(options: Dropout) -> None:
    data, working = data_of(options), options.working("ferbach2023", "widths")
    masks = 2 if options.smoke else options.masks
    found: dict[int, dict[int, Any]] = {}
    for depth, width in shapes(options):
        of = trained_networks(options, data, depth, width)
        between = kept(working / f"{of.mark}.json", lambda of=of: measure(of, data))
        rises = kept(
            working / f"{of.mark}-dropout{masks}.json", lambda of=of: errors(of, data, masks)
        )
        barrier = float(upper(between, "matched").mean())
        found.setdefault(depth, {})[width] = {"dropout": rises, "barrier": barrier}
    folder, lines, record = folder_of(options, "dropout"), [], {}
    for depth, rows in found.items():
        rise, barrier = np.array([[np.mean(r["dropout"]), r["barrier"]] for r in rows.values()]).T
        ranks = float(spearmanr(rise, barrier).statistic)  # type: ignore[union-attr]
        line = f"{depth} hidden: rank correlation {ranks:.2f}"
        if len(rows) > 2 and (rise > 0).all() and (barrier > 0).all():
            pair = [theory.fit_rate([*rows], v) for v in (rise, barrier)]
            line += f", exponents of the width {slope(pair[0])} and {slope(pair[1])}"
        lines.append(line)
        record[str(depth)] = {"widths": {str(w): r for w, r in rows.items()}, "ranks": ranks}
    text = table(
        "Rise of the test loss when half of the units of every hidden layer are dropped, and "
        f"barrier between matched networks, means. {'; '.join(lines)}.",
        ["hidden layers × width", "dropout", "barrier"],
        [[f"{d} × {w}", f"{np.mean(r['dropout']):.4f}", f"{r['barrier']:.4f}"]
         for d, rows in found.items() for w, r in rows.items()],
    )  # fmt: skip
    finish(options, folder, "dropout", {"masks": masks, "found": record}, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Dropout, description=__doc__))
