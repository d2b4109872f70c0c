"""Attacks on 500 images, against foolbox around a jitted forward pass; equal steps, compiled.

Each in the better of two batches; beside the gradients alone that as many steps take.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mcjax.attacks import PGD, CarliniWagner
from mcjax.data import load
from mcjax.models import MLP, Conv2FC1
from mcjax.tasks import CLASSIFICATION

from .inputs import trained
from .machine import best_of

IMAGES, ROUNDS, STEPS, STEPS_OF_PGD = 500, 2, 50, 40
# On a CPU small batches stay in its caches, large ones are told what to do less often.
BATCHES = (64, 512)


def measure(name: str) -> dict[str, float]:
    """Seconds of PGD and Carlini-Wagner, of their gradients, and ratios to foolbox's if present."""
    mlp = name == "mlp"
    data = load("digits").flat() if mlp else load("mnist").first(6000)
    model = MLP((64, 64)) if mlp else Conv2FC1((8, 16))
    params = trained(model, data, 20 if mlp else 2)
    x, y = data.x_train[:6000], data.y_train[:6000]
    right = np.flatnonzero(np.asarray(model.apply(params, x)).argmax(1) == y)[:IMAGES]
    x, y = np.asarray(x[right]), np.asarray(y[right])
    ours = {
        "pgd": PGD(0.1, 0.01, STEPS_OF_PGD),
        "cw": CarliniWagner(STEPS, ROUNDS, stop_early=False),
    }
    other = theirs(lambda x: model.apply(params, x))
    step, found = gradients(model, params, x, y), {}
    for kind, steps in (("pgd", STEPS_OF_PGD), ("cw", ROUNDS * STEPS)):

        def run(batch: int, attack: Any = ours[kind]) -> Any:
            return attack(model.apply, params, x, y, chunk=batch).x

        found[f"{kind}_floor"] = steps * step
        found[kind], found[f"{kind}_batch"] = better(run)
        if kind in other:
            found[f"{kind}_ratio"] = better(lambda b, k=kind: other[k](x, y, b))[0] / found[kind]
    return found


def better(run: Callable[[int], Any]) -> tuple[float, int]:
    """The shorter time of the two batches, and which that is; a call before to compile."""
    return min((best_of(lambda b=batch: run(b), 1), batch) for batch in BATCHES)


def gradients(model: Any, params: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Seconds of the gradient of the loss by all images, once."""

    def loss(x: Any, y: Any) -> Any:
        return jnp.sum(CLASSIFICATION.losses(model.apply(params, x), y))

    gradient = jax.jit(jax.value_and_grad(loss))

    def run(batch: int) -> Any:
        parts = [slice(k, k + batch) for k in range(0, len(x), batch)]
        return [gradient(x[part], y[part]) for _ in range(10) for part in parts]

    return better(run)[0] / 10


def theirs(forward: Any) -> dict[str, Any]:
    """The same by foolbox: (x, y, batch) → images; nothing where it is not installed."""
    try:
        import foolbox  # type: ignore[import-not-found]
    except ImportError:
        return {}
    model = foolbox.models.JAXModel(jax.jit(forward), bounds=(0, 1))
    attacks = {
        "pgd": (foolbox.attacks.LinfPGD(rel_stepsize=0.1, steps=STEPS_OF_PGD), 0.1),
        "cw": (foolbox.attacks.L2CarliniWagnerAttack(ROUNDS, STEPS, abort_early=False), None),
    }

    def run(kind: str, x: np.ndarray, y: np.ndarray, batch: int) -> list[Any]:
        attack, epsilon = attacks[kind]
        x, y = jnp.asarray(x), jnp.asarray(y)
        parts = [slice(k, k + batch) for k in range(0, len(x), batch)]
        return [attack(model, x[part], y[part], epsilons=epsilon)[1] for part in parts]

    return {kind: partial(run, kind) for kind in attacks}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
