"""Tables and figures of the papers: what their quick runs show."""

from __future__ import annotations

import json

import pytest

from experiments.anokhin2020 import figure5, figure7, table1, table2
from experiments.tatro2020 import figure1, figure2, figure3, figure4
from experiments.tatro2020 import table1 as curves_table
from experiments.tatro2020 import table2 as losses_table
from experiments.tatro2020 import table3 as rates_table
from experiments.tatro2020.study import Options
from experiments.zhao2025 import figure1 as components
from experiments.zhao2025 import figure2 as segments
from experiments.zhao2025 import figure3 as approximate
from experiments.zhao2025 import figure4 as rescaled
from experiments.zhao2025 import heads, traced
from experiments.zhao2025.study import Options as ZhaoOptions

pytestmark = pytest.mark.slow


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


# -- tatro2020: all tables and figures share the networks and curves in one folder --------------


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("tatro2020")


def read(work, name):
    return json.loads((work / f"{name}.json").read_text())


def test_curves_of_tatro2020(work, capsys):
    options = Options(quick=True, work=work)
    curves_table.main(options)
    losses_table.main(options)
    shown = capsys.readouterr().out
    for label in ("Unaligned (Garipov)", "PAM unaligned", "PAM aligned", "Aligned", "End points"):
        assert label in shown
    results = read(work, "table1-mlp-digits")["results"]
    worst = {k: min(r[0]["curves"]["test"]["accuracy"]) for k, r in results.items()}
    assert worst["aligned"] > worst["unaligned"]
    for kind in ("pam-unaligned", "pam-aligned"):
        objective = results[kind][0]["objective"]
        assert objective == sorted(objective, reverse=True)
    losses = read(work, "table2-mlp-digits")["losses"]
    assert losses["aligned"][0] < losses["unaligned"][0]


def test_figures_of_tatro2020(work):
    options = Options(quick=True, work=work)
    for figure in (figure1, figure2, figure3):
        figure.main(options)
        assert (work / f"{figure.__name__.split('.')[-1]}-mlp-digits.png").exists()
    (pair,) = read(work, "figure1-mlp-digits")["pairs"]
    assert min(pair["after"]) > max(pair["before"])
    planes = read(work, "figure3-mlp-digits")["planes"]
    assert set(planes) == {"ends", "unaligned", "aligned"}
    assert len(planes["ends"]["values"]["accuracy"]) == 7


def test_rates_of_tatro2020(work):
    rates_table.main(rates_table.Table3(quick=True, work=work))
    accuracy = read(work, "table3-mlp-digits")["accuracy"]
    assert set(accuracy["aligned"]) == {"0.01/32", "0.05/32"}


def test_robust_curves_of_tatro2020(tmp_path):
    figure4.main(Options(quick=True, work=tmp_path))
    results = read(tmp_path, "figure4-mlp-digits-robust")["results"]
    for kind in ("unaligned", "aligned"):
        clean, robust = (
            min(results[kind][k][0]["curves"]["test"]["accuracy"]) for k in ("clean", "robust")
        )
        assert robust < clean


# -- zhao2025 ------------------------------------------------------------------------------------


def record_of(module, options):
    module.main(options)
    name = module.__name__.split(".")[-1]
    return json.loads((options.out / f"{name}.json").read_text())


def test_components_of_zhao2025(tmp_path):
    found = record_of(components, ZhaoOptions(quick=True, out=tmp_path))
    assert found["flood"] == {"0.0": 4, "1.0": 3, "-0.5": 3}
    assert [r["components"] for r in found["linear"]] == [2, 4, 8]
    for row in found["linear"]:
        assert row["joined"][0] < row["joined"][1] == row["pairs"]
        assert row["highest loss on paths"] < 1e-8 * row["norm"]
    assert set(found["residual"]["labels"]) == {0, 1, -1}


def test_barriers_of_zhao2025(tmp_path):
    found = record_of(rescaled, ZhaoOptions(quick=True, out=tmp_path))["found"]
    for row in (row for network in found for row in network["rows"]):
        assert row["highest"] == pytest.approx(row["predicted"], rel=1e-3)
        assert row["middle"] == pytest.approx(row["predicted_middle"], rel=1e-6)
        assert row["alpha"] == pytest.approx(row["predicted_alpha"], abs=0.01)
        assert row["permuted"] <= row["middle"] * (1 + 1e-9)
    for row in record_of(segments, ZhaoOptions(quick=True, out=tmp_path))["distances"]:
        assert row["distance"] == pytest.approx(row["predicted"], abs=1e-4)


def test_approximate_curves_of_zhao2025(tmp_path):
    found = record_of(approximate, ZhaoOptions(quick=True, out=tmp_path))
    for row in found["networks"]:
        assert row["change"] <= row["norm"]
        assert (row["change"] < 1e-8) == (row["examples"] <= row["hidden"])
    for row in found["curves"][1]["rows"]:
        assert max(map(max, row["gamma"])) < min(map(max, row["segment"]))


def test_traced_networks_of_zhao2025(tmp_path):
    options = ZhaoOptions(quick=True, out=tmp_path)
    found = record_of(traced, options)
    for row in found["along"]:
        assert row["off"] < 1e-3 * row["barrier"]
    for row in found["rescaled"]:
        assert row["last"]["highest"] == pytest.approx(row["predicted"], rel=1e-3, abs=1e-9)
        assert row["last"]["loss"] == pytest.approx(row["predicted_loss"], rel=1e-4)
        bounds = row["permuted"]["lower"], row["permuted"]["upper"], row["predicted"]
        assert list(bounds) == sorted(bounds) or row["m"] == pytest.approx(1)
    for row in (row for rows in found["bounds"].values() for row in rows):
        assert row["distance"] <= row["bound"] * 1.01
        assert row["off"] <= row["loss bound"] * 1.01
    for row in record_of(heads, heads.Heads(quick=True, out=tmp_path))["pairs"]:
        assert row["orbit"] < row["stored"]
