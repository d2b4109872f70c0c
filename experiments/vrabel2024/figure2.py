"""`python -m experiments.vrabel2024.figure2`: a barrier bypassed, and the secondary barriers.

The loss along A → C, along A → B′ → C, and after more rounds until all is below δ (vrabel2024,
Fig. 2), on a logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax import inputs
from mcjax.figures import along_path, line

from ..figures import AFTER, BEFORE, GREEN, GREY, beside, figure, finish, table
from .endpoints import Trained, endpoint, folder_of
from .study import LEAST, Chains, example, how_of

COLOURS = (BEFORE, AFTER, GREEN)


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The three losses; δ is dotted."""
    with figure(file, 7.8, 4.2) as drawn:
        axes = drawn.subplots()
        ends = {}
        for (what, path), colour in zip(record["paths"].items(), COLOURS, strict=True):
            loss = np.maximum(path["loss"], LEAST)
            line(axes, path["t"], loss, colour)
            ends[what] = (float(loss[len(loss) // 2]), colour)
        axes.axhline(record["delta"], color=GREY, ls=":", lw=1.2)
        axes.annotate("δ", (0.01, record["delta"]), (0, 2), textcoords="offset points", color=GREY)
        along_path(axes, "C")
        axes.set(ylabel="cross-entropy", yscale="log", title="Bypassing a barrier between inputs")
        beside(axes, ends)


def main(options: Trained) -> None:
    folder, net = folder_of(options, "figure2"), endpoint(options)
    name = f"figure2-{net.name}"
    pair, count = example(net, options), 48 if options.small else 500
    chains = Chains.of(
        net, options, pair, "A → C", {1: "A → B′ → C", 5: "bypassed to the end"}, 2 * count
    )
    found = chains.curves
    delta = how_of(options).delta
    rows = [
        [what, len(chains.points[what]) - 2, f"{loss.max():.3g}",
         len(inputs.Interpolation(t, {"loss": loss[None]}).barriers(delta)[0]), chains.status[what]]
        for what, (t, loss) in found.items()
    ]  # fmt: skip
    text = table(
        f"The pair of figure 1, {net.name}: accuracy {net.accuracy:.1f} %, δ = {delta:g}.",
        ("path", "points inserted", "highest loss", "barriers above δ", "status"),
        rows,
    )
    record = {"accuracy": net.accuracy, "delta": delta, "paths": chains.record()}
    finish(options, folder, name, record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
