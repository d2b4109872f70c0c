"""The command: the main job, the user's own networks, and mistakes."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import mcjax
from mcjax.cli import main
from mcjax.methods import PRESETS
from mcjax.models import MLP

MODEL = """
import flax.linen as nn, jax, jax.numpy as jnp

module = nn.Dense(3)

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

def in_dict(params, x):
    return {"logits": apply_fn(params, x)}

def one_number(params, x):
    return apply_fn(params, x)[:, :1]

def stops(params, x):
    raise SystemExit(3)
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
    x, y = rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    np.savez("data.npz", x=x, y=y)
    odd = {
        "one-hot": (x, np.eye(4, dtype=np.float32)[y]), "floats": (x, y.astype(np.float32)),
        "text": (x, y.astype(str)), "text-x": (x.astype(str), y), "objects": (x.astype(object), y),
        "too-large": (x, y + 1), "nan": (np.where(x > 2, np.nan, x), y), "scalar": (x, 3),
        "short": (x, y[:7]), "none": (x[:0], y[:0]), "other-x": (x[:, :5], y),
        "targets": (x, x[:, :3]),
    }  # fmt: skip
    for kind, (x_odd, y_odd) in odd.items():
        np.savez(f"{kind}.npz", x=x_odd, y=y_odd)
    np.save("one.npy", x)
    content = Path("data.npz").read_bytes()
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    for file in ("empty.npz", "empty.safetensors"):
        Path(file).write_bytes(b"")
    for kind, text in {"raises": "1 / 0", "exits": "raise SystemExit(0)", "parses": "def f(:",
                       "imports": "import no_such_thing"}.items():  # fmt: skip
        Path(f"{name}_{kind}.py").write_text(text)
    mcjax.save("line.safetensors", mcjax.path.Linear(*map(mcjax.load, OWN)))
    return name


OWN = ("a.safetensors", "b.safetensors")


def own(name, *more):
    """The arguments that connect the two networks."""
    return ["connect", *OWN, "--model", f"{name}:apply_fn", "--inputs", "data.npz", *more]


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
    assert "pass --task regression" in capsys.readouterr().err
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
        "empty file": (["connect", "empty.safetensors", OWN[1], *model, *data], "no whole safe"),
        "a path": (["connect", "line.safetensors", OWN[1], *model, *data], "expected parameters"),
        "a folder": (["connect", ".", OWN[1], *model, *data], "is a folder"),
        "empty data": ([*own, *model, "--inputs", "empty.npz"], "is no whole .npz file"),
        "cut data": ([*own, *model, "--inputs", "cut.npz"], "is no whole .npz file"),
        "one array": ([*own, *model, "--inputs", "one.npy"], "an .npy file holds one array"),
        "objects": ([*own, *model, "--inputs", "objects.npz"], "pickled objects"),
        "text": ([*own, *model, "--inputs", "text.npz"], "'y' of text.npz is of type <U"),
        "text x": ([*own, *model, "--inputs", "text-x.npz"], "'x' of text-x.npz is of type <U"),
        "NaN": ([*own, *model, "--inputs", "nan.npz"], "array 'x' holds"),
        "no examples": ([*own, *model, "--inputs", "none.npz"], "holds no examples"),
        "scalar": ([*own, *model, "--inputs", "scalar.npz"], "'y' of scalar.npz holds no examples"),
        "lengths": ([*own, *model, "--inputs", "short.npz"], "x has 40 examples and y has 7"),
        "one-hot": ([*own, *model, "--inputs", "one-hot.npz"], "probabilities of the classes"),
        "floats": ([*own, *model, "--inputs", "floats.npz"], "cast them to integers"),
        "too large": ([*own, *model, "--inputs", "too-large.npz"], "labels lie in [1, 3]"),
        "other x": ([*own, *model, "--inputs", "other-x.npz"], "inputs of shape (40, "),
        "dict": ([*own, "--model", f"{name}:in_dict", *data], "apply_fn returns a dict (logits:"),
        "module": ([*own, "--model", f"{name}:module", *data], "pass its method .apply"),
        "regression": ([*own, *model, "--inputs", "targets.npz"], "pass --task regression"),
        "own class": (
            ["connect", "module.safetensors", OWN[1], *model, *data],
            "module.safetensors and inputs of shape (40, 6)",
        ),
        "one number": ([*own, "--model", f"{name}:one_number", *data], "two classes or more"),
        "stops": ([*own, "--model", f"{name}:stops", *data], "the function fails"),
        "raises": ([*own, "--model", f"{name}_raises:f", *data], "ZeroDivisionError"),
        "exits": ([*own, "--model", f"{name}_exits:f", *data], "SystemExit"),
        "parses": ([*own, "--model", f"{name}_parses:f", *data], "SyntaxError"),
        "imports": ([*own, "--model", f"{name}_imports:f", *data], "no_such_thing"),
        "empty out": ([*own, *model, *data, "--out", ""], "--out is empty"),
        "out is a file": ([*own, *model, *data, "--out", "data.npz"], "is a file, no folder"),
        "no writing": ([*own, *model, *data, "--out", "/proc/x"], "nothing can be written into"),
        "wide": (["connect", "--hidden", "10000000"], "GiB of memory"),
        "very wide": (["connect", "--hidden", "100000000000000"], "GiB of memory"),
        "many units": (["connect", "--hidden", "1000000"], "matching 1,000,000 units"),
        "many points": (["connect", "--points", "1000000000"], "at most 100,000"),
        "seeds": (["connect", "--seeds", "-1", "1"], "--seeds must be at least 0"),
        "cache": (["connect", "--data", "mnist", "--data-dir", "tfds"], "MCJAX_CACHE_DIR: nothing"),
        "wrong folder": (["connect", "--data", "mnist", "--data-dir", "no"], "holds no TFDS"),
    }


