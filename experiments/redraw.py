"""`python -m experiments.redraw`: figures drawn anew from the committed numbers, nothing rerun.

A module of an experiment whose `draw(record, file)` takes the record that it writes can be drawn
so. A picture without one, or whose record lacks what is drawn today, is listed.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from .__main__ import PLACES, names

HERE = Path(__file__).parent


@dataclasses.dataclass
class Redraw:
    """Draw figures from the numbers beside them."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Parts of the files' names, as vrabel2024/results/figure2 (default: all)."""
    out: Path | None = None
    """Folder of the figures, a folder a paper inside (default: beside the numbers)."""


def drawing(record: Path) -> Callable[[Any, Path], None] | None:
    """What draws a record: `draw` of the experiment whose name its own begins with, or the paper's.

    The paper's is in the module that its experiments share, `study` or `figure`.
    """
    place = record.parent.parent.name
    mine = [n.split(".")[1] for n in names() if n.startswith(f"{place}.")]
    stems = [n for n in mine if record.stem == n or record.stem.startswith(f"{n}-")]
    for stem in (*sorted(stems, key=len, reverse=True)[:1], "study", "figure"):
        try:
            module = importlib.import_module(f"experiments.{place}.{stem}")
        except ModuleNotFoundError:
            continue
        draw = getattr(module, "draw", None)
        if draw is not None and draw.__module__ == module.__name__:
            known = list(inspect.signature(draw).parameters) == ["record", "file"]
            return draw if known else None
    return None


def main(options: Redraw) -> int:
    pictures = [f for place in PLACES for f in sorted((HERE / place).glob("results/*.png"))]
    left = []
    for picture in pictures:
        record = picture.with_suffix(".json")
        if options.names and not any(n in str(picture) for n in options.names):
            continue
        draw = drawing(record) if record.exists() else None
        if draw is None:
            left.append(str(picture.relative_to(HERE)))
            continue
        place = picture.parent.parent.name
        file = picture if options.out is None else options.out / place / picture.name
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            draw(json.loads(record.read_text()), file)
        except KeyError:  # written before the record had all that is drawn
            left.append(str(picture.relative_to(HERE)))
        else:
            print(file, flush=True)
    if left:
        print("Need a run: " + ", ".join(left), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Redraw, description=__doc__)))
