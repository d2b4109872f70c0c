"""`python -m experiments.vrabel2024.figure3`: an adversarial image joined to a real one.

K of another class is moved until it has the label of A; the barrier between A and K′ after each
round of bypassing (vrabel2024, Fig. 3 and App. B.2.1), of ten such pairs the highest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax.figures import shade

from ..figures import AFTER, BEFORE, beside, figure, finish, table
from .endpoints import Trained, endpoint, folder_of
from .pictures import as_image, as_record, draw_losses, show, show_signed, signed_record
from .study import Chains, attack_of, attacked, by_class, delta_of, highest, other_class

# The straight line, and the rounds after it.
COLOURS = (BEFORE, *(shade(AFTER, lightness) for lightness in (0.6, 0.3, 0.0)))


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The images; the loss after each round."""
    images, (first, second) = record["images"], record["classes"]
    with figure(file, 11, 6.4) as drawn:
        rows = drawn.add_gridspec(2, 1, height_ratios=(1, 1.25))
        above, below = rows[0].subgridspec(1, 4), rows[1].subgridspec(1, 2)
        titles = f"A, class {first}", f"K, class {second}", f"K′, classified as {first}"
        for k, (image, title) in enumerate(zip(images.values(), titles, strict=True)):
            show(drawn.add_subplot(above[k]), as_image(image), title)
        show_signed(drawn.add_subplot(above[3]), record["difference"], "K′ − K")
        for k, logarithmic in enumerate((False, True)):
            axes = drawn.add_subplot(below[k])
            names = draw_losses(
                axes, record["paths"], COLOURS, record["delta"], "K′", logarithmic=logarithmic
            )
            axes.set(title="The same, logarithmic" if k else "Loss between A and K′")
        beside(axes, names)


def main(options: Trained) -> None:
    folder, net = folder_of(options, "figure3"), endpoint(options)
    delta = delta_of(options)
    numbers = by_class(net, options.seed, delta / 2)
    before = other_class(net, numbers, 1, options.seed)
    # The figure's attack; that of the statistics has 512 steps.
    attack = attack_of(options, delta / 2, steps=1024, roughness=1e-7)
    pairs, reached = attacked(net, before, attack)
    if not len(pairs):
        raise RuntimeError(f"no attack reached a loss of {attack.delta:g}")
    chosen = highest(net, pairs)
    pair, before = (p.at(np.array([k])) for p, k in ((pairs, chosen), (before, reached[chosen])))
    label, points = int(pair.y[0]), 48 if options.small else 500
    rounds = {k: f"after {k} round{'s' * (k > 1)}" for k in (1, 2, 5)}
    chains = Chains.of(net, options, pair, "A → K′", rounds, 2 * points)
    found = chains.curves
    change = pair.c[0] - before.c[0]
    percent = 100 * float(np.abs(change).max() / before.c[0].max())
    rows = [[what, len(chains.points[what]) - 2, f"{loss.max():.3g}", chains.status[what]]
            for what, (_, loss) in found.items()]  # fmt: skip
    text = table(
        f"{net.name}, accuracy {net.accuracy:.1f} %; δ = {delta:g}.",
        ("path", "points inserted", "highest loss", "status"), rows,
    )  # fmt: skip
    images = {"A": pair.a[0], "K": before.c[0], "K′": pair.c[0]}
    record = {
        "accuracy": net.accuracy, "delta": delta, "change": percent, "paths": chains.record(),
        "classes": [label, int(before.y[1][0])],
        "images": {k: as_record(v) for k, v in images.items()}, "difference": signed_record(change),
    }  # fmt: skip
    finish(options, folder, f"figure3-{net.name}", record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
