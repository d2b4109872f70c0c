"""Figures of the experiments drawn from the numbers beside them."""

from __future__ import annotations

import json

import pytest

from experiments.redraw import HERE, Redraw, drawing, main

RECORDS = sorted(
    f.with_suffix(".json") for f in HERE.glob("*/results/*.png") if f.with_suffix(".json").exists()
)
FEW = ("figure7-mlp-mnist", "figure2-tiny-ten-cifar10", "figure1-mnist", "dropout")


def drawn(record, folder):
    file = folder / f"{record.stem}.png"
    draw = drawing(record)
    assert draw is not None, record
    draw(json.loads(record.read_text()), file)
    return file.read_bytes()


def test_a_few(tmp_path):
    some = [r for r in RECORDS if r.stem in FEW]
    assert len(some) == len(FEW)
    for record in some:
        assert drawn(record, tmp_path).startswith(b"\x89PNG")


@pytest.mark.slow
def test_all(tmp_path, capsys):
    assert main(Redraw(out=tmp_path)) == 0
    there = {f"{f.parent.name}/{f.stem}" for f in tmp_path.glob("*/*.png")}
    assert there == {f"{r.parent.parent.name}/{r.stem}" for r in RECORDS}
    assert capsys.readouterr().err == ""


def test_records_that_lack_what_is_drawn_are_said(tmp_path, monkeypatch, capsys):
    """A record without images, a picture without a record, one that no module draws."""
    folder = tmp_path / "vrabel2024" / "results"
    folder.mkdir(parents=True)
    for name in ("figure1-mnist", "figure3-mnist", "figures"):
        (folder / f"{name}.png").write_bytes(b"")
    whole = json.loads((HERE / "vrabel2024" / "results" / "figure1-mnist.json").read_text())
    (folder / "figure1-mnist.json").write_text(
        json.dumps({k: v for k, v in whole.items() if k != "images"})
    )
    (folder / "figures.json").write_text("{}")
    monkeypatch.setattr("experiments.redraw.HERE", tmp_path)
    assert main(Redraw()) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip().split(": ")[1].split(", ") == [
        f"vrabel2024/results/{name}.png" for name in ("figure1-mnist", "figure3-mnist", "figures")
    ]
    assert (folder / "figure1-mnist.png").read_bytes() == b""
