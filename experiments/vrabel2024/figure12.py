"""`python -m experiments.vrabel2024.figure12`: many pairs, and how many rounds they need.

A pair of images of each class, the loss between them before and after one round (vrabel2024,
Fig. 12); how many pairs of a class, of an image and an adversarial one, and of different classes
lie below δ after each round.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax import inputs
from mcjax.figures import end_labels, line

from ..figures import AFTER, BEFORE, BLUE, GREEN, ORANGE, figure, finish, table
from .endpoints import Endpoint, Pairs, Trained, endpoint, folder_of
from .pictures import as_image, as_record, draw_losses, show
from .study import (
    along,
    attack_of,
    attacked,
    by_class,
    curve_record,
    delta_of,
    how_of,
    other_class,
    same_class,
)

COLOURS = {"A → C": BEFORE, "A → B′ → C": AFTER}
# As in figure 5.
KINDS = {"real–real": BLUE, "real–adversarial": ORANGE, "different classes": GREEN}
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


def drawn_pairs(net: Endpoint, pairs: Pairs, how: inputs.Bypass) -> list[dict[str, Any]]:
    """For JSON: the first pair of each class, the losses before and, if any was needed, after."""
    some = pairs.at(np.array([np.flatnonzero(pairs.y == k)[0] for k in np.unique(pairs.y)]))
    made, found = net.bypass(some, how), []
    for k, label in enumerate(some.y.tolist()):
        ends = np.stack([some.a[k], some.c[k]])
        paths = {"A → C": curve_record(*along(net, ends, label, how.points))}
        if made.rounds[k]:
            after = along(net, made.points[k], label, how.points)
            paths["A → B′ → C"] = curve_record(*after)
        images = {"A": as_record(ends[0]), "C": as_record(ends[1])}
        found.append({"label": label, "paths": paths, "images": images})
    return found


def draw(record: Mapping[str, Any], file: Path) -> None:
    """A pair of each class and its losses; the share of all pairs below δ after each round."""
    shown, rows = record["shown"], max(2, -(-len(record["shown"]) // 2))
    with figure(file, 13, 1.25 * rows + 0.6) as drawn:
        left, right = drawn.subfigures(1, 2, width_ratios=(2.5, 1))
        grid = left.subplots(rows, 6, width_ratios=(1, 1, 2.6) * 2, squeeze=False)
        for axes in grid.flat[3 * len(shown) :]:
            axes.remove()
        for n, pair in enumerate(shown):
            *images, axes = grid.flat[3 * n : 3 * n + 3]
            for place, (what, image) in zip(images, pair["images"].items(), strict=True):
                show(place, as_image(image), f"{what}, class {pair['label']}")
            if n:
                axes.sharey(grid[0, 2])
            draw_losses(axes, pair["paths"], COLOURS.values(), record["delta"])
            axes.yaxis.set_minor_formatter("")
            axes.set(ylabel="" if n % 2 else "loss", xlabel="t" if n // 2 == rows - 1 else "")
        share, words = right.subplots(2, 1)
        for what, colour in COLOURS.items():
            line(words, [], [], colour, label=what)
        words.axis("off")
        words.legend(loc="upper left", title="losses, left", alignment="left")
        ends = {}
        for kind, colour in KINDS.items():
            joined = [100 * j for j in record[kind]["joined"]]
            line(share, range(len(joined)), joined, colour, marker="o", ms=4)
            ends[f"{kind}, of {record[kind]['pairs']}"] = (joined[-1], colour)
        share.set(title="Pairs below δ (%)", xlabel="rounds", ylim=(-4, 104))
        share.set_xticks(range(ROUNDS + 1))
        end_labels(share, ends)


def main(options: Figure12) -> None:
    folder, net = folder_of(options, "figure12"), endpoint(options)
    delta = delta_of(options)
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
    shown = drawn_pairs(net, kinds["real–real"], dataclasses.replace(how, depth=1))
    rows = [
        [what, r["pairs"], f"{np.median(r['height']):.3g}",
         *(f"{100 * j:.0f} %" for j in r["joined"]), f"{np.mean(r['inserted']):.1f}"]
        for what, r in found.items()
    ]  # fmt: skip
    heads = ["0 rounds", *(f"{k}" for k in range(1, ROUNDS + 1))]
    text = table(
        f"Pairs below δ = {delta:g} after so many rounds; {net.name}, accuracy "
        f"{net.accuracy:.1f} %, ends below δ/2.",
        ("", "pairs", "median height", *heads, "points inserted"), rows,
    )  # fmt: skip
    record = {"accuracy": net.accuracy, "delta": delta, **found, "shown": shown}
    finish(options, folder, f"figure12-{net.name}", record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Figure12, description=__doc__))
