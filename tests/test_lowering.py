"""Every compiled core lowers for accelerators, on a machine without one."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mcjax
from mcjax.adjust import moments as adjust_moments
from mcjax.align import cycle_consistent
from mcjax.attacks import PGD, CarliniWagner, DeepFool
from mcjax.attacks.driver import Plan, _advance
from mcjax.evaluation import Repaired, batch_norm, sweep
from mcjax.network import moments
from mcjax.path import Arc, Linear
from mcjax.tasks import CLASSIFICATION
from mcjax.testing.models.catalogue import VGG, images, linen
from mcjax.training.driver import Trainer

PLATFORMS = ("cuda", "tpu")


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]


def params(seed):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (40, 12), "b1": (12,), "w2": (12, 3)}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


X, Y = jnp.asarray(np.random.default_rng(0).normal(size=(30, 40)), jnp.float32), jnp.arange(30) % 3
TS = jnp.linspace(0, 1, 3)
NETWORK = mcjax.trace(mlp, params(0), X[:2])
PATH = Linear(params(0), params(1))


def loss(trained, batch, key, given):
    return jnp.mean(mlp(trained, batch) ** 2)


def a_sweep(path=PATH, t_batch=1):
    plan = sweep.Plan(mlp, CLASSIFICATION, 10, t_batch)
    return partial(sweep.sweep, plan), (path, TS, {}, X, Y, jnp.ones(30))


def the_core():
    return lambda path: mcjax.evaluation.metrics_at(path, NETWORK, (X, Y), TS), (PATH,)


def a_step():
    trainer = Trainer(loss, optax.adam(0.01))
    return trainer.step, (trainer.init(params(0)), X)


def batch_norm_estimate():
    case = linen(VGG(), images(), [])
    arguments = Linear(case.another(1), case.another(2)), TS, {}, images(batch=16)
    return partial(batch_norm._estimate, case.apply_fn, 8, None), arguments


def adjusting():
    wanted = (adjust_moments.Wanted(1, 0),)
    sums = partial(adjust_moments._sums, NETWORK, wanted, wanted, 10)
    return sums, (PATH, TS, (params(0),), X)


def matching(monkeypatch):
    """What the matching of activations compiles, as it is called."""
    called, real = [], moments._sums
    monkeypatch.setattr(moments, "_sums", lambda *a: (called.append(a), real(*a))[1])
    mcjax.align.match_activations(NETWORK, params(0), params(1), X)
    (arguments,) = called
    return partial(real, *arguments[:4]), arguments[4:]


def an_attack():
    attack = PGD(epsilon=0.1, step=0.05, steps=2)
    return lambda p, x: attack.perturb(mlp, p, x, Y, key=jax.random.key(0)), (params(0), X)


def a_step_of(attack):
    """What the driver compiles: a block of steps."""
    plan = Plan(dataclasses.replace(attack, bounds=(-9.0, 9.0)), mlp, CLASSIFICATION, False)
    state = attack.init(plan.aim(params(0), X, Y), jax.random.key(0))
    return partial(_advance, plan, 3), (params(0), (X, Y), state)


def repair():
    return lambda path, t: path.at(t), (Repaired(PATH, NETWORK, X, chunk=10), TS[1])


def of_three(function, *more):
    """Cycle-consistent matching of three networks."""
    matrices = [mcjax.Action.identity(NETWORK).matrices()] * 3
    return partial(function, NETWORK), ([params(0)] * 3, matrices, *(matrices for _ in more))


CORES = {
    "sweep": a_sweep,
    "sweep, t at once": partial(a_sweep, Arc(params(0), params(1)), 3),
    "metrics_at": the_core,
    "training step": a_step,
    "batch normalisation": batch_norm_estimate,
    "weight adjustment": adjusting,
    "matching": matching,
    "attack": an_attack,
    "attack: DeepFool": partial(a_step_of, DeepFool()),
    "attack: Carlini and Wagner": partial(a_step_of, CarliniWagner(9, 3)),
    "repair": repair,
    "many: objective": partial(of_three, cycle_consistent._objective),
    "many: gradient": partial(of_three, cycle_consistent._gradient),
    "many: line search": partial(of_three, cycle_consistent._along, "towards"),
    "sinkhorn": lambda: (mcjax.transport.sinkhorn, (jnp.ones((4, 4)),)),
    "project": lambda: (mcjax.transport.project, (jnp.eye(4),)),
}


@pytest.mark.parametrize("name", list(CORES))
def test_lowers_for_accelerators(name, monkeypatch):
    make = CORES[name]
    function, arguments = make(monkeypatch) if name == "matching" else make()
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    assert set(exported.platforms) == set(PLATFORMS)
    assert "callback" not in exported.mlir_module()


def test_a_host_callback_is_seen():
    f = lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), x.dtype), x)
    with pytest.raises(Exception, match="callback"):
        jax.export.export(jax.jit(f), platforms=PLATFORMS)(jnp.ones(()))
