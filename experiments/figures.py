"""Figures, tables and records of the experiments of the later papers, in one style."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcjax.figures import AFTER, BEFORE, GREY, beside, house_style, save_figure
from mcjax.study import machine

from .common import Run, done, write

# Of what is no method.
BLUE, ORANGE, GREEN, PINK, RED, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9",
)  # fmt: skip
__all__ = [
    "AFTER", "BEFORE", "BLUE", "GREEN", "GREY", "ORANGE", "PINK", "RED", "SKY",
    "Seeded", "beside", "figure", "finish", "table",
]  # fmt: skip


@dataclasses.dataclass
class Seeded(Run):
    """A run whose random numbers come from one seed."""

    seed: int = 0
    """Of data, initialisations and whatever else is drawn."""


@contextlib.contextmanager
def figure(file: Path, width: float, height: float = 3.9, legend: int = 0) -> Iterator[Any]:
    """An empty matplotlib figure in the style of the papers' figures, saved at the end.

    - `legend`: columns of a legend of the whole figure, below it; 0: none
    """
    from matplotlib.figure import Figure

    file.parent.mkdir(parents=True, exist_ok=True)
    with house_style():
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        if legend:
            found = {
                label: handle
                for axes in drawn.axes
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            drawn.legend(found.values(), found.keys(), loc="outside lower center", ncols=legend)
        save_figure(drawn, file)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table under a line of text; all columns but the first are of numbers."""
    lines = [title, "", f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def finish(
    options: Seeded, folder: Path, name: str, record: Mapping[str, Any], tables: Sequence[str],
    draw: Callable[[Any, Path], None] | None = None,
) -> None:  # fmt: skip
    """The record, the tables and the figure; the last line says where everything is.

    - `draw`: (the record as a reader of the file has it, file) → the figure; None: it is there
    """
    text = "\n".join(tables)
    whole = _known({"machine": machine(), "seed": options.seed, **record})
    write(folder / f"{name}.json", whole)
    write(folder / f"{name}.md", text)
    if draw is not None:
        draw(json.loads((folder / f"{name}.json").read_text()), folder / f"{name}.png")
    print(text)
    done(*(folder / f"{name}.{kind}" for kind in ("json", "md", "png")))


def _known(value: Any) -> Any:
    """The same without NaN and infinities, which JSON does not have: None."""
    if isinstance(value, Mapping):
        return {k: _known(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_known(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
