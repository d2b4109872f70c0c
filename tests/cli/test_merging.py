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
    assert set(results["methods"]) == set(PRESETS) - {"star"}
    assert results["names"] == ["a", "b"]
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
    [(["merge", "--base", "a.safetensors"], "--base goes with files of parameters"),
     (["merge", "--model", "m:f", "--inputs", "x.npz"], "--model and --inputs go with files"),
     (["merge", *OWN, "--seeds", "1"],
      "--seeds goes with trained networks: of files of parameters none is trained"),
     (["merge", *OWN, "--data", "digits", "--epochs", "3", "--hidden", "8"],
      "--data, --epochs and --hidden go with trained networks"),
     (["merge", "--data-dir", "tfds"], "--data-dir goes with --data mnist and cifar10"),
     (["merge", *OWN, "--star-epochs", "3"], "--star-epochs goes with methods that train"),
     (["merge", "--methods", "star", "--star-epochs", "0"], "--star-epochs must be at least 1"),
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
    assert "star: trains a network, and so runs only if --methods names it" in shown
    for place in (shown, Path("results/table.md").read_text()):
        assert "Not run" in place
        for name in ("a", "a (2)", "b"):
            assert f" {name} " in place
        assert "network 0" not in place


def test_networks_have_the_names_of_their_files(here, capsys):
    """In the terminal, the table, the figure's title, the report; of one name by their folders."""
    for k, file in enumerate(OWN):
        Path(f"run{k}").mkdir()
        Path(file).rename(f"run{k}/params.safetensors")
    files = [f"run{k}/params.safetensors" for k in (0, 1)]
    arguments = ["merge", *files, *merging(here)[3:], "--methods", "soup", "--html"]
    assert run(arguments) == 0
    out = Path("mcjax-runs/merge-run0-params-run1-params")
    results = json.loads((out / "results.json").read_text())
    assert results["names"] == ["run0/params", "run1/params"]
    everywhere = (capsys.readouterr().out, (out / "table.md").read_text(),
                  (out / "report.html").read_text())  # fmt: skip
    for shown in everywhere:
        assert "run0/params" in shown
        assert "run1/params" in shown
        assert "network 0" not in shown


def test_seeds_are_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["merge", "--epochs", "1", "--hidden", "4", "--seeds", "5", "3", "--methods",
                 "soup", "--out", "results"]  # fmt: skip
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.index("seed 5") < shown.index("seed 3")
    assert json.loads(Path("results/results.json").read_text())["names"] == ["seed 5", "seed 3"]


def test_a_star_is_trained_if_named(here):
    """With a batch of all examples, where there are fewer than in the preset's."""
    more = ["--methods", "soup", "star", "--star-epochs", "3", "--out", "results"]
    assert run(merging(here, *more)) == 0
    assert "inputs, labels, 3 epochs" in Path("results/table.md").read_text()
    results = json.loads(Path("results/results.json").read_text())
    assert results["methods"]["star"]["error"] is None
    assert "epochs=3, batch=40" in results["metadata"]["methods"]["star"]
    assert Path("results/merged-star.safetensors").exists()
    soup, star = (results["methods"][m]["values"]["train"]["loss"] for m in ("soup", "star"))
    assert star < soup
