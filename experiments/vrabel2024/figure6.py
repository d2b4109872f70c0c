"""`python -m experiments.vrabel2024.figure6`: connectivity of inputs of untrained networks.

Synthetic inputs of low loss of a residual network that is not trained, joined in two rounds
(vrabel2024, Fig. 6); and, for Conjecture 4.1, how many pairs of similar inputs of random networks
are joined as the dimension of the inputs grows, with the bounds of Lemma D.1.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from mcjax import inputs
from mcjax.figures import along_path, end_labels, line, shade
from mcjax.tasks import REGRESSION
from mcjax.theory import cell_side, lipschitz_bound

from ..figures import AFTER, BEFORE, GREY, figure, finish, table
from .endpoints import Endpoint, Options, SmallResNet, chunk_of, cnn, folder_of
from .pictures import LEAST
from .study import along, modes

DELTA = 1e-3  # of the path; its ends are below half of it
# Random networks f: ℝ^d → [0, 1], as wide and deep in every dimension, and when inputs are similar.
WIDTH, DEPTH, GAIN, NEAR, SIMILAR = 64, 3, 2.0, 0.1, 0.05
DIMENSIONS = (2, 3, 4, 6, 8, 12, 16, 32, 64, 128)
ROUNDS = 4


def untrained(options: Options) -> Endpoint:
    """A network at its initialisation, in evaluation mode; no data."""
    model: Any = cnn(4, 8) if options.smoke else cnn(16, 32) if options.quick else SmallResNet()
    x = np.zeros((1, 8, 8, 1) if options.small else (1, 32, 32, 3), np.float32)
    params = jax.jit(model.init)(jax.random.key(options.seed), x)
    return Endpoint("untrained", model, params, None, chunk_of(options))  # type: ignore[arg-type]


def joined_modes(options: Options) -> dict[str, Any]:
    """Pairs of synthetic inputs, after one and two rounds."""
    net, each = untrained(options), 1 if options.small else 2
    shape = (8, 8, 1) if options.small else (32, 32, 3)
    delta = 0.2 if options.small else DELTA  # fewer features reach fewer classes
    how = inputs.Synthesis(delta / 2, steps=64 if options.smoke else 256 if options.quick else 4096)
    pairs = modes(net, shape, each, how, options.seed)
    if not len(pairs):
        raise RuntimeError(f"no synthetic input reached a loss of {how.delta:g}")
    around = inputs.Bypass(delta, 2, points=48 if options.small else 250, learning_rate=0.05,
                           deviation=0.0, roughness=0.0)  # fmt: skip
    made = net.bypass(pairs, around)
    shown = int(made.direct.height.argmax())  # the highest barrier is drawn
    chain, label = made.points[shown], int(pairs.y[shown])
    first = net.bypass(pairs.at(np.array([shown])), dataclasses.replace(around, depth=1))
    count = 48 if options.small else 250
    curves = {
        "primary": along(net, chain[[0, -1]], label, 2 * count),
        "secondary": along(net, first.points[0], label, count),
        "tertiary": along(net, chain, label, count),
    }
    apart = np.linalg.norm((pairs.a - pairs.c).reshape(len(pairs), -1), axis=1)
    size = np.linalg.norm(pairs.a.reshape(len(pairs), -1), axis=1)
    return {
        "delta": delta, "pairs": len(pairs), "of": 10 * each, "height": made.direct.height.tolist(),
        "after": made.height.tolist(), "status": made.status.tolist(),
        "rounds": made.rounds.tolist(), "distance": (apart / size).tolist(),
        "curves": {k: [v.tolist() for v in c] for k, c in curves.items()},
    }  # fmt: skip


def random_network(params: list[jax.Array], x: Any) -> Any:
    """f = sigmoid(4 w · h) of tanh layers: (n, d) → (n, 1) in [0, 1]."""
    for w in params[:-1]:
        x = jnp.tanh(x @ w)
    return jax.nn.sigmoid(4 * x @ params[-1])


@jax.jit
def _slopes(params: list[jax.Array], x: Any) -> jax.Array:
    return jax.vmap(jax.grad(lambda one: random_network(params, one[None])[0, 0]))(x)


_outputs = jax.jit(random_network)


def similar(params: Any, dimension: int, pairs: int, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of normally distributed inputs whose outputs differ by δ′ at most."""
    x = rng.normal(size=(4096, dimension)).astype(np.float32)
    out = np.asarray(_outputs(params, x))[:, 0]
    first, second = [], []
    for i in rng.permutation(len(x))[: 4 * pairs]:
        near = np.flatnonzero((np.abs(out - out[i]) <= SIMILAR) & (np.arange(len(x)) != i))
        if len(near) and len(first) < pairs:
            first.append(i)
            second.append(rng.choice(near))
    return x[first], x[second]


