"""What the command is handed: a mistake is one line, and nothing is written."""

from __future__ import annotations

import pickle
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.cli import given
from mcjax.cli.command import run

from .own import OWN, own


def mistakes(name):
    own = ["connect", "a.safetensors", "b.safetensors"]
    model = ["--model", f"{name}:apply_fn"]
    data = ["--inputs", "data.npz"]
    return {
        "one file": (["connect", "a.safetensors"], "expected two files"),
        "three files": ([*own, "a.safetensors", *model, *data], "of more: mcjax merge"),
        "a file's name": ([*own, "--model", "./my/model.py:f", *data], "as a module: my.model:f"),
        "parameters as data": ([*own, *model, "--inputs", "a.safetensors"], "file of parameters"),
        "no model": ([*own, *data], "needs --model package.module:apply_fn, or --torch"),
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
        "other shape": (
            ["connect", "a.safetensors", "c.safetensors", *model, *data],
            "leaf 'b1': c.safetensors has shape (9,), expected (8,) as in a.safetensors",
        ),
        "NaN in a file": (
            ["connect", "n.safetensors", "b.safetensors", *model, *data],
            "n.safetensors: leaf 'b1' holds 8 NaN or infinite values of 8",
        ),
        "NaN in a file, merged": (
            ["merge", "a.safetensors", "n.safetensors", *model, *data],
            "n.safetensors: leaf 'b1' holds",
        ),
        "NaN in a file, inputs": (
            ["inputs", "n.safetensors", *model, *data],
            "n.safetensors: leaf 'b1' holds",
        ),
        "no y": ([*own, *model, "--inputs", "x.npz"], "has no array 'y'"),
        "wrong leaf": ([*own, "--model", f"{name}:broken", *data], "no_such_leaf"),
        "a leaf that the file has": (
            [*own, "--model", f"{name}:broken", *data],
            "(the file has ['b1'], ",
        ),
        "wrong method": (["connect", "--methods", "magic"], "unknown method 'magic'"),
        "own method that is none": (["connect", "--methods", f"{name}:nothing"], "an object with"),
        "own method of no module": (["connect", "--methods", "no_module:m"], "cannot import"),
        "near a name": (["connect", "--methods", "ot+w"], "did you mean 'ot+wa'?"),
        "no epochs": (["connect", "--curve-epochs", "0"], "--curve-epochs must be at least 1"),
        "wrong points": (["connect", "--points", "1"], "--points must be at least 2"),
        "empty file": (["connect", "empty.safetensors", OWN[1], *model, *data], "no whole safe"),
        "a path": (["connect", "line.safetensors", OWN[1], *model, *data], "expected parameters"),
        "a connection": (
            ["connect", "joined.safetensors", OWN[1], *model, *data],
            "joined.safetensors holds a mcjax.methods.Connection, expected parameters",
        ),
        "a connection to explain": (
            ["explain", "joined.safetensors", *model, *data],
            "joined.safetensors holds a mcjax.methods.Connection, expected parameters",
        ),
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
        "dict": ([*own, "--model", f"{name}:in_dict", *data], "return out['logits'] alone"),
        "module": ([*own, "--model", f"{name}:module", *data], "pass its method .apply"),
        "regression": ([*own, *model, "--inputs", "targets.npz"], "pass --task regression"),
        "own class": (
            ["connect", "module.safetensors", OWN[1], *model, *data],
            "module.safetensors and inputs of shape (40, 6)",
        ),
        "one number": ([*own, "--model", f"{name}:one_number", *data], "--model return two logits"),
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
        "one seed": (["connect", "--seeds", "1"], "--seeds must be two or more different ones"),
        "no seed": (["connect", "--seeds"], "different ones, got none"),
        "no seed to merge": (["merge", "--seeds"], "different ones, got none"),
        "no channels": (["inputs", "--channels"], "--epochs and --channels must be at least 1"),
        "a seed twice": (["connect", "--seeds", "1", "0", "1"], "got 1 0 1"),
        "an option of training": ([*own, *model, *data, "--seeds", "0", "1"], "--seeds goes with"),
        "options of training": (
            [*own, *model, *data, "--hidden", "8", "--data", "mnist"],
            "--data and --hidden go with trained networks",
        ),
        "digits in a folder": (["connect", "--data-dir", "tfds"], "--data-dir goes with --data"),
        "a task without files": (["connect", "--task", "regression"], "--task goes with two files"),
        "a task that there is not": (
            [*own, *model, *data, "--task", "ranking"],
            "--task must be one of 'classification', 'regression', 'next-token', got 'ranking'",
        ),
        "data that there are not": (
            ["connect", "--data", "cifar"],
            "--data must be one of 'digits', 'mnist', 'cifar10', got 'cifar'",
        ),
        "a method that needs arguments": (
            ["connect", "--methods", "mcjax.methods:Flow"],
            "--methods: mcjax.methods:Flow() fails: TypeError",
        ),
        "a merging method that needs arguments": (
            ["merge", "--methods", "mcjax.merge:Each"],
            "--methods: mcjax.merge:Each() fails: TypeError",
        ),
        "epochs of nothing": (
            ["connect", "--methods", "linear", "--curve-epochs", "3"],
            "--curve-epochs goes with methods that train, and none is asked for",
        ),
        "epochs of nothing, files": (
            [*own, *model, *data, "--curve-epochs", "3"],
            "--curve-epochs goes with methods that train",
        ),
        "cache": (["connect", "--data", "mnist", "--data-dir", "tfds"], "MCJAX_CACHE_DIR: nothing"),
        "wrong folder": (["connect", "--data", "mnist", "--data-dir", "no"], "holds no TFDS"),
    }


