"""Terminals that know few letters, and narrow ones."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from mcjax.cli.command import run

from .own import own


class Ascii(io.TextIOWrapper):
    """A stream that knows no letters but ASCII's."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="ascii", write_through=True)

    def text(self):
        return self.buffer.getvalue().decode("ascii")


def test_ascii_terminals(here, monkeypatch):
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, Ascii())
    with pytest.raises(SystemExit) as stop:
        run(["connect", "--help"])
    assert stop.value.code == 0
    assert run(own(here, "--methods", "linear", "--points", "2", "--out", "é")) == 0
    shown = sys.stdout.text()
    assert "(params, x) -> logits" in shown
    assert "Written to e:" in shown
    assert sys.stderr.text() == ""  # no bars where nobody watches


def test_a_narrow_terminal_cuts_no_number(here, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    assert run(own(here, "--methods", "linear", "--points", "2", "--out", "out")) == 0
    worst = json.loads(Path("out/results.json").read_text())["methods"]["linear"]["worst"]
    assert f"{100 * worst['train']['accuracy']:.2f}" in capsys.readouterr().out
