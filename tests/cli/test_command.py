"""The command: the main job, the user's own networks, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import mcjax
from mcjax.cli.command import run
from mcjax.methods import PRESETS
from mcjax.models import MLP

from .own import OWN, own


def test_the_main_job(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "results"
    assert (
        run(["connect", "--epochs", "3", "--hidden", "24", "--points", "5", "--out", str(out)]) == 0
    )
    shown = capsys.readouterr().out
    expected = {m for m in PRESETS if "butterfly" not in m and "pam" not in m}
    for method in expected:
        assert PRESETS[method].label.split()[0] in shown
    assert "End points" in shown
    assert str(out) in shown.replace("\n", "")
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((out / "results.json").read_text())
    assert set(results["methods"]) == expected
    linear = results["methods"]["linear"]
    assert len(linear["curves"]["test"]["loss"]) == 5
    assert set(linear["barrier"]) == {"chord", "endpoint"}
    assert results["metadata"]["seeds"] == [0, 1]
    # The trained parameters are the end points: an independent forward agrees.
    from mcjax.data import load

    data, a = load("digits").flat(), mcjax.load(out / "a.safetensors")
    correct = np.asarray(MLP((24,)).apply(a, data.x_test)).argmax(-1) == data.y_test
    assert linear["curves"]["test"]["accuracy"][0] == pytest.approx(correct.mean(), abs=1e-6)
    # OT ends at b with its neurons in another order.
    b, moved = (mcjax.load(out / f"{n}.safetensors") for n in ("b", "b-ot"))
    kernels = [p["params"]["Dense_0"]["kernel"] for p in (b, moved)]
    np.testing.assert_array_equal(*(np.sort(k.sum(0)) for k in kernels))


def test_every_two_of_many_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["connect", "--seeds", "3", "0", "7", "--epochs", "2", "--hidden", "8", "--points",
                 "3", "--methods", "linear", "weight-matching", "--out", "results"]  # fmt: skip
    assert run(arguments) == 0
    assert "3 pairs of 3 networks" in " ".join(capsys.readouterr().out.split())
    shown = Path("results/table.md").read_text()
    results = json.loads(Path("results/results.json").read_text())
    assert set(results["pairs"]) == {"0-1", "0-2", "1-2"}
    barriers = []
    for pair in results["pairs"].values():
        loss = pair["methods"]["linear"]["curves"]["train"]["loss"]
        barriers.append(max(0, loss[1] - (loss[0] + loss[2]) / 2))
    assert results["barriers"]["linear"]["chord"]["mean"] == pytest.approx(np.mean(barriers))
    assert f"{np.mean(barriers):.4f} ± {np.std(barriers, ddof=1):.4f}" in shown
    assert Path("results/matrix.png").read_bytes().startswith(b"\x89PNG")
    # The second network is that of the second seed: an independent forward agrees.
    from mcjax.data import load

    data, second = load("digits").flat(), mcjax.load("results/network-0.safetensors")
    correct = np.asarray(MLP((8,)).apply(second, data.x_test)).argmax(-1) == data.y_test
    curve = results["pairs"]["0-1"]["methods"]["linear"]["curves"]["test"]
    assert curve["accuracy"][-1] == pytest.approx(correct.mean(), abs=1e-6)
    assert run([*arguments, "--quiet"]) == 0  # the first results stay
    assert "Written to results/run-2:" in capsys.readouterr().out


def test_a_connection_model_is_a_method(here, capsys):
    from mcjax.flows import AdamProtocol, Architecture, train_flow

    a, b = map(mcjax.load, OWN)
    same = lambda p, x: jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]
    network = mcjax.trace(same, a, np.load("data.npz")["x"][:2])
    small = Architecture("realnvp", blocks=1, width=4, depth=1)
    model = train_flow(network, [a, b], small, AdamProtocol(1, 8), key=jax.random.key(0))
    mcjax.save("model.safetensors", model)
    arguments = own(here, "--methods", "linear", "--points", "3", "--out", "results")
    assert run([*arguments, "--connection-model", "model.safetensors"]) == 0
    results = json.loads(Path("results/results.json").read_text())
    assert set(results["methods"]) == {"linear", "realnvp-flow"}
    kept = mcjax.load("results/connections/realnvp-flow.safetensors")
    middle = model.connect(network, a, b)(0.5)
    jax.tree.map(np.testing.assert_array_equal, kept.path(0.5), middle)
    assert run([*arguments, "--connection-model", "a.safetensors"]) == 2
    assert (
        "--connection-model a.safetensors: model must be a connection model"
        in capsys.readouterr().err
    )


def test_own_networks(here, capsys):
    arguments = ["connect", "a.safetensors", "b.safetensors", "--model", f"{here}:apply_fn",
                 "--inputs", "data.npz", "--points", "3", "--out", "results"]  # fmt: skip
    assert run(arguments) == 0
    results = json.loads(Path("results/results.json").read_text())
    expected = {m for m, v in PRESETS.items() if not v.needs_labels and "butterfly" not in m}
    assert set(results["methods"]) == expected
    assert set(results["methods"]["linear"]["curves"]) == {"train"}
    shown = capsys.readouterr().out
    assert "worst train %" in shown
    assert "worst test" not in shown


def test_ones_own_method(here, capsys):
    """By class, by object and by function; beside a trained curve of a few epochs."""
    arguments = ["connect", "a.safetensors", "b.safetensors", "--model", f"{here}:apply_fn",
                 "--inputs", "data.npz", "--points", "3", "--out", "results", "--curve-epochs", "2",
                 "--methods", "linear", f"{here}:Detour", f"{here}:detour", "bezier"]  # fmt: skip
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "By the origin" in shown
    results = json.loads(Path("results/results.json").read_text())
    names = ["linear", f"{here}:Detour", f"{here}:detour", "bezier"]
    assert list(results["methods"]) == names
    found = results["methods"][f"{here}:Detour"]["curves"]["train"]["loss"]
    assert found[1] == pytest.approx(np.log(3), rel=1e-5)  # all outputs are zero
    assert "epochs=2" in results["metadata"]["methods"]["bezier"]


def test_a_regression(here, capsys):
    x = np.load("data.npz")["x"]
    np.savez("data.npz", x=x, y=np.ones((len(x), 3), np.float32))
    arguments = ["connect", "a.safetensors", "b.safetensors", "--model", f"{here}:apply_fn",
                 "--inputs", "data.npz", "--points", "3", "--out", "results",
                 "--methods", "linear"]  # fmt: skip
    assert run(arguments) == 2
    assert "pass --task regression" in capsys.readouterr().err
    assert run([*arguments, "--task", "regression"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "mean squared error" in shown
    assert "%" not in shown


def test_results_never_overwrite(here, capsys):
    """In the current folder, beside the user's files; a second run keeps the first's results."""
    Path("folder of ä").mkdir()
    theirs = {f.name: f.read_bytes() for f in Path().iterdir() if f.is_file()}
    more = ["--points", "3", "--out", "."]
    assert run(own(here, "--methods", "linear", *more)) == 0
    assert run(own(here, "--methods", "weight-matching", "--quiet", *more)) == 0
    shown = capsys.readouterr().out
    assert "Written to .:" in shown
    assert "Written to run-2:" in shown
    for name, content in theirs.items():
        assert Path(name).read_bytes() == content
    first, second = (json.loads(Path(p, "results.json").read_text()) for p in (".", "run-2"))
    assert set(first["methods"]) == {"linear"}
    assert set(second["methods"]) == {"weight-matching"}
    # The connections are there as they were evaluated, and B in A's order is their end.
    made = mcjax.load("run-2/connections/weight-matching.safetensors")
    path = made.path
    end = mcjax.load("run-2/b-weight-matching.safetensors")
    a, b = map(mcjax.load, OWN)
    np.testing.assert_array_equal(path(0.0)["w1"], a["w1"])
    np.testing.assert_array_equal(path(1.0)["w1"], end["w1"])
    (order,) = made.permutations.values()
    np.testing.assert_array_equal(end["w1"], b["w1"][:, order])
    # Every file is named in the last lines, and there are no others.
    listed = shown.split("Written to run-2:")[1].split()
    found = {f.name for f in Path("run-2").iterdir()} - {"connections"}
    assert found <= set(listed)
    assert "connections/*.safetensors" in listed


def test_explain(here, capsys):
    arguments = ["explain", "a.safetensors", "--model", f"{here}:apply_fn", "--inputs", "data.npz"]
    assert run(arguments) == 0
    assert "w1(8)" in capsys.readouterr().out


def test_explain_of_a_regression_model(here, capsys):
    arguments = ["explain", OWN[0], "--model", f"{here}:one_number", "--inputs", "floats.npz"]
    assert run(arguments) == 0
    assert "w1(8)" in capsys.readouterr().out
    assert run([*arguments[:3], f"{here}:in_dict", *arguments[4:]]) == 0


def test_default_is_quick_enough_to_trace():
    """The default digits network traces to one group of 512 neurons."""
    model = MLP((512,))
    params = model.init(jax.random.key(0), np.zeros((1, 64), np.float32))
    network = mcjax.trace(model.apply, params, np.zeros((2, 64), np.float32))
    assert {n: g.shape for n, g in network.groups.items()} == {"Dense_0": (512,)}


def test_help_lists_every_preset(capsys):
    with pytest.raises(SystemExit):
        run(["connect", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, method in PRESETS.items():
        assert f"{name} ({method.label})" in shown


@pytest.mark.parametrize(
    "arguments", [["--help"], *([c, "--help"] for c in ("connect", "inputs", "explain"))]
)
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 0
    assert "mcjax" in capsys.readouterr().out


def test_unknown_option_is_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        run(["connect", "--no-such-option"])
    assert stop.value.code == 2


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"mcjax {mcjax.__version__}\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "mcjax: error: out of memory; choose a smaller size (MemoryError)"),
        (TypeError("a\n b"), "mcjax: error: TypeError: a b (set MCJAX_TRACEBACK=1 to see where"),
    ],
)
def test_what_nobody_thought_of_is_one_line_too(here, monkeypatch, capsys, error, line):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mcjax.study.compare", fail)
    assert run(own(here, "--out", "out")) == 1
    assert capsys.readouterr().err.startswith(line)
