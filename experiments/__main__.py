"""`python -m experiments`: what there is to run; with --smoke, everything in seconds each."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import tyro

PLACES = (
    "anokhin2020",
    "ferbach2023",
    "merging",
    "symmetry",
    "tatro2020",
    "vrabel2024",
    "zhao2025",
)
# Files of a paper that are no experiments of their own.
SHARED = (
    "__init__",
    "correlation",
    "endpoints",
    "figure",
    "models",
    "networks",
    "paper",
    "rows",
    "study",
)


@dataclasses.dataclass
class All:
    """List the experiments, or run all of them."""

    smoke: bool = False
    """Run each in seconds."""
    quick: bool = False
    """Run each in under two minutes."""
    out: Path = Path("mcjax-runs/experiments")
    """Folder of the results, a folder a paper inside."""


def names() -> list[str]:
    """`anokhin2020.table1`, …"""
    here = Path(__file__).parent
    found = [(p, f.stem) for p in PLACES for f in sorted((here / p).glob("*.py"))]
    return [f"{place}.{name}" for place, name in found if name not in SHARED]


def main(options: All) -> int:
    failed = []
    for name in names():
        module = f"experiments.{name}"
        if not (options.smoke or options.quick):
            print(f"python -m {module} [--smoke | --quick] [--out FOLDER]")
            continue
        print(f"== {name}", flush=True)
        size = "--smoke" if options.smoke else "--quick"
        out = options.out / name.split(".")[0]
        run = subprocess.run([sys.executable, "-m", module, size, "--out", str(out)], check=False)
        failed += [name] if run.returncode else []
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(All, description=__doc__)))
