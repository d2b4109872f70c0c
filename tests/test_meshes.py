"""Data and parameters that lie on several devices: what one device says."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import mcjax
from mcjax.attacks import BIM, FGSM, PGD, CarliniWagner, DeepFool
from mcjax.inputs import Bypass, LocalDimension, LossCurve, Synthesis
from mcjax.training import Protocol

RNG = np.random.default_rng(0)
DEVICES = 4
X, REFERENCE = (RNG.uniform(0, 1, (64, 8)).astype(np.float32) for _ in range(2))
KEY = jax.random.key(0)


def net(p, x):
    return jnp.tanh((x - 0.5) @ p["w1"] + p["b1"]) @ p["w2"]


def draw(units):
    return {
        n: RNG.normal(size=s).astype(np.float32)
        for n, s in {"w1": (8, units), "b1": (units,), "w2": (units, 4)}.items()
    }


A, B, WIDE = draw(16), draw(16), draw(20)
Y, OF_REFERENCE = (np.asarray(net(A, x)).argmax(1) for x in (X, REFERENCE))
# Each takes data and parameters to where they shall be.
CASES = {
    type(attack).__name__: lambda data, params, attack=attack: attack(
        net, params(A), data(X), data(Y), chunk=16
    ).x
    for attack in (
        FGSM(0.1), BIM(0.1, 0.03, 3), PGD(0.1, 0.03, 3), DeepFool(3), CarliniWagner(3, 2)
    )
}  # fmt: skip


def case(function):
    CASES[function.__name__] = function
    return function


@case
def detect(data, params):
    network = mcjax.trace(net, A, X)
    attacked = {"FGSM": FGSM(0.3)(network, params(A), data(X), data(Y))}
    reference = data(REFERENCE), data(OF_REFERENCE)
    return [
        mcjax.inputs.detect(feature, network, params(A), reference, attacked).scores
        for feature in (LossCurve(5), LocalDimension(5, 40))
    ]


@case
def interpolate(data, params):
    return mcjax.inputs.interpolate(net, params(A), (data(X), data(REFERENCE)), data(Y), 5).values


@case
def bypass(data, params):
    how = Bypass(0.3, depth=2, steps=4, block=2)
    pairs = data(X), data(REFERENCE)
    return mcjax.inputs.bypass(net, params(A), pairs, data(Y), how).height


@case
def synthesise(data, params):
    how = Synthesis(0.01, steps=4, block=2)
    return mcjax.inputs.synthesise(net, params(A), data(X), data(Y), how).x


@case
def pleas(data, params):
    one, other = (mcjax.trace(net, p, X) for p in (A, WIDE))
    made = mcjax.merge.pleas(one, params(A), params(WIDE), data(X), other=other, ratio=0.75)
    return net(made.params, REFERENCE), dict(made.pairs)


@case
def orbit(data, params):
    network = mcjax.trace(lambda p, x: jax.nn.relu(net(p, x)) @ p["w2"].T @ p["w2"], A, X)
    connected, _ = mcjax.Action.random(network, KEY).split()
    path = mcjax.path.Orbit(connected, params(A))
    return mcjax.evaluate(path, network, (data(X), data(Y)), 5, chunk=32).loss, path(0.3)


@case
def couple_incoming(data, params):
    one, other = (mcjax.trace(net, p, X) for p in (A, WIDE))
    found = mcjax.align.couple_incoming(one, params(A), other, params(WIDE))
    return found.params, dict(found.couplings)


@case
def evaluate_pairs(data, params):
    networks = [params(A), params(B), params(jax.tree.map(np.negative, A))]
    return mcjax.evaluation.evaluate_pairs(networks, net, (data(X), data(Y)), 3, chunk=32).values


@case
def learn_action(data, params):
    network = mcjax.trace(net, A, X)
    search = mcjax.align.ActionSearch(Protocol(2, batch=16))
    found = mcjax.align.learn_action(
        network, params(A), params(B), (data(X), data(Y)), search, key=KEY
    )
    return found.before, found.after, found.losses, found.action(A)


def sharded(tree, kind=AxisType.Auto):
    """Each array along its first axis that can be."""
    mesh = jax.make_mesh((DEVICES,), ("devices",), axis_types=(kind,))

    def put(v):
        axis = next(d for d, n in enumerate(v.shape) if n % DEVICES == 0)
        where = PartitionSpec(*[None] * axis, "devices")
        return jax.device_put(v, NamedSharding(mesh, where))

    return jax.tree.map(put, tree)


def compare(names):
    assert len(jax.devices()) == DEVICES
    as_it_is = lambda tree: tree
    explicitly = lambda tree: sharded(tree, AxisType.Explicit)
    placed = (sharded, as_it_is), (as_it_is, sharded), (sharded, sharded), (explicitly, as_it_is)
    for name in names:
        expected = CASES[name](as_it_is, as_it_is)
        for data, params in placed:
            jax.tree.map(
                lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-3, atol=1e-4, err_msg=name),
                CASES[name](data, params), expected,
            )  # fmt: skip
        print(name, "is the same")


QUICK = ["FGSM", "interpolate", "couple_incoming", "pleas"]


@pytest.mark.parametrize(
    "names",
    [QUICK, pytest.param([n for n in CASES if n not in QUICK], marks=pytest.mark.slow)],
    ids=["quick", "others"],
)
def test_four_devices_say_what_one_says(names):
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    program = f"from tests.test_meshes import compare; compare({names!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("is the same") == len(names)
