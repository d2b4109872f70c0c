"""`python -m experiments.strangers`: every model of the table, each in a process of its own.

What has been measured before, by the folder of the results, is kept: `--only` measures again. So
frameworks may be installed in several environments, and their rows end in one table.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import sys
from pathlib import Path
from typing import Any

import jax
import tyro

from ..benchmarks.machine import processor
from ..common import done, write
from .processes import Processes
from .row import Row
from .table import PLACES, absent, rows, table, works

TOP = """# Strangers' models

Random weights, a process a model. Traced; permuted at random; the permutation found again by
weight matching, every leaf to the bit; a curve of 5 points evaluated along the segment to the
permuted network. ✓: groups of every shape are as many as were counted without mcjax from the
architecture. Times are CPU seconds of all cores, with compilation (XLA's optimisations are off);
peak memory is the process's, with the packages that it has imported.
"""


@dataclasses.dataclass
class Strangers:
    """Measure the models that are not in the results yet, and write the table."""

    out: Path = Path(__file__).parent / "results"
    """Folder of the results."""
    only: tuple[str, ...] = ()
    """Patterns of models to measure (again), as "Keras*" or "*: ResNet50"."""
    all: bool = False
    """Measure all models again."""


def main(options: Strangers) -> int:
    file = options.out / "strangers.json"
    known = rows()
    found = kept(file, known)
    every = rows(installed=True)
    for framework in PLACES:
        if packages := absent(framework):
            print(f"{framework}: skipped, not installed: {packages}")
    if options.only:
        work = [r for r in every if any(fnmatch.fnmatch(r.key, p) for p in options.only)]
    else:
        work = [r for r in every if options.all or r.key not in found]
    processes = Processes()
    for number, row in enumerate(work, 1):
        record = processes.measure(row)
        found = kept(file, known) | {row.key: record}  # with what others have measured meanwhile
        write(file, json.dumps({"models": dict(sorted(found.items()))}, indent=1) + "\n")
        state = "; ".join(record["failures"]) or "works"
        print(f"{number} of {len(work)}: {row.key}: {state[:300]}", flush=True)
    on = f"Measured on {processor()}, JAX {jax.__version__}."
    write(options.out / "strangers.md", f"{TOP}\n<!-- table -->\n{on}\n\n{table(known, found)}")
    done(file, options.out / "strangers.md")
    return sum(works(found[r.key]) == bool(r.broken) for r in known if r.key in found)


def kept(file: Path, known: list[Row]) -> dict[str, Any]:
    """The records of models that are still in the table."""
    found = json.loads(file.read_text())["models"] if file.exists() else {}
    return {r.key: found[r.key] for r in known if r.key in found}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Strangers, description=__doc__)))