def of_dimension(dimension: int, pairs: int, networks: int, seed: int) -> dict[str, Any]:
    """How many similar inputs are joined after each round; bounds and gradients."""
    how = inputs.Bypass(NEAR**2, ROUNDS, 15, 50, 200, 25, 0.25, 0.05, 0.0, 0.0)
    rounds, below, bounds, steepest = [], [], [], []
    for n in range(networks):
        rng = np.random.default_rng([seed, dimension, n])
        sizes = [dimension, *[WIDTH] * DEPTH, 1]
        params = [
            jnp.asarray(rng.normal(size=(m, k)) * GAIN / m**0.5, jnp.float32)
            for m, k in itertools.pairwise(sizes)
        ]
        a, c = similar(params, dimension, pairs, rng)
        y = np.asarray(_outputs(params, a))
        made = inputs.bypass(random_network, params, (a, c), y, how, task=REGRESSION, chunk=64)
        rounds.append(made.rounds)
        below.append(made.status == "below delta")
        bounds.append(lipschitz_bound(params, 1.0, 4 / 4))
        steepest.append(float(np.linalg.norm(_slopes(params, a), axis=1).max()))
    reached, low = np.concatenate(rounds), np.concatenate(below)
    return {
        "dimension": dimension, "pairs": len(low),
        "joined": [float(np.mean(low & (reached <= k))) for k in range(ROUNDS + 1)],
        "bound": float(np.mean(bounds)), "steepest": max(steepest),
        "cell": cell_side(float(np.mean(bounds)), dimension, NEAR, SIMILAR),
    }  # fmt: skip


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The loss after each round; how many similar inputs are joined over the dimension."""
    found, rows = record["modes"], record["dimensions"]
    with figure(file, 15.5, 3.8) as drawn:
        *three, growing = drawn.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
        for k, (axes, (what, (t, loss))) in enumerate(
            zip(three, found["curves"].items(), strict=True)
        ):
            line(axes, t, np.maximum(loss, LEAST), AFTER if k else BEFORE)
            axes.axhline(found["delta"], color=GREY, ls=":", lw=1.2)
            along_path(axes, "C")
            axes.set(title=f"{what[:1].upper()}{what[1:]} loss curve", yscale="log")
        three[0].set(ylabel="cross-entropy, untrained")
        ends = {}
        for k in (0, 1, 2, ROUNDS):
            colour = BEFORE if not k else shade(AFTER, 0.6 - 0.15 * k)
            joined = [100 * r["joined"][k] for r in rows]
            line(growing, [r["dimension"] for r in rows], joined, colour, marker="o", ms=4)
            ends[f"{k} round{'s' * (k != 1)}"] = (joined[-1], colour)
        growing.set(title="Similar inputs that are joined", xlabel="dimension of the inputs",
                    ylabel="pairs (%)", ylim=(-2, 102))  # fmt: skip
        growing.set_xscale("log", base=2)
        end_labels(growing, ends)


def main(options: Options) -> None:
    folder = folder_of(options, "figure6")
    found = joined_modes(options)
    dimensions = (4,) if options.smoke else DIMENSIONS[::2] if options.quick else DIMENSIONS
    pairs, networks = (6, 1) if options.smoke else (32, 1) if options.quick else (48, 3)
    rows = [of_dimension(d, pairs, networks, options.seed)
            for d in tqdm(dimensions, "dimensions", leave=False)]  # fmt: skip
    below = np.array(found["status"]) == "below delta"
    one = [
        f"{found['pairs']} of {found['of']}", f"{np.mean(found['distance']):.2f}",
        f"{np.median(found['height']):.3g}", f"{np.max(found['height']):.3g}",
        *(f"{100 * np.mean(below & (np.array(found['rounds']) <= k)):.0f} %" for k in range(3)),
    ]  # fmt: skip
    tables = [
        table(f"Synthetic inputs of an untrained network, δ = {found['delta']:g}.",
              ("pairs with both ends below δ/2", "‖A − C‖ / ‖A‖", "median height", "largest",
               "joined, 0 rounds", "1", "2"), [one]),
        table(f"Similar inputs of random networks (|f(A) − f(C)| ≤ {SIMILAR}), joined where "
              f"|f − f(A)| ≤ {NEAR} along the path; Lemma D.1.",
              ("dimension", "pairs", "joined, 0 rounds", "1", "2", str(ROUNDS),
               "M, bound", "largest gradient seen", "side of a cell"),
              [[r["dimension"], r["pairs"], *(f"{100 * r['joined'][k]:.0f} %"
                                              for k in (0, 1, 2, ROUNDS)),
                f"{r['bound']:.3g}", f"{r['steepest']:.3g}", f"{r['cell']:.2g}"] for r in rows]),
    ]  # fmt: skip
    finish(options, folder, "figure6", {"modes": found, "dimensions": rows}, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
