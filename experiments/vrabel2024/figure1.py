"""`python -m experiments.vrabel2024.figure1`: a barrier between two images, and its bypass.

The images A and C of one class, the highest point B of the segment between them, B′ and what
changed; the loss; images along both paths (vrabel2024, Fig. 1 and 4).
"""

from __future__ import annotations

import numpy as np
import tyro

from mcjax.figures import along_path

from ..figures import AFTER, BEFORE, GREY, figure, finish, table
from .endpoints import Trained, endpoint, folder_of
from .study import along, example, how_of, show, show_difference

SHOWN = (0.0, 0.17, 0.33, 0.5, 0.67, 0.83, 1.0)  # t of the images along both paths


def main(options: Trained) -> None:
    folder, net = folder_of(options, "figure1"), endpoint(options)
    name = f"figure1-{net.name}"
    pair = example(net, options)
    how, count = how_of(options, depth=1), 48 if options.small else 500
    made = net.bypass(pair, how)
    label = int(pair.y[0])
    chain = made.points[0]
    top = float(made.direct.summit[0])
    b = (1 - top) * pair.a[0] + top * pair.c[0]
    middle = chain[1] if len(chain) == 3 else b
    change = middle - b
    ends = np.stack([pair.a[0], pair.c[0]])
    curves = {
        "A → C": along(net, ends, label, 2 * count),
        "A → B′ → C": along(net, chain, label, count),
    }
    with figure(folder / f"{name}.png", 11.5, 5.8) as drawn:
        grid = drawn.add_gridspec(3, 7, height_ratios=(1.1, 0.8, 0.8))
        axes = drawn.add_subplot(grid[0, :2])
        for (what, (t, loss)), colour in zip(curves.items(), (BEFORE, AFTER), strict=True):
            # B and B′ stand at the same place of both paths.
            t = t if what == "A → C" else np.interp(t, (0, 0.5, 1), (0, top, 1))
            axes.plot(t, loss, color=colour, label=what)
        axes.axvline(top, color=GREY, lw=0.8, ls=":")
        along_path(axes, "C")
        axes.set(ylabel="cross-entropy")
        axes.legend(fontsize=8)
        shown = ((pair.a[0], "A"), (b, "B"), (middle, "B′"), (pair.c[0], "C"))
        for k, (image, title) in enumerate(shown):
            show(drawn.add_subplot(grid[0, 2 + k]), image, title)
        percent = 100 * np.abs(change).max() / b.max()
        show_difference(
            drawn.add_subplot(grid[0, 6]), change, f"B′ − B, at most\n{percent:.1f} % of B's"
        )
        path = made.path(0)
        for k, t in enumerate(SHOWN):
            on_chain = np.interp(t, (0, top, 1), (0, 0.5, 1)) if len(chain) == 3 else t
            show(drawn.add_subplot(grid[1, k]), path(on_chain), f"A B′ C, t = {t:.2f}")
            image = (1 - t) * pair.a[0] + t * pair.c[0]
            show(drawn.add_subplot(grid[2, k]), image, f"A C, t = {t:.2f}")
    after = float(curves["A → B′ → C"][1].max())
    row = [
        net.name, f"{net.accuracy:.1f} %", label, f"{made.direct.height[0]:.3g}", f"{after:.3g}",
        made.status[0], f"{percent:.1f} %", "1–5 %",
    ]  # fmt: skip
    text = table(
        f"One pair of class {label}; δ = {how.delta:g}, {2 * count} points.",
        ("data", "accuracy", "class", "highest loss A → C", "A → B′ → C", "status",
         "largest change of a pixel", "paper"), [row],
    )  # fmt: skip
    record = {
        "accuracy": net.accuracy, "label": label, "status": str(made.status[0]), "top": top,
        "change": float(percent),
        "curves": {k: [v.tolist() for v in c] for k, c in curves.items()},
    }  # fmt: skip
    finish(options, folder, name, record, [text])


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
