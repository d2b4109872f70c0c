"""A folder as a user has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mcjax

from .own import MODEL, OWN


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
