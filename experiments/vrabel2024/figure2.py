"""`python -m experiments.vrabel2024.figure2`: a barrier bypassed, and the secondary barriers.

The loss along A → C, along A → B′ → C, and after more rounds until all is below δ (vrabel2024,
Fig. 2), on a logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro

from mcjax import inputs

from ..figures import AFTER, BEFORE, GREEN, beside, figure, finish, table
from .endpoints import Trained, endpoint, folder_of
from .pictures import draw_losses
from .study import Chains, example, how_of


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The three losses; δ is dotted."""
    with figure(file, 7.8, 4.2) as drawn:
        axes = drawn.subplots()
        names = draw_losses(axes, record["paths"], (BEFORE, AFTER, GREEN), record["delta"])
        axes.set(title="Bypassing a barrier between inputs")
        beside(axes, names)


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
