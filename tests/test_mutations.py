"""The mutations that `python -m tests.mutations` makes can be made."""

from __future__ import annotations

import shlex
from pathlib import Path

from .mutated import MUTATIONS

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "mcjax"


def test_what_is_broken_stands_there_once():
    counts = {m.name: (PACKAGE / m.file).read_text().count(m.old) for m in MUTATIONS}
    assert {name: n for name, n in counts.items() if n != 1} == {}
    assert [m.name for m in MUTATIONS if m.new == m.old] == []


def test_their_tests_are_there():
    for mutation in MUTATIONS:
        files = shlex.split(mutation.tests.split(" -k ")[0])
        missing = [f for f in files if not (TESTS / f).exists()]
        assert files, mutation.name
        assert not missing, mutation.name