WRITTEN_HERE = {
    "module.safetensors",
    "tfds",
    "p.safetensors",
    "p.npz",
    "x.npz",
    "c.safetensors",
    "__pycache__",
}


@pytest.mark.parametrize("which", list(mistakes("")))
def test_mistakes_are_one_line_and_status_2(here, which, capsys, monkeypatch, tmp_path):
    before = sorted(tmp_path.iterdir())
    monkeypatch.setenv("MCJAX_CACHE_DIR", "/proc/cache" if which == "cache" else "cache")
    (tmp_path / "tfds" / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "tfds" / "mnist" / "3.0.1" / "dataset_info.json").touch()
    with open("p.safetensors", "wb") as file:
        pickle.dump({"w": 1}, file)
    with open("p.npz", "wb") as file:
        pickle.dump({"w": 1}, file)
    np.savez("x.npz", x=np.zeros((4, 6), np.float32))
    mcjax.save("module.safetensors", eqx.nn.Linear(6, 3, key=jax.random.key(0)))
    mcjax.save("c.safetensors", {"w1": np.ones((6, 9), np.float32),
                                       "b1": np.ones(9, np.float32), 
                                       "w2": np.ones((9, 3), np.float32)})  # fmt: skip
    arguments, message = mistakes(here)[which]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mcjax: error: ")
    assert message in error
    assert "Traceback" not in error
    assert {f.name for f in tmp_path.iterdir()} - {f.name for f in before} <= WRITTEN_HERE


