"""Reports of what the command shows: methods on two networks, on many, inputs joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..figures.colours import colours_of
from ..figures.families import MOST, families_of
from ..figures.inputs import as_images
from ..figures.style import AFTER, BEFORE, GREY
from ..report import Table
from ..study import Comparison, Row, machine
from ..study_inputs import JoinedInputs
from ..study_merging import MergingComparison
from ..study_pairs import PairwiseComparison
from .charts import Chart, Line, limits_of
from .report import Report

_INSIDE = {0.25: "¼", 0.5: "½", 0.75: "¾"}
# Losses below are drawn here, on a logarithmic axis.
_LEAST = 1e-5


def of_comparison(found: Comparison, title: str, facts: Mapping[str, Any]) -> Report:
    """Table, curves of every metric by families of methods, and how each came about.

    **Arguments:**
    - `title`: of what; `facts`: what was run, beside the comparison's own metadata
    """
    report = Report(title, {**facts, **found.metadata})
    colours = colours_of(row.label for row in found.rows)
    report.table("Worst on the path, and barriers", found.table(), colours)
    families = families_of(colours)
    if len(colours) <= MOST:
        families = {"": list(colours)}
    for metric in found.task.metrics:
        charts = _charts(found, metric, families, colours)
        note = "Pale and thin: training data." if len(found.splits) > 1 else ""
        report.charts(f"{_words(metric)} along the path", charts, note)
    report.table("How the paths were made", _made(found.rows), colours)
    return report


def of_pairs(
    found: PairwiseComparison, title: str, facts: Mapping[str, Any], names: Sequence[str]
) -> Report:
    """Means over pairs, and the barrier of every two networks.

    - `names`: of the networks
    """
    first = next(iter(found.comparisons.values()))
    report = Report(title, {**facts, **first.metadata})
    report.table("Means over pairs", found.table(), colours_of(found.labels.values()))
    for method, label in found.labels.items():
        cells = [
            [name, *("" if i == j else f"{v:.4f}" for j, v in enumerate(row))]
            for i, (name, row) in enumerate(zip(names, found.barriers(method), strict=True))
        ]
        report.table(f"{label}: barrier of every two", Table(["network", *names], cells))
    return report


def of_merging(found: MergingComparison, title: str, facts: Mapping[str, Any]) -> Report:
    """Merged networks beside those that they are of, and how each was made."""
    report = Report(title, {**facts, **found.metadata})
    report.table("Merged networks, and those that they are of", found.table())
    cells = [
        [row.label, repr(row.merging.method), row.merging.statistics, f"{row.seconds:.2f}"]
        for row in found.rows
        if row.merging is not None
    ]
    columns = ["method", "as", "batch normalisation", "merged (s)"]
    report.table("How they were made", Table(columns, cells))
    return report


def of_inputs(
    found: JoinedInputs, title: str, facts: Mapping[str, Any], *, shape: Any = None
) -> Report:
    """Table, losses between inputs before and after a bypass, and images along one path.

    - `shape`: of an image, as of `JoinedInputs.plot`
    """
    report = Report(title, {**facts, "bypass": repr(found.how), **machine()})
    report.table("Pairs of inputs", found.table())
    task = next(iter(found.joined.values())).direct.task
    charts = []
    for kind, made in found.joined.items():
        t = np.linspace(0, 1, 201)
        lines = [
            _middle("straight", BEFORE, made.direct.t, made.direct.loss),
            _middle("around the barrier", AFTER, t, made.loss_at(t)),
            Line("δ", GREY, [0.0, 1.0], [found.how.delta] * 2, dim=True),
        ]
        charts.append(Chart(f"{_words(kind)}, {len(made.points)} pairs", task.axis(task.loss),
                            lines, {0.0: "A", **_INSIDE, 1.0: "C"}, logarithmic=True))  # fmt: skip
    charts = _of_one_height(charts, True)
    report.charts("Loss between inputs", charts, "Medians over pairs; bands: 10 to 90 %.")
    rows = _images(found.shown, shape)
    if rows:
        report.images(f"Along the highest barrier of a pair of {found.shown['kind']}", rows)
    return report


def _charts(
    found: Comparison, metric: str, families: Mapping[str, Sequence[str]], colours: dict[str, str]
) -> list[Chart]:
    """A chart a family, the methods of others faint behind, all of one height."""
    rows = [row for row in found.rows if row.curves]
    bold = "test" if "test" in found.splits else found.splits[0]
    charts = []
    for family, labels in families.items():
        mine = [row for row in rows if row.label in labels]
        if not mine:
            continue
        others = [row for row in rows if row.label not in labels]
        lines = [_line(found, row, bold, metric, "#999999", faint=True) for row in others]
        for split in (bold, *(s for s in found.splits if s != bold)):
            lines += [
                _line(found, row, split, metric, colours[row.label], dim=split != bold,
                      named=split == bold)
                for row in mine
            ]  # fmt: skip
        ends = [e for e in dict.fromkeys(row.end for row in mine) if e is not None]
        ticks = {0.0: "A", **_INSIDE, 1.0: " or ".join(ends) or "B"}
        charts.append(Chart(family or _words(metric), found.task.axis(metric), lines, ticks))
    return _of_one_height(charts)


def _line(found: Comparison, row: Row, split: str, metric: str, colour: str, **how: bool) -> Line:
    curve, several = row.curves[split], len(found.splits) > 1
    values = found.task.scale(metric) * np.asarray(curve.values[metric], float)
    name = f"{row.label}, {split}" if several else row.label
    return Line(name, colour, curve.t, values, **how)


def _middle(name: str, colour: str, t: np.ndarray, losses: np.ndarray) -> Line:
    low, middle, high = np.maximum(np.nanquantile(losses, (0.1, 0.5, 0.9), axis=0), _LEAST)
    return Line(name, colour, t, middle, low=low, high=high)


def _of_one_height(charts: list[Chart], logarithmic: bool = False) -> list[Chart]:
    limits = limits_of(charts, logarithmic)
    return [dataclasses.replace(chart, limits=limits) for chart in charts]


def _made(rows: Sequence[Row]) -> Table:
    """Where each path ends, what is known of it, and how long it took."""
    cells = [
        [row.label, row.end or "–", "–" if row.connection is None else row.connection.status,
         *(f"{row.seconds[k]:.2f}" if k in row.seconds else "–" for k in ("connect", "evaluate"))]
        for row in rows
    ]  # fmt: skip
    return Table(["method", "ends at", "status", "connected (s)", "evaluated (s)"], cells)


def _images(shown: Mapping[str, Any], shape: Any) -> dict[str, list[tuple[np.ndarray, str]]]:
    low, high = shown["range"]
    rows = {}
    for name, title in (("straight", "Straight"), ("chain", "Around the barrier")):
        images = as_images(shown[name]["x"], shape)
        if images is None:
            return {}
        rows[title] = [
            ((image - low) / (high - low), f"t = {t:.2f}, class {label}, loss {loss:.2g}")
            for image, t, label, loss in zip(
                images, shown["t"], shown[name]["class"], shown[name]["loss"], strict=True
            )
        ]
    return rows


def _words(metric: str) -> str:
    words = metric.replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}"


__all__ = ["of_comparison", "of_inputs", "of_merging", "of_pairs"]
