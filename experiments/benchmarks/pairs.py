"""Many networks at once: barriers of all pairs, their matching, training, rates of W₂."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import process_time

import jax
import jax.numpy as jnp
import threadpoolctl

import mcjax
from mcjax.align import match_weights
from mcjax.evaluation import evaluate_pairs
from mcjax.models import MLP
from mcjax.tasks import accuracy, cross_entropy
from mcjax.training import Protocol, train_networks

from ..ferbach2023.rates import gaussian
from ..ferbach2023.study import Options
from .machine import best_of, images, in_turn, matrix_rate, mlp, once, random_mlp, scipy_share
from .matching import trained

N, NETWORKS, T, WIDTH = 10_000, 12, 11, 2000
PAIRS = list(itertools.combinations(range(NETWORKS), 2))


def barriers() -> dict[str, float]:
    """Barriers of all pairs in one sweep, against a call of `evaluate` for each; CPU time.

    Such a call shares the first layer over t, and so takes two of them: 132 first layers and 726
    remainders, against 12 and 726. Their times say which ratio is possible (`ceiling`).
    """
    x, y = images(N)
    networks = [random_mlp((784, WIDTH, 10), seed) for seed in range(NETWORKS)]

    def together():
        return evaluate_pairs(networks, mlp, (x, y), T).values["loss"]

    def alone(pairs):
        paths = (mcjax.path.Linear(networks[i], networks[j]) for i, j in pairs)
        return [mcjax.evaluate(path, mlp, (x, y), T).loss for path in paths]

    cold = once(together)
    seconds = min(once(together, process_time) for _ in range(2))
    alone(PAIRS[:1])
    one_by_one = once(lambda: alone(PAIRS), process_time)
    rows, steps = x[:500], N // 500
    w = jnp.ones((784, WIDTH))
    first = jax.jit(lambda v, w: v @ w)
    h = first(rows, w)

    @jax.jit
    def remainder(t, h, g, w, y):
        outputs = jax.nn.relu((1 - t) * h + t * g) @ w
        return cross_entropy(outputs, y).mean(), accuracy(outputs, y).mean()

    last, labels = jnp.ones((WIDTH, 10)), jnp.asarray(y[:500])
    g = h + 1
    of_first = steps * best_of(lambda: first(rows, w), 20, process_time)
    of_remainder = steps * best_of(lambda: remainder(0.3, h, g, last, labels), 20, process_time)
    remainders = len(PAIRS) * T * of_remainder
    parts = NETWORKS * of_first + remainders
    floor = 2 * N * (NETWORKS * 784 * WIDTH + len(PAIRS) * T * WIDTH * 10) / matrix_rate()
    return {"seconds": seconds, "cold": cold, "ratio": one_by_one / seconds,
            "parts": seconds / parts, "floor": floor,
            "ceiling": (2 * len(PAIRS) * of_first + remainders) / parts}  # fmt: skip


def matching() -> dict[str, float]:
    """Weight matching of all pairs: SciPy's share of the CPU time, and two threads against one.

    The two take one BLAS thread each: with two each, which BLAS hands out to one of them at a time,
    they wait for each other.
    """
    network, networks = trained(NETWORKS, 1)

    def match(pair: tuple[int, int]) -> None:
        match_weights(network, *(networks[k] for k in pair))

    def one() -> None:
        for pair in PAIRS:
            match(pair)

    def two() -> None:
        with threadpoolctl.threadpool_limits(1, "blas"), ThreadPoolExecutor(2) as pool:
            for _ in pool.map(match, PAIRS):
                pass

    seconds, ratio = in_turn(two, one, 1)
    _, share = scipy_share(one, 1)
    return {"seconds": seconds / ratio, "threads": ratio, "share": share}


def training() -> dict[str, float]:
    """An epoch of twelve networks side by side, against one after the other; 784-512-10."""
    x, y = images(N)
    model, protocol = MLP((512,)), Protocol(1, 128)

    def train(seeds):
        return train_networks(
            model.apply, lambda key: model.init(key, x[:1]), (x, y), seeds, protocol
        )

    together = best_of(lambda: train(range(NETWORKS)), 2)
    alone = best_of(lambda: [train([seed]) for seed in range(NETWORKS)], 1)
    return {"seconds": together, "ratio": alone / together}


def rates() -> dict[str, float]:
    """Gaussian neurons of dimension 1 to 16, width up to 4,096 (experiments/ferbach2023/rates)."""
    with tempfile.TemporaryDirectory() as folder:
        return {"seconds": once(lambda: gaussian(Options(work=Path(folder)), 12))}


if __name__ == "__main__":
    chosen = {"barriers": barriers, "matching": matching, "training": training, "rates": rates}
    print(json.dumps(chosen[sys.argv[1]]()))