@pytest.mark.parametrize("arguments", [["--help"], ["connect", "--help"], ["explain", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "mcjax" in capsys.readouterr().out


def test_unknown_option_is_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["connect", "--no-such-option"])
    assert stop.value.code == 2


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mcjax {mcjax.__version__}\n"


# -- files -------------------------------------------------------------------------------------


def test_results_never_overwrite(here, capsys):
    """In the current folder, beside the user's files; a second run keeps the first's results."""
    Path("folder of ä").mkdir()
    theirs = {f.name: f.read_bytes() for f in Path().iterdir() if f.is_file()}
    more = ["--points", "3", "--out", "."]
    assert main(own(here, "--methods", "linear", *more)) == 0
    assert main(own(here, "--methods", "weight-matching", "--quiet", *more)) == 0
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


def test_a_folder_of_the_home_and_names_with_spaces(here, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("näme of a.safetensors").write_bytes(Path(OWN[0]).read_bytes())
    arguments = own(here, "--methods", "linear", "--points", "2", "--out", "~/in häuser", "--quiet")
    arguments[1] = "~/näme of a.safetensors"
    assert main(arguments) == 0
    assert (tmp_path / "in häuser" / "curves.png").is_file()


def test_explain_of_a_regression_model(here, capsys):
    arguments = ["explain", OWN[0], "--model", f"{here}:one_number", "--inputs", "floats.npz"]
    assert main(arguments) == 0
    assert "w1(8)" in capsys.readouterr().out
    assert main([*arguments[:3], f"{here}:in_dict", *arguments[4:]]) == 0


# -- terminals -----------------------------------------------------------------------------------


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
        main(["connect", "--help"])
    assert stop.value.code == 0
    assert main(own(here, "--methods", "linear", "--points", "2", "--out", "é")) == 0
    shown = sys.stdout.text()
    assert "(params, x) -> logits" in shown
    assert "Written to e:" in shown
    assert sys.stderr.text() == ""  # no bars where nobody watches


def test_a_narrow_terminal_cuts_no_number(here, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    assert main(own(here, "--methods", "linear", "--points", "2", "--out", "out")) == 0
    worst = json.loads(Path("out/results.json").read_text())["methods"]["linear"]["worst"]
    assert f"{100 * worst['train']['accuracy']:.2f}" in capsys.readouterr().out


# -- Ctrl-C ----------------------------------------------------------------------------------------


def interrupted(folder, ready, *, twice=False):
    """(status, stderr, seconds) of the command after Ctrl-C as soon as `ready` says so."""
    root = str(Path(mcjax.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "mcjax", "connect", "--epochs", "100000", "--out", "out"],
        cwd=folder, env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not ready(process):
        time.sleep(0.02)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    if twice:
        process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, said, time.monotonic() - start


def has_loaded(library):
    """Whether a process has opened a file of a library: it is in the middle of its imports."""

    def ready(process):
        return library in Path(f"/proc/{process.pid}/maps").read_text()

    return ready


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at a process by /proc")
@pytest.mark.parametrize("moment", ["imports", "training"])
def test_ctrl_c_is_one_line_and_status_130(tmp_path, moment):
    trains = lambda _: any((tmp_path / "out" / "checkpoints").glob("[0-9]*"))
    ready = has_loaded("_multiarray_umath") if moment == "imports" else trains
    status, said, seconds = interrupted(tmp_path, ready, twice=moment == "imports")
    assert status == 130
    remedy = "; the same command goes on from the last epoch" if moment == "training" else ""
    assert said == f"mcjax: interrupted{remedy}\n"
    assert seconds < 10


def test_an_interrupt_in_process_is_status_130(here, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mcjax.study.compare", interrupt)
    assert main(own(here, "--out", "out")) == 130
    assert capsys.readouterr().err == "mcjax: interrupted\n"


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
    assert main(own(here, "--out", "out")) == 1
    assert capsys.readouterr().err.startswith(line)


def test_default_is_quick_enough_to_trace():
    """The default digits network traces to one group of 512 neurons."""
    model = MLP((512,))
    params = model.init(jax.random.key(0), np.zeros((1, 64), np.float32))
    network = mcjax.trace(model.apply, params, np.zeros((2, 64), np.float32))
    assert {n: g.shape for n, g in network.groups.items()} == {"Dense_0": (512,)}
