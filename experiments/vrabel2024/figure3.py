"""`python -m experiments.vrabel2024.figure3`: an adversarial image joined to a real one.

K of another class is moved until it has the label of A; the barrier between A and K′ after each
round of bypassing (vrabel2024, Fig. 3 and App. B.2.1), of ten such pairs the highest.
"""

from __future__ import annotations

import numpy as np
import tyro

from mcjax.figures import along_path, line, shade

from ..figures import AFTER, BEFORE, GREY, beside, figure, finish, table
from .endpoints import Trained, endpoint, folder_of
from .study import (
    LEAST,
    Chains,
    attack_of,
    attacked,
    by_class,
    delta_of,
    highest,
    other_class,
    show,
    show_difference,
)


def main(options: Trained) -> None:
    folder, net = folder_of(options, "figure3"), endpoint(options)
    name, delta = f"figure3-{net.name}", delta_of(options)
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
    with figure(folder / f"{name}.png", 12.5, 5.2) as drawn:
        grid = drawn.add_gridspec(2, 4, height_ratios=(1, 1.5))
        show(drawn.add_subplot(grid[0, 0]), pair.a[0], f"A, class {label}")
        show(drawn.add_subplot(grid[0, 1]), before.c[0], f"K, class {int(before.y[1][0])}")
        percent = 100 * np.abs(change).max() / before.c[0].max()
        show_difference(
            drawn.add_subplot(grid[0, 2]), change, f"K′ − K, at most {percent:.0f} % of K's"
        )
        show(drawn.add_subplot(grid[0, 3]), pair.c[0], f"K′, predicted {label}")
        axes = drawn.add_subplot(grid[1, :2]), drawn.add_subplot(grid[1, 2:])
        names = {}
        for k, (what, (t, loss)) in enumerate(found.items()):
            colour = BEFORE if not k else shade(AFTER, (0.6, 0.3, 0.0)[min(k, 3) - 1])
            line(axes[0], t, loss, colour)
            line(axes[1], t, np.maximum(loss, LEAST), colour)
            names[what] = (float(loss[len(loss) // 2]), colour)
        axes[1].axhline(delta, color=GREY, ls=":", lw=1.2)
        axes[1].set_yscale("log")
        for panel in axes:
            along_path(panel, "K′")
            panel.set(ylabel="cross-entropy")
        beside(axes[1], names)
    rows = [[what, len(chains.points[what]) - 2, f"{loss.max():.3g}", chains.status[what]]
            for what, (_, loss) in found.items()]  # fmt: skip
    text = table(
        f"{net.name}, accuracy {net.accuracy:.1f} %; δ = {delta:g}.",
        ("path", "points inserted", "highest loss", "status"), rows,
    )  # fmt: skip
    record = {
        "accuracy": net.accuracy, "delta": delta, "change": float(percent),
        "paths": chains.record(),
    }  # fmt: skip
    finish(options, folder, name, record, [text])


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
