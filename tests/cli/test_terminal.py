"""Terminals that know few letters, and narrow ones."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from mcjax.cli.command import run
from mcjax.cli.results import Asked, _say
from mcjax.report import Table

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


@pytest.mark.parametrize("terminal", [30, 80])
def test_a_wide_table_cuts_no_number(terminal, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", str(terminal))
    columns = ["method", *["worst train absolute error"] * 12]
    table = Table(columns, [["Activation matching, full", *["0.123456"] * 12]])
    asked = Asked("a title", tmp_path, points=2, quiet=False, trained=False)
    _say(asked, table, tmp_path, {"table.md": "the table"})
    shown = capsys.readouterr().out
    assert shown.count("0.123456") == 12
    assert "…" not in shown
