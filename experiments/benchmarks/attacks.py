"""Attacks on 500 images, against foolbox around a jitted forward pass; equal steps, compiled."""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mcjax.attacks import PGD, CarliniWagner
from mcjax.data import load
from mcjax.models import MLP, Conv2FC1

from .inputs import trained
from .machine import best_of, once

IMAGES, ROUNDS, STEPS = 500, 2, 50


def measure(name: str) -> dict[str, float]:
    """Seconds of PGD (40 steps) and Carlini-Wagner, and ratios to foolbox's if there is one."""
    mlp = name == "mlp"
    data = load("digits").flat() if mlp else load("mnist").first(6000)
    model = MLP((64, 64)) if mlp else Conv2FC1((8, 16))
    params = trained(model, data, 20 if mlp else 2)
    x, y = data.x_train[:6000], data.y_train[:6000]
    right = np.flatnonzero(np.asarray(model.apply(params, x)).argmax(1) == y)[:IMAGES]
    x, y = np.asarray(x[right]), np.asarray(y[right])
    search = CarliniWagner(STEPS, ROUNDS, stop_early=False)
    ours = {"pgd": PGD(0.1, 0.01, 40), "cw": search}
    found = {}
    for kind, attack in ours.items():
        found[kind] = best_of(lambda a=attack: a(model.apply, params, x, y, chunk=512).x, 2)
    for kind, run in theirs(lambda x: model.apply(params, x), x, y).items():
        run()  # compiles
        found[f"{kind}_ratio"] = once(run) / found[kind]
    return found


def theirs(forward: Any, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """The same by foolbox; nothing where it is not installed."""
    try:
        import foolbox  # type: ignore[import-not-found]
    except ImportError:
        return {}
    model = foolbox.models.JAXModel(jax.jit(forward), bounds=(0, 1))
    search = foolbox.attacks.L2CarliniWagnerAttack(ROUNDS, STEPS, abort_early=False)
    x, y = jnp.asarray(x), jnp.asarray(y)
    return {
        "pgd": lambda: foolbox.attacks.LinfPGD(rel_stepsize=0.1, steps=40)(
            model, x, y, epsilons=0.1
        )[1],
        "cw": lambda: search(model, x, y, epsilons=None)[1],
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
