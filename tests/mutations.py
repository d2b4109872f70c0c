"""Tests of the tests: each mutation breaks a line of the package, and some test must fail.

    python -m tests.mutations             # all of them: long
    python -m tests.mutations arc sweep   # those whose names hold one of these words

A mutation is a line of a core function altered or taken out, and the tests that should see it. The
tests are first run as they are: they must pass. One that survives is a line that nothing tests.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .mutated import MUTATIONS, Mutation

REPOSITORY = Path(__file__).resolve().parent.parent
_COPIED = ("mcjax", "tests", "experiments", "pyproject.toml", "README.md")


def main(words: list[str]) -> int:
    """Run the mutations chosen; the number of those that survive."""
    chosen = [m for m in MUTATIONS if not words or any(w in m.name for w in words)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _COPIED:
            place = REPOSITORY / name
            (shutil.copytree if place.is_dir() else shutil.copy)(place, copy / name)
        for tests in dict.fromkeys(m.tests for m in chosen):
            passed, words_of_it = _run(tests, copy)
            if not passed:
                sys.exit(f"tests/{tests} fails without any mutation: {words_of_it}")
        survived = [m for m in chosen if not _killed(m, copy)]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} killed")
    return len(survived)


def _killed(mutation: Mutation, copy: Path) -> bool:
    file = copy / "mcjax" / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        sys.exit(f"{mutation.name!r}: {mutation.old!r} must stand once in {mutation.file}")
    file.write_text(text.replace(mutation.old, mutation.new))
    begin = time.perf_counter()
    try:
        passed, by = _run(mutation.tests, copy)
    finally:
        file.write_text(text)
    took = f"{time.perf_counter() - begin:4.0f} s"
    print(f"{'SURVIVES' if passed else 'killed  '} {took}  {mutation.name}  {by}", flush=True)
    return not passed


def _run(tests: str, copy: Path) -> tuple[bool, str]:
    """Whether the tests pass; the first that does not, or what pytest says."""
    arguments = [
        str(copy / "tests" / a) if (REPOSITORY / "tests" / a).exists() else a
        for a in shlex.split(tests)
    ]
    pytest = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest, *arguments], cwd=copy, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
    if done.returncode in (4, 5):  # what pytest was asked for is not there
        sys.exit(f"tests/{tests}: {last}")
    return done.returncode == 0, failed[0].partition(" ")[2][:80] if failed else last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
