"""`mcjax merge`: trained networks, the user's own, what is written, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mcjax
from mcjax.cli.command import run
from mcjax.merge import PRESETS

from .own import OWN


def merging(name, *more):
    """The arguments that merge the two networks."""
    return ["merge", *OWN, "--model", f"{name}:apply_fn", "--inputs", "data.npz", *more]


def test_networks_from_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["merge", "--epochs", "2", "--hidden", "8", "--seeds", "0", "3", "--methods",
                 "soup", "task-arithmetic", "--html", "--out", "results"]  # fmt: skip
    assert run(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "matched (C²M³)" in shown
    assert "Task arithmetic failed" in shown
    results = json.loads(Path("results/results.json").read_text())
    assert list(results["methods"]) == ["soup", "task-arithmetic"]
    assert results["metadata"]["seeds"] == [0, 3]
    assert results["metadata"]["examples"]["train"] > 1000
    # An independent forward of what was written agrees.
    from mcjax.data import load
    from mcjax.models import MLP

    data = load("digits").flat()
    for name, value in (
        ("merged-soup", results["methods"]["soup"]["values"]["test"]["accuracy"]),
        ("network-3", results["networks"]["test"]["accuracy"][1]),
    ):
        params = mcjax.load(f"results/{name}.safetensors")
        correct = np.asarray(MLP((8,)).apply(params, data.x_test)).argmax(-1) == data.y_test
        assert value == pytest.approx(correct.mean(), abs=1e-6)
    assert not Path("results/merged-task-arithmetic.safetensors").exists()
    assert Path("results/merging.png").read_bytes().startswith(b"\x89PNG")
    page = Path("results/report.html").read_text()
    assert f"{value:.2%}"[:-1] in page or f"{100 * value:.2f}" in page
    assert "mcjax merge --epochs 2" in page
    assert "Soup()" in page
    assert "TaskArithmetic(" not in page.split("What was run")[0]
    assert run([*arguments, "--quiet"]) == 0  # the first results stay
    assert "Written to results/run-2:" in capsys.readouterr().out


def test_own_networks_without_matching(here):
    assert run(merging(here, "--no-align", "--methods", "soup", "--out", "results")) == 0
    a, b, made = (mcjax.load(f) for f in (*OWN, "results/merged-soup.safetensors"))
    for name, leaf in made.items():
        np.testing.assert_allclose(leaf, (a[name] + b[name]) / 2, rtol=1e-6)
    assert not Path("results/network-0.safetensors").exists()


def test_own_networks_with_their_base(here, capsys):
    """θ_0 + λ Σ (θ_i − θ_0), in the base's order; all presets but those of two networks run."""
    base = {k: np.asarray(v) * 0.5 for k, v in mcjax.load("a.safetensors").items()}
    mcjax.save("base.safetensors", base)
    assert run(merging(here, "--base", "base.safetensors", "--out", "results")) == 0
    results = json.loads(Path("results/results.json").read_text())
    assert set(results["methods"]) == set(PRESETS)
    assert results["alignment"] == "as they are, in the order of their base"
    assert all(m["error"] is None for m in results["methods"].values()), results["methods"]
    assert set(results["base"]) == {"train"}
    assert results["metadata"]["base"] == "base.safetensors"
    a, b, made = (mcjax.load(f) for f in (*OWN, "results/merged-task-arithmetic.safetensors"))
    scale = PRESETS["task-arithmetic"].scale
    expected = base["w1"] + scale * (a["w1"] - base["w1"] + b["w1"] - base["w1"])
    np.testing.assert_allclose(made["w1"], expected, rtol=1e-5, atol=1e-6)


def test_ones_own_method(here):
    Path(f"{here}_merging.py").write_text("def second(problem):\n    return problem.networks[1]\n")
    method = f"{here}_merging:second"
    assert run(merging(here, "--no-align", "--methods", method, "--out", "results")) == 0
    made, b = (mcjax.load(f) for f in (f"results/merged-{here}_merging-second.safetensors", OWN[1]))
    np.testing.assert_array_equal(made["w1"], b["w1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["merge", "--base", "a.safetensors"], "--base go with files of parameters"),
     (["merge", "--seeds", "1"], "--seeds must be two or more different ones"),
     (["merge", "--task", "regression"], "--task goes with files of parameters"),
     (["merge", "--methods", "sup"], "did you mean 'soup'"),
     (["merge", "a.safetensors", "--inputs", "data.npz"], "expected two files of parameters"),
     (["merge", *OWN], "files of parameters need --inputs"),
     (["merge", *OWN, "--inputs", "data.npz"], "needs --model")],
)  # fmt: skip
def test_mistakes_are_one_line(here, capsys, arguments, message):
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_by_default_what_can_be_run(here, capsys):
    arguments = [*merging(here), "--out", "results"]
    assert run([arguments[0], "a.safetensors", *arguments[1:]]) == 0  # three networks, no base
    methods = set(json.loads(Path("results/results.json").read_text())["methods"])
    assert methods == {"soup", "fisher", "regmean"}
    shown = " ".join(capsys.readouterr().out.split())
    assert "Not run: slerp, zipit, pleas: merge two networks." in shown
    assert "--base" in shown
