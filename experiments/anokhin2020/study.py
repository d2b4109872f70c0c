"""What every table needs: networks, paths between pairs of them, and a table beside the paper's.

Whatever takes time is written to a folder as soon as it is there (checkpoints, connection models,
one JSON for each pair and method), so that an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import mcjax
from mcjax.data import Dataset
from mcjax.evaluation import Curve
from mcjax.figures.curves import draw_curves
from mcjax.methods import FLOWS, PRESETS, Flow, with_protocol
from mcjax.path import Knots
from mcjax.study import machine
from mcjax.training import Protocol

from ..common import done, over_pairs, peak_memory, spread, trained
from ..common import write as write_file

# Methods that are not in the tables of the paper need no number beside ours.
Paper = Mapping[str, Any]


@dataclasses.dataclass
class Study:
    """Networks of one kind on one data set, and everything that is done with them.

    - `model`: a flax module; `data`: images
    - `protocol`: of the end points; `chain`: of the trained chains
    - `folder`: where what was computed is kept
    """

    name: str
    model: Any
    data: Dataset
    protocol: Protocol
    chain: Protocol
    folder: Path
    points: int = 21

    def __post_init__(self) -> None:
        self.apply = self.model.apply
        self.train_data = (self.data.x_train, self.data.y_train)
        self.test_data = (self.data.x_test, self.data.y_test)

    def networks(self, seeds: Sequence[int], kind: str) -> list[Any]:
        """Trained networks, all in one vmapped scan, resumed from their last epoch."""
        return trained(
            self.model, self.train_data, seeds, self.protocol,
            directory=self.folder / kind, label=f"{self.name}: training {len(seeds)} {kind}",
        )  # fmt: skip

    def trace(self, params: Any) -> mcjax.network.network.Network:
        return mcjax.trace(self.apply, params, self.data.x_train[:2])

    def measure(
        self, pair: int, method: str, a: Any, b: Any, models: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The curves of a path between two networks, from the folder if they are there."""
        file = self.folder / f"pair{pair}-{method}.json"
        if file.exists():
            return json.loads(file.read_text())
        x, y = self.train_data
        start = time.perf_counter()
        network = self.trace(a)
        if method in FLOWS:
            chosen: Any = Flow((models or {})[method])
        else:
            chosen = with_protocol(PRESETS[method], self.chain)
        some = x[:10_000] if chosen.needs_inputs == "sample" else x
        made = mcjax.connect(network, a, b, chosen, x=some, y=y, key=jax.random.key(pair))
        path, built = made.path, time.perf_counter()
        legs = len(path.sections()) > 1
        t: Any = path.grid(10) if legs else np.linspace(0, 1, self.points)
        if path.costly:
            path = Knots.of(path, t)
        curves = {
            split: mcjax.evaluate(path, self.apply, data, t, statistics=x[:10_000])
            for split, data in (("train", self.train_data), ("test", self.test_data))
        }
        record = {
            "method": method, "pair": pair, "curves": {s: c.to_dict() for s, c in curves.items()},
            "seconds": {"construct": built - start, "evaluate": time.perf_counter() - built},
            "adjusted": [
                {n: [dataclasses.asdict(s) for s in status] for n, status in leg.layers.items()}
                for leg in made.legs
            ],
            "peak_memory_GB": peak_memory(),
        }  # fmt: skip
        write_file(file, record)
        return record


def label_of(method: str) -> str:
    """The name that a table shows."""
    return FLOWS.get(method) or PRESETS[method].label


Results = dict[str, list[dict[str, Any]]]


def highest_peak(results: Results) -> float:
    """The most memory that any of the runs behind the results has held, in GB."""
    runs = [r["peak_memory_GB"] for records in results.values() for r in records]
    return max(peak_memory(), *runs)


def measure_all(
    study: Study, networks: Sequence[Any], methods: Sequence[str],
    models: Mapping[str, Any] | None = None,
) -> Results:  # fmt: skip
    """Method → one record for each disjoint pair of the networks."""
    pairs = range(len(networks) // 2)
    work = [(m, p) for m in methods for p in pairs]
    out: Results = {m: [] for m in methods}
    bar = tqdm(work, leave=False)
    for method, pair in bar:
        bar.set_description(f"{study.name}: {label_of(method)}, pair {pair}")
        a, b = networks[2 * pair : 2 * pair + 2]
        out[method].append(study.measure(pair, method, a, b, models))
    return out


def worst(record: Mapping[str, Any], split: str) -> float:
    """Worst accuracy along a path, in percent."""
    return 100 * min(record["curves"][split]["accuracy"])


def ends(record: Mapping[str, Any], split: str) -> float:
    """Mean accuracy of the two end points, in percent."""
    accuracy = record["curves"][split]["accuracy"]
    return 50 * (accuracy[0] + accuracy[-1])


def table(study: Study, results: Results, paper: Paper) -> str:
    """Ours and the paper's numbers, a row a method, the end points last."""
    pairs = len(next(iter(results.values())))
    lines = [
        f"Worst accuracy (%) along the path, {over_pairs(pairs)}.",
        f"{len(study.data.x_train):,} training images; end points trained for "
        f"{study.protocol.epochs} epochs, chains for {study.chain.epochs}.",
        "", "| method | train | paper | test | paper |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    rows: list[tuple[str, str, Callable]] = [(m, label_of(m), worst) for m in results]
    rows.append(("endpoints", "End points", ends))
    for method, label, value in rows:
        records = results.get(method, next(iter(results.values())))
        cells = []
        for split, reported in zip(("train", "test"), paper.get(method, (None, None)), strict=True):
            ours = np.array([value(r, split) for r in records])
            cells += [
                spread(ours),
                "–" if reported is None else "{:.2f} ± {:.2f}".format(*reported),
            ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The curves of every method: means over pairs, and their range."""
    curves, ends = {}, {}
    for method, records in record["results"].items():
        curves[label_of(method)] = {
            split: [Curve.from_dict(r["curves"][split]) for r in records]
            for split in ("train", "test")
        }
        ends[label_of(method)] = "P·B" if method.startswith("ot") else "B"
    draw_curves(curves, file, ends=ends)


def write(out: Path, name: str, study: Study, results: Results, text: str, **more: Any) -> None:
    """JSON, Markdown and the figure."""
    record = {
        "machine": machine(), "data": study.data.name, "model": repr(study.model),
        "protocol": study.protocol.to_dict(), "chain": study.chain.to_dict(),
        "results": results, **more,
    }  # fmt: skip
    files = [out / f"{name}.{kind}" for kind in ("json", "md", "png")]
    write_file(files[0], record)
    write_file(files[1], text)
    draw(record, files[2])
    done(*files)
