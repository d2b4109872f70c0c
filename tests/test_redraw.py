"""Figures of the experiments drawn from the numbers beside them."""

from __future__ import annotations

import json

import pytest

from experiments.redraw import HERE, Redraw, drawing, main

RECORDS = sorted(
    f.with_suffix(".json") for f in HERE.glob("*/results/*.png") if f.with_suffix(".json").exists()
)
# Their records did not have all that is drawn when they were written.
NEED_A_RUN = {f"figure{k}-cifar10" for k in (1, 3, 5, 7, 12)}
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
def test_all_but_those_that_need_a_run(tmp_path, capsys):
    assert main(Redraw(out=tmp_path)) == 0
    there = {f"{f.parent.name}/{f.stem}" for f in tmp_path.glob("*/*.png")}
    wanted = {f"{r.parent.parent.name}/{r.stem}" for r in RECORDS}
    missing = wanted - there
    assert missing == {f"vrabel2024/{name}" for name in NEED_A_RUN}
    said = capsys.readouterr().err
    assert all(f"{name.replace('/', '/results/')}.png" in said for name in missing)
