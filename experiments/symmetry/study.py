"""What the tables on transformers share: end points, rows measured one by one, table, figure."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mcjax
from mcjax.evaluation import Curve
from mcjax.study import machine
from mcjax.tasks import NEXT_TOKEN

from ..common import Run, done, trained, write
from .endpoints import AdamW, Problem
from .figure import draw
from .rows import ROWS, Pair, Row


@dataclasses.dataclass
class Options(Run):
    """Two transformers from different seeds, joined in every way."""

    epochs: int | None = None
    """Epochs of the end points (default: what the committed results have)."""
    learning_epochs: int = 2
    """Epochs in which an alignment is learned."""
    learning_rate: float = 1e-3
    """Of an alignment's training, at its highest."""
    curve_epochs: int = 2
    """Epochs of a Bézier curve."""
    seeds: tuple[int, int] = (0, 1)
    """Of the two networks."""
    points: int = 21
    """Points of a path that are evaluated."""
    examples: int = 2000
    """Held-out examples that they are evaluated on, at most."""
    rows: tuple[str, ...] = tuple(row.name for row in ROWS)
    """Rows of the table, in the order in which they are computed."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""


class Study:
    """A pair of networks and the rows that are measured on it, each kept in the work folder."""

    def __init__(self, options: Options, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.folder = options.working("symmetry", problem.name)
        self.out = options.results(self.folder, __file__)
        epochs = (1, 1) if options.small else (options.learning_epochs, options.curve_epochs)
        batch = problem.protocol.batch
        self.learning, self.curves = (AdamW(n, batch, weight_decay=0.0) for n in epochs)
        self.learning = dataclasses.replace(self.learning, learning_rate=options.learning_rate)
        self.points = 5 if options.smoke else options.points
        self.test = tuple(v[: options.examples] for v in problem.test)

    @cached_property
    def networks(self) -> list[Any]:
        """A folder for each seed: another seed trains that network alone."""
        p = self.problem
        return [
            trained(
                p.model, p.train, [seed], p.protocol, task=p.task,
                directory=self.folder / f"endpoint{seed}", label=f"{p.name}, seed {seed}",
            )[0]
            for seed in self.options.seeds
        ]  # fmt: skip

    @cached_property
    def pair(self) -> Pair:
        """The networks as they were trained."""
        a, b = self.networks
        network = mcjax.trace(self.problem.model.apply, a, self.problem.train[0][:2])
        return Pair(
            self.problem, network, a, b, self.learning, self.curves, self.folder, jax.random.key(0)
        )

    def measure(self, row: Row) -> dict[str, Any]:
        """The curve of a row on held-out data, and the processor's seconds until its path stood."""
        file = self.folder / f"{row.name}.json"
        if file.exists():
            return json.loads(file.read_text())
        pair = self.pair.absorbed if row.absorbed else self.pair
        wall, cpu = time.perf_counter(), time.process_time()
        path, told = row.find(pair)
        record = {
            "label": row.label, "form": "absorbed" if row.absorbed else "as trained", **told,
            "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu,
        }  # fmt: skip
        model, task = self.problem.model, self.problem.task
        curve = mcjax.evaluate(path, model.apply, self.test, self.points, task=task)
        record["curve"] = curve.to_dict()
        write(file, record)
        return record

    def run(self) -> None:
        """Measure the rows, show and write the table, draw the figure."""
        by_name = {row.name: row for row in ROWS}
        results = {}
        for name in self.options.rows:
            results[name] = self.measure(by_name[name])
            print(table_row(results[name]), flush=True)
        results = {name: results[name] for name in by_name if name in results}
        stem = self.out / self.problem.name
        text = table(self.problem, len(self.test[0]), self.options.seeds, list(results.values()))
        files = [stem.with_suffix(s) for s in (".json", ".md", ".png")]
        record = {
            "machine": machine(), "model": repr(self.problem.model), "seeds": self.options.seeds,
            "endpoints": self.problem.protocol.to_dict(), "learning": self.learning.to_dict(),
            "curves": self.curves.to_dict(), "results": results,
        }  # fmt: skip
        write(files[0], record)
        write(files[1], text)
        draw(record, files[2])
        print(text)
        done(*files)


def curve_of(record: dict[str, Any]) -> Curve:
    return Curve.from_dict(record["curve"])


def cells(record: dict[str, Any]) -> list[str]:
    """A row: barriers, what the network in the middle is worth, the processor's seconds."""
    curve = curve_of(record)
    loss, middle = curve.loss, len(curve.t) // 2
    above = float(loss.max() - (loss[0] + loss[-1]) / 2)
    return [
        record["label"], record["form"], f"{curve.barrier():.3f}", f"{above:.3f}",
        f"{loss[middle]:.3f}", f"{worth(curve, middle):.2f}", f"{record['cpu_seconds']:.0f}",
    ]  # fmt: skip


def worth(curve: Curve, i: int) -> float:
    """Perplexity of next tokens, else accuracy in percent."""
    tokens = curve.task == NEXT_TOKEN
    return float(np.exp(curve.loss[i])) if tokens else 100 * float(curve.accuracy[i])


def table_row(record: dict[str, Any]) -> str:
    return f"| {' | '.join(cells(record))} |"


def table(
    problem: Problem, examples: int, seeds: Sequence[int], records: Sequence[dict[str, Any]]
) -> str:
    """Markdown; losses in nats."""
    ends = curve_of(records[0])
    what = "perplexity" if ends.task == NEXT_TOKEN else "accuracy (%)"
    of_ends = "; ".join(
        f"seed {s}: loss {ends.loss[i]:.3f}, {what} {worth(ends, i):.2f}"
        for s, i in zip(seeds, (0, -1), strict=True)
    )
    lines = [
        f"{problem.name}: held-out loss (nats, {examples:,} examples) at "
        f"{len(ends.t)} points of each path.",
        f"End points after {problem.protocol.epochs} epochs: {of_ends}.",
        "",
        f"| path | parameters | barrier | above mean of ends | loss at ½ | {what} at ½ | CPU s |",
        "|---|---|---:|---:|---:|---:|---:|",
        *map(table_row, records),
    ]
    return "\n".join(lines) + "\n"
