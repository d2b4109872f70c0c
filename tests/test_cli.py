"""The command: the main job, the user's own networks, and mistakes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import mcjax
from mcjax.cli import main
from mcjax.methods import PRESETS
from mcjax.models import MLP

MODEL = """
import jax, jax.numpy as jnp

def apply_fn(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"]

def broken(params, x):
    return x @ params["no_such_leaf"]

class Detour:
    label = "By the origin"

    def connect(self, problem):
        import mcjax
        origin = jax.tree.map(jnp.zeros_like, problem.a)
        return mcjax.methods.Connection(mcjax.path.PolygonalChain([problem.a, origin, problem.b]))

detour, nothing = Detour(), 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a user's model, two networks and data."""
    monkeypatch.chdir(tmp_path)
    name = "users_model_" + tmp_path.name.replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    for k, file in enumerate(("a", "b")):
        make = lambda *s: rng.normal(size=s).astype(np.float32)
        mcjax.save(f"{file}.safetensors", {"w1": make(6, 8), "b1": make(8), "w2": make(8, 3)})
        assert k < 2
    np.savez("data.npz", x=rng.normal(size=(40, 6)).astype(np.float32), y=rng.integers(0, 3, 40))
    return name


def test_the_main_job(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "results"
    assert (
        main(["connect", "--epochs", "3", "--hidden", "24", "--points", "5", "--out", str(out)])
        == 0
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


def test_own_networks(here, capsys):
    arguments = ["connect", "a.safetensors", "b.safetensors", "--model", f"{here}:apply_fn",
                 "--inputs", "data.npz", "--points", "3", "--out", "results"]  # fmt: skip
    assert main(arguments) == 0
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
    assert main(arguments) == 0
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
    assert main(arguments) == 2
    assert "mcjax.tasks.REGRESSION" in capsys.readouterr().err
    assert main([*arguments, "--task", "regression"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "mean squared error" in shown
    assert "%" not in shown


def test_help_lists_every_preset(capsys):
    with pytest.raises(SystemExit):
        main(["connect", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, method in PRESETS.items():
        assert f"{name} ({method.label})" in shown


def test_explain(here, capsys):
    arguments = ["explain", "a.safetensors", "--model", f"{here}:apply_fn", "--inputs", "data.npz"]
    assert main(arguments) == 0
    assert "w1(8)" in capsys.readouterr().out


def mistakes(name):
    own = ["connect", "a.safetensors", "b.safetensors"]
    model = ["--model", f"{name}:apply_fn"]
    data = ["--inputs", "data.npz"]
    return {
        "one file": (["connect", "a.safetensors"], "expected two files"),
        "no model": ([*own, *data], "need --model"),
        "missing file": (
            ["connect", "a.safetensors", "no.safetensors", *model, *data],
            "no file no",
        ),
        "missing data": ([*own, *model, "--inputs", "no.npz"], "there is no file no.npz"),
        "missing module": ([*own, "--model", "no_such_module:f", *data], "cannot import"),
        "missing function": ([*own, "--model", f"{name}:f", *data], "has no 'f'"),
        "no colon": ([*own, "--model", name, *data], "must be package.module:object"),
        "pickle": (["connect", "p.safetensors", "b.safetensors", *model, *data], "never unpickles"),
        "pickled data": (
            [*own, *model, "--inputs", "p.npz"],
            "it holds pickled objects",
        ),
        "other shape": (["connect", "a.safetensors", "c.safetensors", *model, *data], "leaf 'b1'"),
        "no y": ([*own, *model, "--inputs", "x.npz"], "has no array 'y'"),
        "wrong leaf": ([*own, "--model", f"{name}:broken", *data], "no_such_leaf"),
        "wrong method": (["connect", "--methods", "magic"], "unknown method 'magic'"),
        "own method that is none": (["connect", "--methods", f"{name}:nothing"], "an object with"),
        "own method of no module": (["connect", "--methods", "no_module:m"], "cannot import"),
        "near a name": (["connect", "--methods", "ot+w"], "did you mean 'ot+wa'?"),
        "no epochs": (["connect", "--curve-epochs", "0"], "--curve-epochs must be at least 1"),
        "wrong points": (["connect", "--points", "1"], "--points must be at least 2"),
        "wrong folder": (["connect", "--data", "mnist", "--data-dir", "no"], "holds no TFDS"),
    }


@pytest.mark.parametrize("which", list(mistakes("")))
def test_mistakes_are_one_line_and_status_2(here, which, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MCJAX_CACHE_DIR", str(tmp_path / "cache"))
    with open("p.safetensors", "wb") as file:
        pickle.dump({"w": 1}, file)
    with open("p.npz", "wb") as file:
        pickle.dump({"w": 1}, file)
    np.savez("x.npz", x=np.zeros((4, 6), np.float32))
    mcjax.save("c.safetensors", {"w1": np.ones((6, 9), np.float32),
                                       "b1": np.ones(9, np.float32), 
                                       "w2": np.ones((9, 3), np.float32)})  # fmt: skip
    arguments, message = mistakes(here)[which]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mcjax: error: ")
    assert message in error


@pytest.mark.parametrize("arguments", [["--help"], ["connect", "--help"], ["explain", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "mcjax" in capsys.readouterr().out


def test_unknown_option_is_status_2():
    out = subprocess.run(
        [sys.executable, "-m", "mcjax.cli", "connect", "--no-such-option"], capture_output=True
    )
    assert out.returncode == 2
    assert b"Traceback" not in out.stderr


def test_default_is_quick_enough_to_trace():
    """The default digits network traces to one group of 512 neurons."""
    model = MLP((512,))
    params = model.init(jax.random.key(0), np.zeros((1, 64), np.float32))
    network = mcjax.trace(model.apply, params, np.zeros((2, 64), np.float32))
    assert {n: g.shape for n, g in network.groups.items()} == {"Dense_0": (512,)}
