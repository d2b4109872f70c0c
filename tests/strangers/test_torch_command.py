"""The command given PyTorch's modules: `mcjax connect`, `inputs` and `explain` with --torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mcjax.cli.command import run

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'mcjax[torch]'")
if importlib.util.find_spec("torchax") is None:
    pytest.skip("torchax is not installed: pip install 'mcjax[torch]'", allow_module_level=True)
safetensors_torch = pytest.importorskip("safetensors.torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

BUILD = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()

def training():
    return build().train()

def fails():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Two modules, a.safetensors and b.safetensors, data, and the name of what builds them."""
    monkeypatch.chdir(tmp_path)
    name = "torch_" + tmp_path.name.replace("-", "_")
    Path(f"{name}.py").write_text(BUILD)
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict = {}
    exec(BUILD, namespace)
    torch.manual_seed(0)
    modules = [namespace["build"]() for _ in range(2)]
    for module, file in zip(modules, ("a", "b"), strict=True):
        safetensors_torch.save_file(module.state_dict(), f"{file}.safetensors")
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    np.savez("data.npz", x=x, y=outputs(modules[0], x).argmax(-1))
    return modules, name


def outputs(module, x):
    with torch.no_grad():
        return module(torch.tensor(x)).numpy()


def test_connect(modules, capsys):
    (_, second), name = modules
    np.savez("other.npz", **{"0.weight": np.zeros((8, 6), np.float32)})
    command = lambda a, function: [
        "connect", a, "b.safetensors", "--torch", f"{name}:{function}", "--inputs", "data.npz",
        "--methods", "linear", "weight-matching", "--points", "3", "--out", "out",
    ]  # fmt: skip
    assert run(command("a.safetensors", "build")) == 0
    aligned = safetensors_torch.load_file("out/b-weight-matching.safetensors")
    x = np.load("data.npz")["x"]
    expected = outputs(second, x)
    second.load_state_dict(aligned)
    np.testing.assert_allclose(outputs(second, x), expected, rtol=1e-4, atol=1e-5)
    given = safetensors_torch.load_file("b.safetensors")
    assert not torch.equal(aligned["0.weight"], given["0.weight"])
    capsys.readouterr()
    for arguments, message in (
        (command("a.safetensors", "training"), "--torch: module: it is in training mode"),
        (command("a.safetensors", "fails"), "fails() fails: RuntimeError: no weights"),
        (command("other.npz", "build"), "other.npz and --torch: state_dict has no '0.bias'"),
        ([*command("a.safetensors", "build"), "--model", "m:f"], "needs --model package.module"),
    ):
        assert run(arguments) == 2
        assert message in capsys.readouterr().err


def test_explain(modules, capsys):
    _, name = modules
    own = ["explain", "a.safetensors", "--inputs", "data.npz"]
    assert run([*own, "--torch", f"{name}:build"]) == 0
    shown = capsys.readouterr().out
    assert "0.weight (8,): positive monomial" in shown
    assert run(own) == 2
    assert "or --torch package.module:build" in capsys.readouterr().err


def test_inputs(modules, capsys):
    _, name = modules
    own = ["inputs", "a.safetensors", "--torch", f"{name}:build", "--inputs", "data.npz"]
    assert run([*own, "--pairs", "1", "--points", "3", "--delta", "3", "--out", "joined"]) == 0
    assert "one class" in capsys.readouterr().out
    assert list(Path("joined").glob("*.json"))
