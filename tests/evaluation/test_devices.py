"""Many devices, many processes: the single-device result."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax

PROGRAM = """
import jax, numpy as np, sys
from tests.evaluation.test_devices import sweep, mesh_of
processes, rank, port = map(int, sys.argv[1:4])
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, rank)
for names in (("t",), ("data",), ("t", "data")):
    mesh = mesh_of(names)
    assert mesh.size == 8, mesh
    np.testing.assert_allclose(sweep(mesh), np.array(eval(sys.argv[4])), rtol=1e-5)
print("same")
"""


def mlp(p, x):
    """What all examples share is the same on all devices."""
    noise = jax.random.normal(x["key"], (40,)) * x["scale"]
    return jax.nn.relu(jnp.where(x["keep"], x["image"] + noise, 0) @ p["w1"]) @ p["w2"]


def mesh_of(names):
    shape = (8,) if len(names) == 1 else (2, 4)
    kind = jax.sharding.AxisType.Auto
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names))


def sweep(mesh=None):
    rng = np.random.default_rng(0)
    make = lambda: {k: rng.normal(size=s).astype(np.float32) / 6 for k, s in
                    {"w1": (40, 12), "w2": (12, 3)}.items()}  # fmt: skip
    path = mcjax.path.Linear(make(), make())
    x, y = rng.normal(size=(101, 40)).astype(np.float32), rng.integers(0, 3, 101)
    keep = mcjax.Shared(np.arange(40) % 7 > 0)
    x = {"image": x, "key": jax.random.key(1), "scale": 0.5, "keep": keep}
    curve = mcjax.evaluate(path, mlp, (x, y), t=5, chunk=7, mesh=mesh)
    return np.stack([curve.loss, curve.accuracy])


def start(processes, rank, port, devices):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu",
                   "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}  # fmt: skip
    arguments = [str(processes), str(rank), str(port), repr(sweep().tolist())]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_eight_devices(processes):
    port = free_port()
    running = [start(processes, rank, port, 8 // processes) for rank in range(processes)]
    outputs = [p.communicate(timeout=300)[0] for p in running]
    assert all(p.returncode == 0 for p in running), outputs
    assert all("same" in o for o in outputs), outputs


def test_mesh_with_other_names():
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match=r"axes must be named 't' and/or 'data', got \('model',\)"):
        sweep(mesh)
