"""`python -m experiments.vrabel2024.figure7`: synthetic modes of a trained network.

A mode whose pixels are alike their neighbours and one of noise, both by feature visualisation; the
barrier between them and its bypass (vrabel2024, Fig. 7 and App. B.6; without transformations).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax import inputs

from ..figures import AFTER, BEFORE, beside, figure, finish, table
from .endpoints import Pairs, Trained, endpoint, folder_of
from .pictures import draw_losses, show_signed, signed_record
from .study import along, curve_record, delta_of, how_of


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The modes, B and B′; the loss between them, before and after."""
    with figure(file, 11, 5.8) as drawn:
        rows = drawn.add_gridspec(2, 1, height_ratios=(1, 1.15))
        images = rows[0].subgridspec(1, len(record["images"]))
        for k, (what, image) in enumerate(record["images"].items()):
            axes = drawn.add_subplot(images[k])
            show_signed(axes, image, what, labelled=what == "C")
        axes = drawn.add_subplot(rows[1])
        names = draw_losses(axes, record["paths"], (BEFORE, AFTER), record["delta"])
        axes.set(title=f"Loss between two synthetic modes of class {record['label']}")
        beside(axes, names)


def main(options: Trained) -> None:
    folder, net = folder_of(options, "figure7"), endpoint(options)
    delta = delta_of(options)
    rng, shape = np.random.default_rng(options.seed), (10, *net.data.x_test.shape[1:])
    y = np.arange(10)
    steps = 96 if options.smoke else 512
    noise = inputs.Synthesis(delta / 10, steps=steps, surrogate=True)
    smooth = dataclasses.replace(noise, roughness=3e-3)
    made = [
        net.synthesise(rng.normal(0, scale, shape).astype(np.float32), y, how)
        for scale, how in ((0.01, smooth), (1.0, noise))
    ]  # fmt: skip
    reached = np.flatnonzero((made[0].loss <= delta) & (made[1].loss <= delta))
    ends = made[0].x[reached], made[1].x[reached]
    around = how_of(options, depth=1, deviation=0.0, roughness=0.0)
    found = net.bypass(Pairs(*ends, y[reached]), around)
    shown = int(found.direct.gap.argmax())
    chain, label = found.points[shown], int(y[reached][shown])
    top = found.direct.summit[shown]
    b = (1 - top) * ends[0][shown] + top * ends[1][shown]
    count = 48 if options.small else 500
    paths = {
        "A → C": curve_record(*along(net, chain[[0, -1]], label, 2 * count)),
        "A → B′ → C": curve_record(*along(net, chain, label, count)),
    }
    middle = chain[1] if len(chain) == 3 else b
    below = found.status == "below delta"
    row = [
        f"{len(reached)} of 10", f"{np.median(found.direct.height):.3g}",
        f"{found.direct.height.max():.3g}", f"{np.median(found.height):.3g}",
        *(f"{(below & (found.rounds <= k)).sum()}" for k in (0, 1)),
    ]  # fmt: skip
    text = table(
        f"Synthetic modes of {net.name}, accuracy {net.accuracy:.1f} %; δ = {delta:g}.",
        ("pairs", "median height", "largest", "median after one round", "joined, 0 rounds", "1"),
        [row],
    )
    images = {"A": chain[0], "B": b, "B′": middle, "C": chain[-1]}
    record = {
        "delta": delta, "label": label, "height": found.direct.height.tolist(),
        "after": found.height.tolist(), "status": found.status.tolist(), "paths": paths,
        "images": {k: signed_record(v) for k, v in images.items()},
    }  # fmt: skip
    finish(options, folder, f"figure7-{net.name}", record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
