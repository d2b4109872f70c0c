"""`python -m experiments.vrabel2024.figure12`: many pairs, and how many rounds they need.

A pair of images of each class, the loss between them before and after one round (vrabel2024,
Fig. 12); how many pairs of a class, of an image and an adversarial one, and of different classes
lie below δ after each round.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tyro

from mcjax import inputs
from mcjax.figures import along_path, line

from ..figures import AFTER, BEFORE, GREY, beside, figure, finish, table
from .endpoints import Endpoint, Pairs, Trained, endpoint, folder_of
from .study import (
    LEAST,
    along,
    attack_of,
    attacked,
    by_class,
    delta_of,
    how_of,
    other_class,
    same_class,
    show,
)

ROUNDS = 4


@dataclasses.dataclass
class Figure12(Trained):
    """Many examples."""

    pairs: int = 5
    """Pairs of each class."""
    steps: int = 1024
    """Steps of Adam for a point, at most."""


def kinds_of(net: Endpoint, options: Figure12) -> dict[str, Pairs]:
    """Pairs with ends below δ."""
    delta, each = delta_of(options), 1 if options.smoke else options.pairs
    numbers = by_class(net, options.seed, delta / 2)
    other = other_class(net, numbers, each, options.seed)
    return {
        "real–real": same_class(net, numbers, each),
        "real–adversarial": attacked(net, other, attack_of(options, delta / 2))[0],
        "different classes": other,
    }


def draw(net: Endpoint, pairs: Pairs, made: inputs.Bypassed, file, points: int, delta: float):
    """A row for the first pair of each class: A, C, the two losses."""
    first = [int(np.flatnonzero(pairs.y == k)[0]) for k in np.unique(pairs.y)]
    with figure(file, 13, 1.25 * len(first) / 2 + 0.8) as drawn:
        grid = drawn.add_gridspec(-(-len(first) // 2), 6, width_ratios=(1, 1, 3) * 2)
        for n, i in enumerate(first):
            row, left = n // 2, 3 * (n % 2)
            show(drawn.add_subplot(grid[row, left]), pairs.a[i], f"A, {pairs.y[i]}")
            show(drawn.add_subplot(grid[row, left + 1]), pairs.c[i], "C")
            axes = drawn.add_subplot(grid[row, left + 2])
            ends = np.stack([pairs.a[i], pairs.c[i]])
            label = int(pairs.y[i])
            for chain, colour in ((ends, BEFORE), (made.points[i], AFTER)):
                t, loss = along(net, chain, label, points)
                line(axes, t, np.maximum(loss, LEAST), colour, lw=1.4)
            axes.axhline(delta, color=GREY, ls=":", lw=1)
            along_path(axes, "C")
            axes.set(yscale="log")
            axes.yaxis.set_minor_formatter("")  # δ is a power of ten
            if n == 1:
                beside(axes, {"A → C": (1.0, BEFORE), "A → B′ → C": (0.0, AFTER)})


def main(options: Figure12) -> None:
    folder, net = folder_of(options, "figure12"), endpoint(options)
    name, delta = f"figure12-{net.name}", delta_of(options)
    found, kinds = {}, kinds_of(net, options)
    how = how_of(options, depth=ROUNDS, points=48 if options.small else 100)
    how = dataclasses.replace(how, steps=min(how.steps, options.steps))
    for what, pairs in kinds.items():
        made = net.bypass(pairs, how)
        below = made.status == "below delta"
        found[what] = {
            "pairs": len(pairs), "rounds": made.rounds.tolist(), "status": made.status.tolist(),
            "height": made.direct.height.tolist(), "after": made.height.tolist(),
            "joined": [float(np.mean(below & (made.rounds <= k))) for k in range(ROUNDS + 1)],
            "inserted": [len(p) - 2 for p in made.points],
        }  # fmt: skip
    once, pairs = dataclasses.replace(how, depth=1), kinds["real–real"]
    firsts = pairs.at(np.array([np.flatnonzero(pairs.y == k)[0] for k in np.unique(pairs.y)]))
    made = net.bypass(firsts, once)
    draw(net, firsts, made, folder / f"{name}.png", 24 if options.small else 250, delta)
    found["drawn"] = {"before": made.direct.height.tolist(), "after": made.height.tolist()}
    rows = [
        [what, r["pairs"], f"{np.median(r['height']):.3g}",
         *(f"{100 * j:.0f} %" for j in r["joined"]), f"{np.mean(r['inserted']):.1f}"]
        for what, r in found.items() if what != "drawn"
    ]  # fmt: skip
    heads = ["0 rounds", *(f"{k}" for k in range(1, ROUNDS + 1))]
    text = table(
        f"Pairs below δ = {delta:g} after so many rounds; {net.name}, accuracy "
        f"{net.accuracy:.1f} %, ends below δ/2.",
        ("", "pairs", "median height", *heads, "points inserted"), rows,
    )  # fmt: skip
    finish(options, folder, name, {"accuracy": net.accuracy, "delta": delta, **found}, [text])


if __name__ == "__main__":
    main(tyro.cli(Figure12, description=__doc__))
