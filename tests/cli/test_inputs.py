"""`mcjax inputs`: a network trained or the user's own, what is written, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import mcjax
from mcjax.cli.command import run
from mcjax.data import load
from mcjax.models import Conv2FC1
from mcjax.tasks import CLASSIFICATION

SMALL = ["--pairs", "1", "--rounds", "1", "--points", "7", "--delta", "1.0"]


def test_the_main_job(tmp_path, monkeypatch, capsys):
    """A network on digits; its losses are those of an independent forward."""
    monkeypatch.chdir(tmp_path)
    arguments = ["inputs", "--epochs", "3", "--channels", "2", *SMALL, "--out", "results"]
    assert run(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("one class", "real and adversarial", "different classes", "rounds"):
        assert word in shown
    listed = shown.split("Written to results:")[1].split()
    there = {f.name for f in Path("results").iterdir()} - {"checkpoints"}
    assert there == {"network.safetensors", "results.json", "table.md", "inputs.png"} & set(listed)
    assert Path("results/inputs.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(Path("results/results.json").read_text())
    assert found["metadata"]["seeds"] == [0]
    one = found["kinds"]["one class"]
    assert len(set(one["labels"])) == len(one["labels"]) == one["tried"] > 1
    assert len(one["t"]) == 7
    # Both ends are test images of the class with a loss of half of δ at most.
    data, params = load("digits"), mcjax.load("results/network.safetensors")
    losses = CLASSIFICATION.losses(Conv2FC1((2,)).apply(params, data.x_test), data.y_test)
    for label, loss in zip(one["labels"], one["loss"], strict=True):
        mine = np.asarray(losses)[data.y_test == label]
        for end in (loss[0], loss[-1]):
            assert end <= 0.5
            assert np.abs(mine - end).min() < 1e-5
    assert run([*arguments, "--quiet"]) == 0  # the first results stay
    assert "Written to results/run-2:" in capsys.readouterr().out


def test_ones_own_network(here, capsys):
    """Inputs that are no images: curves alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    from jax.nn import relu

    p = mcjax.load("a.safetensors")
    y = np.asarray(relu(x @ p["w1"] + p["b1"]) @ p["w2"]).argmax(-1)
    np.savez("data.npz", x=x, y=y)
    own = ["inputs", "a.safetensors", "--model", f"{here}:apply_fn", "--inputs", "data.npz"]
    assert run([*own, *SMALL, "--out", "results"]) == 0
    found = json.loads(Path("results/results.json").read_text())
    assert found["kinds"]["different classes"]["tried"] == 3
    low, high = found["bypass"]["bounds"]
    assert (low, high) == (pytest.approx(x.min()), pytest.approx(x.max()))
    assert not Path("results/network.safetensors").exists()
    assert jax.tree.leaves(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.safetensors", "--inputs", "data.npz"], "needs --model"),
        (["--model", "m:f"], "--model goes with a file of parameters"),
        (["a.safetensors", "--channels", "3"], "--channels goes with trained networks"),
        (["--points", "2"], "--points must be at least 3"),
        (["--pairs", "0"], "--pairs and --rounds must be at least 1"),
        (["--delta", "0"], "--delta must be a loss above 0, got 0"),
        (["--delta", "nan"], "--delta must be a loss above 0, got nan"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--epochs", "0"], "--epochs and --channels must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(here, capsys, arguments, message):
    assert run(["inputs", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("mcjax-runs").exists()


def test_too_few_inputs_of_low_loss(here, capsys):
    own = ["inputs", "a.safetensors", "--model", f"{here}:apply_fn", "--inputs", "data.npz"]
    assert run([*own, "--delta", "1e-12"]) == 2
    assert "0 of 3 classes have two inputs or more with a loss of 5e-13" in capsys.readouterr().err
