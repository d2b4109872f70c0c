"""What the experiments on all papers share."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mcjax import figures
from mcjax.data import Dataset, load
from mcjax.tasks import CLASSIFICATION, Task
from mcjax.training import Protocol, train_networks


@dataclasses.dataclass
class Run:
    """What every experiment takes."""

    smoke: bool = False
    """A few digits and a few units, in seconds: everything runs, no number means anything."""
    quick: bool = False
    """Digits and small networks, in under two minutes."""
    work: Path | None = None
    """Folder of checkpoints and partial results, from which a run goes on (default: in
    mcjax-runs; with --smoke and --quick inside that of the results)."""
    out: Path | None = None
    """Folder of the results (default: results beside the experiment; with --smoke and --quick the
    work folder)."""

    @property
    def small(self) -> bool:
        return self.smoke or self.quick

    def working(self, paper: str, name: str) -> Path:
        """The folder of checkpoints and partial results."""
        if self.work is not None:
            return self.work
        if self.small and self.out is not None:
            return self.out / name
        size = "-smoke" if self.smoke else "-quick" if self.quick else ""
        return Path("mcjax-runs") / paper / f"{name}{size}"

    def results(self, working: Path, experiment: str) -> Path:
        """The folder of the results; `experiment`: the experiment's `__file__`."""
        if self.out is not None:
            return self.out
        return working if self.small else Path(experiment).parent / "results"


def digits(smoke: bool) -> Dataset:
    """scikit-learn's digits; for a smoke run a few of them."""
    data = load("digits")
    if not smoke:
        return data
    few = data.first(192)
    return dataclasses.replace(few, x_test=few.x_test[:64], y_test=few.y_test[:64])


def write(file: Path, content: str | bytes | Mapping[str, Any]) -> None:
    """Text, bytes or a record (as JSON) into a file that is either whole or not there."""
    if isinstance(content, Mapping):
        content = json.dumps(content)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, file)


def done(*files: Path) -> None:
    """Say where the results are."""
    print("Written: " + ", ".join(map(str, files)))


def trained(
    model: Any, data: tuple[Any, Any], seeds: Sequence[int], protocol: Protocol, *,
    directory: Path, label: str, task: Task = CLASSIFICATION,
) -> list[Any]:  # fmt: skip
    """Networks from different seeds, with a progress bar, resumed from their last epoch."""
    with tqdm(total=protocol.epochs, desc=label, leave=False) as bar:

        def progress(epoch: int, losses: np.ndarray) -> None:
            bar.update(epoch + 1 - bar.n)
            bar.set_postfix_str(f"loss {losses.mean():.4f}")

        return train_networks(
            model.apply, lambda key: model.init(key, data[0][:1]), data, seeds, protocol,
            task=task, directory=directory, progress=progress,
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
    """Lines side by side in panels, with their names at their ends; a label has one colour.

    **Arguments:**
    - `ticks`: names of x = 0, 1, 2, … where x is no number
    """
    colours = figures.colours_of(label for p in panels for label in p[3])
    with figures.house_style():
        drawn, whole = figures.new_panels(len(panels), len(panels), width=4.9, height=3.7)
        for panel, (title, x_label, y_label, lines) in zip(drawn, panels, strict=True):
            for label, (x, y, *spread_) in lines.items():
                marker = "o" if ticks or len(x) < 15 else None
                figures.line(panel, x, y, colours[label], marker=marker, ms=4)
                if spread_ and np.any(spread_[0]):
                    low, high = np.asarray(y) - spread_[0], np.asarray(y) + spread_[0]
                    figures.band(panel, x, low, high, colours[label])
            panel.set(title=title, xlabel=x_label, ylabel=y_label)
            if ticks:
                panel.set_xticks(range(len(ticks)), ticks, rotation=60, ha="right", fontsize=7)
        for panel, (_, _, _, lines) in zip(drawn, panels, strict=True):
            ends = {label: (float(line[1][-1]), colours[label]) for label, line in lines.items()}
            figures.end_labels(panel, ends)
        figures.save_figure(whole, path)
