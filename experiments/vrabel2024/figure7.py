"""`python -m experiments.vrabel2024.figure7`: synthetic modes of a trained network.

A mode whose pixels are alike their neighbours and one of noise, both by feature visualisation; the
barrier between them and its bypass (vrabel2024, Fig. 7 and App. B.6; without transformations).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tyro

from mcjax import inputs
from mcjax.figures import along_path, line

from ..figures import AFTER, BEFORE, beside, figure, finish, table
from .endpoints import Pairs, Trained, endpoint, folder_of
from .study import LEAST, along, delta_of, how_of, show_difference


def main(options: Trained) -> None:
    folder, net = folder_of(options, "figure7"), endpoint(options)
    name, delta = f"figure7-{net.name}", delta_of(options)
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
    curves = {
        "A → C": along(net, chain[[0, -1]], label, 2 * count),
        "A → B′ → C": along(net, chain, label, count),
    }
    with figure(folder / f"{name}.png", 9.5, 5.4) as drawn:
        grid = drawn.add_gridspec(2, 4)
        middle = chain[1] if len(chain) == 3 else b
        images = ((chain[0], "A"), (b, "B"), (middle, "B′"), (chain[-1], "C"))
        for k, (image, title) in enumerate(images):
            show_difference(drawn.add_subplot(grid[0, k]), image, title)
        axes = drawn.add_subplot(grid[1, :])
        names = {}
        for (what, (t, loss)), colour in zip(curves.items(), (BEFORE, AFTER), strict=True):
            line(axes, t, np.maximum(loss, LEAST), colour)
            names[what] = (float(loss[len(loss) // 2]), colour)
        along_path(axes, "C")
        axes.set(ylabel="cross-entropy", title=f"class {label}", yscale="log")
        beside(axes, names)
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
    record = {
        "label": label, "height": found.direct.height.tolist(), "after": found.height.tolist(),
        "status": found.status.tolist(),
        "curves": {k: [v.tolist() for v in c] for k, c in curves.items()},
    }  # fmt: skip
    finish(options, folder, name, record, [text])


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
