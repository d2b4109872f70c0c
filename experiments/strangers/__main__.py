"""`python -m experiments.strangers`: every model of the table, each in a process of its own.

What has been measured before, by the folder of the results, is kept: `--only` measures again.
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
from .table import rows, table, works

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
    found: dict[str, Any] = json.loads(file.read_text())["models"] if file.exists() else {}
    known = rows()
    found = {r.key: found[r.key] for r in known if r.key in found}
    every = rows(installed=True)
    if options.only:
        work = [r for r in every if any(fnmatch.fnmatch(r.key, p) for p in options.only)]
    else:
        work = [r for r in every if options.all or r.key not in found]
    processes = Processes()
    for number, row in enumerate(work, 1):
        found[row.key] = processes.measure(row)
        write(file, json.dumps({"models": dict(sorted(found.items()))}, indent=1) + "\n")
        state = "; ".join(found[row.key]["failures"]) or "works"
        print(f"{number} of {len(work)}: {row.key}: {state[:300]}", flush=True)
    on = f"Measured on {processor()}, JAX {jax.__version__}."
    write(options.out / "strangers.md", f"{TOP}\n<!-- table -->\n{on}\n\n{table(known, found)}")
    done(file, options.out / "strangers.md")
    return sum(not works(found[r.key]) for r in known if r.key in found)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Strangers, description=__doc__)))
