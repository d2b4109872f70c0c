"""`python -m experiments.strangers`: every model of the table, each in a process of its own.

What has been measured before, by the folder of the results, is kept: `--only` measures again.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import tyro
from tqdm import tqdm

from mcjax.study import machine

from ..benchmarks.machine import processor
from ..common import done, write
from .row import Row
from .table import rows, table, works

TOP = """# Strangers' models

Random weights, one process a model. Traced; permuted at random; the permutation found again by
weight matching, every leaf to the bit; a curve of 5 points evaluated along the segment to the
permuted network. ✓: groups of every shape are as many as were counted by hand from the
architecture. Times are CPU seconds of all cores, with compilation; peak memory is the process's,
with its packages. XLA's optimisations are off.
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
    every = rows(installed=True)
    if options.only:
        work = [r for r in every if any(fnmatch.fnmatch(r.key, p) for p in options.only)]
    else:
        work = [r for r in every if options.all or r.key not in found]
    bar = tqdm(work, leave=False)
    for row in bar:
        bar.set_description(row.key)
        found[row.key] = in_a_process(row)
        write(file, json.dumps({"models": dict(sorted(found.items()))}, indent=1) + "\n")
        state = "; ".join(found[row.key]["failures"]) or "ok"
        tqdm.write(f"{row.key}: {state[:200]}")
    known = rows()
    on = f"Measured on {processor()}, JAX {jax.__version__}, {machine()['python']}."
    write(options.out / "strangers.md", f"{TOP}\n{on}\n\n{table(known, found)}")
    done(file, options.out / "strangers.md")
    return sum(not works(found[r.key]) for r in known if r.key in found)


def in_a_process(row: Row) -> dict[str, Any]:
    """The record of a model; if its process dies or takes too long that is the record."""
    command = [sys.executable, "-m", "experiments.strangers.measure", row.key]
    try:
        out = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=row.seconds,
            env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        )
    except subprocess.TimeoutExpired:
        return {"failures": [f"not done after {row.seconds:.0f} s"]}
    try:
        return json.loads(out.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        said = (out.stderr.strip().splitlines() or [""])[-1][:200]
        return {"failures": [f"the process ended with {out.returncode}: {said}"]}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Strangers, description=__doc__)))
