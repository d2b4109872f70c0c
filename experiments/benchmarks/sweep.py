"""A sweep of 25 t over 70,000 images, against a jitted whole-set forward looped over t."""

from __future__ import annotations

import json
import sys

import jax
import numpy as np

import mcjax
from mcjax.tasks import accuracy, cross_entropy

from .machine import best_of, images, matrix_rate, mlp, multiply_adds, once, peak_memory, random_mlp

N, T = 70_000, 25


def measure(sizes: tuple[int, ...]) -> dict[str, float]:
    x, y = images(N)
    path = mcjax.path.Linear(random_mlp(sizes, 0), random_mlp(sizes, 1))

    def sweep():
        return mcjax.evaluate(path, mlp, (x, y), T).loss

    cold = once(sweep)
    ours = best_of(sweep, 3)
    memory = peak_memory()  # before the loop below, which needs far more

    @jax.jit
    def whole(params, x, y):
        outputs = mlp(params, x)
        return cross_entropy(outputs, y).mean(), accuracy(outputs, y).mean()

    points = [path(float(t)) for t in np.linspace(0, 1, T)]
    whole(points[0], x, y)

    def loop():
        return [jax.block_until_ready(whole(p, x, y)) for p in points]

    looped = best_of(loop, 1)
    # The least there is to do: the first layer for two points, the others for every t.
    first = sizes[0] * sizes[1]
    least = 2 * N * (2 * first + T * (multiply_adds(sizes) - first))
    return {"seconds": ours, "cold": cold, "loop": looped, "ratio": looped / ours,
            "floor": least / matrix_rate(), "memory": memory}  # fmt: skip


def orbit() -> dict[str, float]:
    """A sweep along the orbit of 784-512-512-512-10 and along the segment to its end."""
    x, y = images(N)
    params = random_mlp((784, 512, 512, 512, 10), 0)
    network = mcjax.trace(mlp, params, x[:2])
    action, _ = mcjax.Action.random(network, jax.random.key(1)).split()
    construct = once(lambda: mcjax.path.Orbit(action, params).curve)
    paths = mcjax.path.Orbit(action, params), mcjax.path.Linear(params, action(params))
    # In turns: what else the machine does slows down both.
    times = [
        [once(lambda p=p: mcjax.evaluate(p, mlp, (x, y), T).loss) for p in paths] for _ in range(4)
    ]
    seconds, linear = (min(of) for of in zip(*times[1:], strict=True))
    return {"seconds": seconds, "linear": linear, "construct": construct}


if __name__ == "__main__":
    if sys.argv[1] == "orbit":
        print(json.dumps(orbit()))
    else:
        print(json.dumps(measure(tuple(map(int, sys.argv[1].split("-"))))))
