"""`python -m experiments.tatro2020.figure1`: correlation signatures of end points and midpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax.align import correlation_signature, match_activations
from mcjax.evaluation import estimate_batch_norm
from mcjax.path import Linear

from ..common import Panel, draw_panels
from .study import Options, Study


def signature(study: Study, a: Any, b: Any) -> list[float]:
    return list(correlation_signature(study.network, a, b, study.sample).values())


def midpoint(study: Study, path: Any) -> Any:
    """The network in the middle of a path, with statistics of its own."""
    params = path(0.5)
    if study.network.normalisations.found:
        params = estimate_batch_norm(study.apply, params, study.sample)
    return params


def of_pair(study: Study, pair: int) -> dict[str, list[float]]:
    """Mean correlation at every layer: of the end points, and of midpoints with end point A."""
    a, b = study.pair(pair)
    aligned = study.network.permute(study.alignment(pair).permutations, b)
    found = {"before": signature(study, a, b), "after": signature(study, a, aligned)}
    for kind, end in (("unaligned", b), ("aligned", aligned)):
        middle = midpoint(study, study.curve_of(pair, kind)[0])
        matching = match_activations(study.network, a, middle, study.sample)
        moved = study.network.permute(matching.permutations, middle)
        found[f"{kind}: learned midpoint"] = signature(study, a, middle)
        found[f"{kind}: learned midpoint, aligned"] = signature(study, a, moved)
        found[f"{kind}: midpoint of the segment"] = signature(
            study, a, midpoint(study, Linear(a, end))
        )
    return found


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Means over pairs and one standard deviation, layer by layer."""
    names = record["layers"]
    x = np.arange(len(names))

    def line(key: str) -> tuple:
        values = np.array([p[key] for p in record["pairs"]])
        return x, values.mean(0), values.std(0)

    panels: list[Panel] = [
        ("End points", "", "mean correlation", {
            "before alignment": line("before"), "after alignment": line("after")}),
        *((f"A and the midpoint, {kind} curve", "", "mean correlation", {
            "learned midpoint": line(f"{kind}: learned midpoint"),
            "…, aligned to A": line(f"{kind}: learned midpoint, aligned"),
            "of the segment": line(f"{kind}: midpoint of the segment")})
          for kind in ("unaligned", "aligned")),
    ]  # fmt: skip
    draw_panels(panels, file, ticks=names)


def main(options: Options) -> None:
    study = Study(options)
    pairs = [of_pair(study, p) for p in range(study.pairs)]
    names = list(correlation_signature(study.network, *study.pair(0), study.sample))
    study.write("figure1", draw=draw, layers=names, pairs=pairs)


if __name__ == "__main__":
    main(tyro.cli(Options))
