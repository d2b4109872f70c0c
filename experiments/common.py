"""What the experiments on all papers share."""

from __future__ import annotations

import io
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mcjax._files import write_atomically
from mcjax.figures.curves import COLOURS
from mcjax.training import train_networks
from mcjax.training.protocol import Protocol


def trained(
    model: Any, data: tuple[Any, Any], seeds: Sequence[int], protocol: Protocol, *,
    directory: Path, label: str, augment: Any = None, attack: Any = None,
) -> list[Any]:  # fmt: skip
    """Networks from different seeds, with a progress bar, resumed from their last epoch."""
    with tqdm(total=protocol.epochs, desc=label, leave=False) as bar:

        def progress(epoch: int, losses: np.ndarray) -> None:
            bar.update(epoch + 1 - bar.n)
            bar.set_postfix_str(f"loss {losses.mean():.4f}")

        return train_networks(
            model.apply, lambda key: model.init(key, data[0][:1]), data, seeds, protocol,
            augment=augment, attack=attack, directory=directory, progress=progress,
        )  # fmt: skip


def peak_memory() -> float:
    """The most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def spread(values: Any, digits: int = 2) -> str:
    """Mean ± one standard deviation (of a single value only the value)."""
    values = np.asarray(values, float)
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def over_pairs(pairs: int) -> str:
    """What a table's cells are of."""
    return "one pair" if pairs == 1 else f"mean ± one standard deviation over {pairs} pairs"


# title, label of x, label of y, and for each line (x, y) or (x, y, spread of y)
Panel = tuple[str, str, str, Mapping[str, tuple]]


def draw_panels(panels: Sequence[Panel], path: Path, ticks: Sequence[str] | None = None) -> None:
    """Lines side by side in panels; a label has the same colour in all of them.

    **Arguments:**
    - `ticks`: names of x = 0, 1, 2, … where x is no number
    """
    import matplotlib
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(label for p in panels for label in p[3]))
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
                  "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
        drawn = np.atleast_1d(figure.subplots(1, len(panels)))
        handles: dict[str, Any] = {}
        for panel, (title, x_label, y_label, lines) in zip(drawn, panels, strict=True):
            for label, (x, y, *spread_) in lines.items():
                marker = "o" if ticks or len(x) < 15 else None
                (handles[label],) = panel.plot(
                    x, y, color=colours[label], marker=marker, ms=3.5, lw=1.6, label=label
                )
                if spread_ and np.any(spread_[0]):
                    low, high = np.asarray(y) - spread_[0], np.asarray(y) + spread_[0]
                    panel.fill_between(x, low, high, color=colours[label], alpha=0.18, lw=0)
            panel.set(title=title, xlabel=x_label, ylabel=y_label)
            if ticks:
                panel.set_xticks(range(len(ticks)), ticks, rotation=60, ha="right", fontsize=7)
        figure.legend(
            handles=list(handles.values()), loc="outside lower center", frameon=False,
            ncols=min(len(handles), 3 * len(panels)),
        )  # fmt: skip
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
