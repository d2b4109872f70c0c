"""The user's own networks: what they are called, and how they are run."""

from __future__ import annotations

from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

import mcjax
from mcjax.cli.command import run
from mcjax.cli.own import names_of

from .own import own

NORMALISED = """
import flax.linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(8)(x))))

apply_fn = Net().apply
"""


@pytest.mark.parametrize(
    ("files", "names"),
    [(["a.npz", "b.npz"], ["a", "b"]),
     (["one/a.npz", "b.npz"], ["a", "b"]),
     (["one/w.npz", "two/w.npz", "c.npz"], ["one/w", "two/w", "c"]),
     (["x/one/w.npz", "y/one/w.npz", "y/two/w.npz"], ["x/one/w", "y/one/w", "two/w"]),
     (["a.npz", "a.npz"], ["a", "a (2)"]),
     (["a.npz", "a.safetensors"], ["a.npz", "a.safetensors"]),
     (["step-0.1", "step-0.2"], ["step-0.1", "step-0.2"]),
     (["/w.npz", "/one/w.npz"], ["w", "one/w"])],
)  # fmt: skip
def test_names(files, names):
    assert names_of([Path(f) for f in files]) == names


def test_a_and_b_are_said(here, capsys):
    """Files of one name: what A and B are, and a folder for them."""
    arguments = own(here, "--methods", "linear", "--points", "2", "--html")
    for k, file in ((1, "a.safetensors"), (2, "b.safetensors")):
        Path(f"run{k}").mkdir()
        Path(file).rename(f"run{k}/w.safetensors")
        arguments[k] = f"run{k}/w.safetensors"
    assert run(arguments) == 0
    assert "A = run1/w, B = run2/w" in capsys.readouterr().out
    page = Path("mcjax-runs/run1-w-run2-w/report.html").read_text()
    assert "A = run1/w, B = run2/w" in page


def test_whose_statistics_is_said(here, capsys):
    """In one line, where there is batch normalisation; by the trained networks of the merging."""
    Path(f"{here}_norm.py").write_text(NORMALISED)
    net = _of(NORMALISED)
    for k, file in enumerate("ab"):
        params = net.init(jax.random.key(k), np.zeros((1, 6)))
        params["batch_stats"] = jax.tree.map(lambda v, k=k: v + k, params["batch_stats"])
        mcjax.save(f"n{file}.safetensors", params)
    for command in ("connect", "merge"):
        files = [command, "na.safetensors", "nb.safetensors"]
        arguments = [*files, *own(f"{here}_norm", "--methods")[3:]]
        method, more = {"connect": ("linear", ["--points", "3"]), "merge": ("soup", [])}[command]
        assert run([*arguments, method, *more]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        expected = {
            "connect": "BatchNorm statistics: estimated at every point from 40 inputs.",
            "merge": "BatchNorm of merged networks: statistics estimated from 40 examples;",
        }
        assert shown.count("BatchNorm") == 1
        assert expected[command] in shown
        without = own(here, "--methods", method, *more)
        assert run([command, *without[1:]]) == 0
        assert "BatchNorm" not in capsys.readouterr().out


def _of(text: str) -> nn.Module:
    there: dict = {}
    exec(text, there)
    return there["Net"]()
