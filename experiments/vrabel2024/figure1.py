"""`python -m experiments.vrabel2024.figure1`: a barrier between two images, and its bypass.

The loss between images A and C of one class; the highest point B of their segment, B′ and what
changed; images along both paths (vrabel2024, Fig. 1 and 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from ..figures import AFTER, BEFORE, GREY, beside, figure, finish, table
from .endpoints import Trained, endpoint, folder_of
from .pictures import as_image, as_record, draw_losses, show, show_signed, signed_record
from .study import along, curve_record, example, how_of

SHOWN = (0.0, 0.17, 0.33, 0.5, 0.67, 0.83, 1.0)  # t of the images along both paths
STRAIGHT, AROUND = "A → C", "A → B′ → C"


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The losses, B and B′; images along both paths with their losses."""
    top, images = record["top"], {k: as_image(v) for k, v in record["images"].items()}
    # B and B′ stand at the same place of both paths.
    paths = {
        k: {"t": np.interp(p["t"], (0, 0.5, 1), (0, top, 1)) if k == AROUND else np.array(p["t"]),
            "loss": p["loss"]} for k, p in record["paths"].items()
    }  # fmt: skip
    chains = {
        STRAIGHT: ((0, 1), np.stack([images["A"], images["C"]]), BEFORE),
        AROUND: ((0, top, 1), np.stack([images[k] for k in ("A", "B′", "C")]), AFTER),
    }

    def at(path: str, t: float) -> tuple[np.ndarray, str]:
        knots, points, _ = chains[path]
        place = np.interp(t, knots, range(len(knots)))
        k = min(int(place), len(knots) - 2)
        image = (1 - place + k) * points[k] + (place - k) * points[k + 1]
        loss = np.interp(t, paths[path]["t"], paths[path]["loss"])
        return image, f"{loss:.2g}"

    with figure(file, 11, 6.6) as drawn:
        rows = drawn.add_gridspec(3, 1, height_ratios=(1.6, 1, 1))
        above = rows[0].subgridspec(1, 4, width_ratios=(2.3, 1, 1, 1))
        axes = drawn.add_subplot(above[0])
        names = draw_losses(axes, paths, (BEFORE, AFTER), record["delta"])
        axes.axvline(top, color=GREY, lw=0.8, ls=":")
        axes.set(title=f"Loss between two images of class {record['label']}")
        beside(axes, names)
        for k, (what, path) in enumerate((("B", STRAIGHT), ("B′", AROUND))):
            image, loss = at(path, top)
            show(drawn.add_subplot(above[1 + k]), image, f"{what}, loss {loss}", chains[path][2])
        show_signed(drawn.add_subplot(above[3]), record["difference"], "B′ − B")
        for r, path in enumerate((AROUND, STRAIGHT)):
            strip = rows[1 + r].subgridspec(1, len(SHOWN))
            for k, t in enumerate(SHOWN):
                axes, (image, loss) = drawn.add_subplot(strip[k]), at(path, t)
                show(axes, image, f"loss {loss}", chains[path][2])
                if not k:
                    axes.set_ylabel(path, color=chains[path][2])
                if r:
                    axes.set_xlabel(f"t = {t:.2f}")


def main(options: Trained) -> None:
    folder, net = folder_of(options, "figure1"), endpoint(options)
    pair = example(net, options)
    how, count = how_of(options, depth=1), 48 if options.small else 500
    made = net.bypass(pair, how)
    label, chain, top = int(pair.y[0]), made.points[0], float(made.direct.summit[0])
    b = (1 - top) * pair.a[0] + top * pair.c[0]
    middle = chain[1] if len(chain) == 3 else b
    percent = 100 * float(np.abs(middle - b).max() / b.max())
    ends = np.stack([pair.a[0], pair.c[0]])
    paths = {
        STRAIGHT: curve_record(*along(net, ends, label, 2 * count)),
        AROUND: curve_record(*along(net, np.stack([ends[0], middle, ends[1]]), label, count)),
    }
    row = [
        net.name, f"{net.accuracy:.1f} %", label, f"{made.direct.height[0]:.3g}",
        f"{max(paths[AROUND]['loss']):.3g}", made.status[0], f"{percent:.1f} %", "1–5 %",
    ]  # fmt: skip
    text = table(
        f"One pair of class {label}; δ = {how.delta:g}, {2 * count} points.",
        ("data", "accuracy", "class", "highest loss A → C", "A → B′ → C", "status",
         "largest change of a pixel", "paper"), [row],
    )  # fmt: skip
    images = {"A": pair.a[0], "B′": middle, "C": pair.c[0]}
    record = {
        "accuracy": net.accuracy, "delta": how.delta, "label": label, "status": str(made.status[0]),
        "top": top, "change": percent, "paths": paths,
        "images": {k: as_record(v) for k, v in images.items()},
        "difference": signed_record(middle - b),
    }  # fmt: skip
    finish(options, folder, f"figure1-{net.name}", record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