WRITTEN_HERE = {
    "module.safetensors",
    "joined.safetensors",
    "tfds",
    "p.safetensors",
    "p.npz",
    "x.npz",
    "c.safetensors",
    "n.safetensors",
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
    a, b = map(mcjax.load, OWN)
    dense = lambda p, x: jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"]
    network = mcjax.trace(dense, a, np.ones((2, 6), np.float32))
    mcjax.save("joined.safetensors", mcjax.connect(network, a, b, "linear"))  # network and all
    mcjax.save("module.safetensors", eqx.nn.Linear(6, 3, key=jax.random.key(0)))
    mcjax.save("c.safetensors", {"w1": np.ones((6, 9), np.float32),
                                       "b1": np.ones(9, np.float32), 
                                       "w2": np.ones((9, 3), np.float32)})  # fmt: skip
    mcjax.save("n.safetensors", a | {"b1": np.full(8, np.nan, np.float32)})
    arguments, message = mistakes(here)[which]
    assert run(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mcjax: error: ")
    assert message in error
    assert "Traceback" not in error
    assert "task=" not in error  # Python, of the library
    assert {f.name for f in tmp_path.iterdir()} - {f.name for f in before} <= WRITTEN_HERE


def test_a_folder_of_the_home_and_names_with_spaces(here, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("näme of a.safetensors").write_bytes(Path(OWN[0]).read_bytes())
    arguments = own(here, "--methods", "linear", "--points", "2", "--out", "~/in häuser", "--quiet")
    arguments[1] = "~/näme of a.safetensors"
    assert run(arguments) == 0
    assert (tmp_path / "in häuser" / "curves.png").is_file()


def test_two_commands_at_once_write_into_two_folders(tmp_path):
    out = tmp_path / "results"
    with given.fresh(out, ["table.md"]) as first:
        with given.fresh(out, ["table.md"]) as second:
            assert (first, second) == (out, out / "run-2")
        (first / "table.md").touch()
    with given.fresh(out, ["table.md"]) as third:  # what holds no result is free again
        assert third == second
    assert not list(out.rglob(".lock"))
