"""The experiments' quick runs: every table and figure of a paper, on digits."""

from __future__ import annotations

import json

import pytest

from experiments.anokhin2020 import figure5, figure7, table1, table2


def test_table1(tmp_path, capsys):
    options = table1.Table1(quick=True, pairs=1, work=tmp_path)
    table1.main(options)
    shown = capsys.readouterr().out
    for label in ("IAF flow", "RealNVP bijection", "OT + WA", "Garipov (5)", "End points"):
        assert label in shown
    found = json.loads((tmp_path / "table1-digits.json").read_text())
    assert (tmp_path / "table1-digits.png").read_bytes().startswith(b"\x89PNG")
    worst = {m: min(r[0]["curves"]["train"]["accuracy"]) for m, r in found["results"].items()}
    assert worst["linear+wa"] > worst["linear"]
    assert worst["ot"] > worst["linear"]
    # The permuted B and B are the same function; one swap at a time stays closest to it.
    highest = []
    for row in found["swaps"]:
        loss = row["curve"]["loss"]
        assert loss[0] == pytest.approx(loss[-1], rel=1e-4)
        highest.append(max(loss))
    assert highest[0] == min(highest)
    # What is in the folder is not computed again.
    file = tmp_path / "pair0-linear.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mark": 1}))
    study = table1.study_of(options)
    assert study.measure(0, "linear", None, None)["mark"] == 1


def test_table2(tmp_path, capsys):
    table2.main(table2.Table2(quick=True, pairs=1, work=tmp_path))
    assert "OT + B-fly" in capsys.readouterr().out


def test_figure5(tmp_path):
    figure5.main(figure5.Figure5(quick=True, steps=3, work=tmp_path))
    few, every = json.loads((tmp_path / "figure5-digits.json").read_text())["panels"]
    assert (few["examples"], every["examples"]) == (96, 1437)


def test_figure7(tmp_path):
    figure7.main(figure7.Figure7(quick=True, members=3, work=tmp_path))
    rows = json.loads((tmp_path / "figure7-digits.json").read_text())["rows"]
    cost = {(r["kind"], r["members"]): r["multiply_adds"] for r in rows}
    assert cost["Ind", 3] == 3
    assert cost["WA(1)", 3] == pytest.approx(1)
    assert 1 < cost["WA(2)", 3] < cost["WA(3)", 3] < 3
