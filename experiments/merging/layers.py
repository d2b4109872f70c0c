"""`python -m experiments.merging.layers`: which layer carries the barrier between two networks from
different seeds, as trained and matched; one layer at a time and all before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import mcjax
from mcjax.evaluation import LayerCurves, evaluate_layers
from mcjax.evaluation.layers import MOVED
from mcjax.figures import house_style, save_figure

from ..common import done, write
from .networks import Options, from_seeds, setting


@dataclasses.dataclass
class Layers(Options):
    """A barrier for every layer."""

    points: int = 6
    """Number of t."""


# What moves, that has a column of its own; those after it are left out.
SHOWN = MOVED[:2]


def main(options: Layers) -> None:
    of = setting(options)
    a, b = from_seeds(of, 0, options.working("merging", "table"))[:2]
    network = mcjax.trace(of.model.apply, a, of.train[0][:2])
    found = mcjax.align.match_many(network, [a, b])
    train = of.train[0][: of.seen], of.train[1][: of.seen]
    curves = {
        (name, moved): evaluate_layers(network, a, other, train, options.points, moved=moved)
        for name, other in (
            ("as trained", b),
            ("matched", network.permute(found.permutations[1], b)),
        )
        for moved in SHOWN
    }
    folder, name = options.results(options.working("merging", "layers"), __file__), of.name
    record = {"name": name, "examples": len(train[0]), "setting": of.described,
              "curves": {", ".join(k): c.to_dict() for k, c in curves.items()}}  # fmt: skip
    write(folder / f"layers-{name}.json", record)
    write(folder / f"layers-{name}.md", as_markdown(name, len(train[0]), curves))
    draw(record, folder / f"layers-{name}.png")
    done(*(folder / f"layers-{name}.{ending}" for ending in ("json", "md", "png")))


def as_markdown(name: str, examples: int, curves: dict[Any, LayerCurves]) -> str:
    """A row a layer."""
    first = next(iter(curves.values()))
    lines = [
        f"# Layers: {name}", "",
        "Barrier of the training loss above the chord of the two networks' losses (seeds 0 and 1), "
        f"{examples:,} training examples, {len(first.t)} t.", "",
        f"| layer | {' | '.join(', '.join(k) for k in curves)} |", "|---|" + "---:|" * len(curves),
    ]  # fmt: skip
    columns = [c.barriers() for c in curves.values()]
    for k, layer in enumerate(first.layers):
        lines.append(f"| `{layer}` | " + " | ".join(f"{c[k]:.4f}" for c in columns) + " |")
    whole = " | ".join(f"{c.whole_barrier():.4f}" for c in curves.values())
    return "\n".join([*lines, f"| all layers | {whole} |", ""])


def curves_of(record: Mapping[str, Any]) -> LayerCurves:
    """What `LayerCurves.to_dict` made a record of; the task is classification."""
    values, whole = (
        {k: np.asarray(v, float) for k, v in record[name].items()} for name in ("values", "whole")
    )
    t, distances = (np.asarray(record[k], float) for k in ("t", "distances"))
    return LayerCurves(record["leaves"], record["moved"], t, values, whole, distances)


def draw(record: Mapping[str, Any], file: Path) -> None:
    """A panel of bars for each way."""
    from matplotlib.figure import Figure

    curves = {k: curves_of(v) for k, v in record["curves"].items()}
    layers = next(iter(curves.values())).layers
    with house_style():
        figure = Figure(figsize=(10, 2 * (1.2 + 0.24 * max(len(layers), 3))), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True).ravel()
        for panel, (name, found) in zip(panels, curves.items(), strict=True):
            found.plot(ax=panel)
            panel.set_title(name, pad=22)
        save_figure(figure, file)


if __name__ == "__main__":
    main(tyro.cli(Layers))
