"""`python -m experiments.anokhin2020.architectures`: layer by layer on every architecture.

Beyond the paper: trains two networks of every model of `mcjax.testing.models` on real
data, connects them with the layer-by-layer methods and compares the worst accuracy along
the path with plain linear interpolation. The models are tiny (most have 5 to 16 units a layer),
so weight adjustment has little to work with: this shows that it works, not how well it can. The
transformer is there in a wider version too: in 8 dimensions, a residual stream of B holds too
little of what layers of A would read. Models that are in the results already are left out: an
interrupted run goes on.

The data are scikit-learn's digits, projected on as many principal components as the model has
inputs (token models: components cut into 20 levels) and on as many classes as it has outputs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tqdm import tqdm

import mcjax
from mcjax.data import load
from mcjax.evaluation import estimate_batch_norm
from mcjax.methods import PRESETS, LayerByLayer, WeightAdjustment
from mcjax.network.batch_norm import statistics_of
from mcjax.study import machine
from mcjax.testing.models.catalogue import MODELS, Case, ResNet, Transformer, images, linen, tokens
from mcjax.training import TrainingLoss

from ..common import Run, done, write

CASES = {
    **MODELS,
    "transformer-64": lambda: linen(Transformer(width=64, heads=4), tokens(), []),
    # Three blocks a stage; the catalogue's have two.
    "resnet-projection": lambda: linen(ResNet(blocks=3), images(), []),
    "resnet-pad": lambda: linen(ResNet(shortcut="pad", blocks=3), images(), []),
}
DEFAULT = ("linear", "ot+butterfly", "linear+wa", "ot+wa")


@dataclasses.dataclass
class Architectures(Run):
    """Worst accuracy along layer-by-layer paths on every architecture of the catalogue."""

    models: tuple[str, ...] = tuple(CASES)
    """Names in mcjax.testing.models, and transformer-64."""
    methods: tuple[str, ...] = DEFAULT
    """Methods to compare; the first is what the others should beat."""
    pairs: int = 2
    """Pairs of networks of each model."""
    steps: int = 500
    """Steps of Adam on batches of 128."""


def digits_for(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the case's kind and labels of as many classes as it has outputs."""
    data = load("digits").flat()
    x = np.concatenate([data.x_train, data.x_test])
    y = np.concatenate([data.y_train, data.y_test])
    classes = jax.eval_shape(case.apply_fn, case.params, case.x).shape[-1]
    kept = y < classes
    x, y = x[kept] - x[kept].mean(0), y[kept]
    shape = case.x.shape[1:]
    wanted = int(np.prod(shape))
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    parts = np.resize(x @ axes[: min(wanted, 64)].T, (len(x), min(wanted, 64)))
    parts = np.concatenate([parts] * -(-wanted // parts.shape[1]), 1)[:, :wanted]
    parts = parts / parts.std()
    if jnp.issubdtype(case.x.dtype, jnp.integer):
        ranks = parts.argsort(0).argsort(0) * 20 // len(parts)
        return ranks.reshape(-1, *shape).astype(case.x.dtype), y
    return parts.reshape(-1, *shape).astype(np.float32), y


def logits_of(case: Case):
    """A classifier: outputs for each token are averaged."""

    def apply(params: Any, x: Any) -> jax.Array:
        out = case.apply_fn(params, x)
        return out.mean(tuple(range(1, out.ndim - 1))) if out.ndim > 2 else out

    return apply


def initial(case: Case, seed: int) -> Any:
    """Independent parameters of the case's distribution: the entries of each matrix shuffled."""
    rng = np.random.default_rng(seed)

    def shuffled(leaf: Any) -> Any:
        if leaf.ndim < 2:
            return leaf
        return jnp.asarray(rng.permutation(np.asarray(leaf).ravel()).reshape(leaf.shape))

    return jax.tree.map(shuffled, case.params)


def trained(case: Case, apply_fn: Any, data: tuple[Any, Any], seed: int, steps: int) -> Any:
    """A network trained by Adam, normalised by batches while it is, then by its statistics."""
    x, y = map(jnp.asarray, data)
    loss = TrainingLoss(apply_fn)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    start = initial(case, seed)

    # Not in a scan: XLA's gradients of convolutions inside loops are many times slower on a CPU.
    @jax.jit
    def step(params, state, key):
        indices = jax.random.randint(key, (128,), 0, len(x))
        gradient = jax.grad(loss, allow_int=True)(params, (x[indices], y[indices], key))
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, state = start, optimizer.init(start)
    for key in jax.random.split(jax.random.key(seed), steps):
        params, state = step(params, state, key)
    found = statistics_of(apply_fn, params, x)
    return estimate_batch_norm(apply_fn, params, x) if found else params


def at_six(name: str) -> Any:
    """A preset, with weights adjusted at 6 points of a leg."""
    method = PRESETS[name]
    if isinstance(method, LayerByLayer) and isinstance(method.reader, WeightAdjustment):
        return LayerByLayer(method.motion, WeightAdjustment(points=6))
    return method


def compare(name: str, options: Architectures) -> dict[str, Any]:
    """Method → worst accuracy (%) for each pair, and the end points' mean accuracy."""
    case = CASES[name]()
    apply_fn, data = logits_of(case), digits_for(case)
    out: dict[str, list[float]] = {m: [] for m in (*options.methods, "endpoints")}
    for pair in range(options.pairs):
        a, b = (trained(case, apply_fn, data, 2 * pair + i, options.steps) for i in range(2))
        network = mcjax.trace(apply_fn, a, data[0][:4])
        for method in options.methods:
            path = mcjax.connect(network, a, b, at_six(method), x=data[0]).path
            t = path.grid(4) if len(path.sections()) > 1 else 21
            curve = mcjax.evaluate(path, apply_fn, data, t, statistics=data[0])
            out[method].append(100 * curve.worst("accuracy"))
        out["endpoints"].append(50 * float(curve.accuracy[0] + curve.accuracy[-1]))
    return out


def table(found: dict[str, dict[str, list[float]]], methods: Sequence[str]) -> str:
    labels = [*(PRESETS[m].label for m in methods), "End points"]
    lines = [
        "Worst accuracy (%) along the path on the digits, mean over the pairs; bold where it beats "
        "the segment.", "",
        "| model | " + " | ".join(labels) + " |", "|---|" + "---:|" * len(labels),
    ]  # fmt: skip
    for name, row in found.items():
        base = np.mean(row[methods[0]])
        cells = [f"{np.mean(row[m]):.1f}" for m in (*methods, "endpoints")]
        for i, m in enumerate(methods[1:], 1):
            if np.mean(row[m]) > base:
                cells[i] = f"**{cells[i]}**"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(options: Architectures) -> None:
    if options.small:
        models = ("mlp",) if options.smoke else ("mlp", "convnet", "transformer")
        options = dataclasses.replace(options, models=models, pairs=1)
        options = dataclasses.replace(options, steps=5 if options.smoke else 200)
    folder = options.results(options.working("anokhin2020", "architectures"), __file__)
    files = [folder / f"architectures.{kind}" for kind in ("json", "md")]
    found = json.loads(files[0].read_text())["results"] if files[0].exists() else {}
    bar = tqdm(options.models, leave=False)
    for name in bar:
        bar.set_description(name)
        if name in found:
            continue
        found[name] = compare(name, options)
        record = {"machine": machine(), "steps": options.steps, "results": found}
        write(files[0], record)
        write(files[1], table(found, options.methods))
    print(table(found, options.methods))
    done(*files)


if __name__ == "__main__":
    main(tyro.cli(Architectures, description=__doc__))
