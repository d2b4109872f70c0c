"""`python -m experiments.vrabel2024.figure9`: barriers between synthetic inputs during training.

At stages of the training of a network, after batches and epochs, pairs of synthetic inputs of each
class are made and the loss between them is averaged (vrabel2024, Fig. 9 and 10, App. E.1).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import tyro
from tqdm import tqdm

import mcjax
from mcjax import inputs
from mcjax.data import Dataset, crop_and_flip
from mcjax.evaluation import estimate_batch_norm
from mcjax.figures import along_path, line
from mcjax.tasks import CLASSIFICATION
from mcjax.training import Protocol, Trainer, TrainingLoss

from ..common import write
from ..figures import AFTER, beside, figure, finish, table
from .endpoints import Endpoint, Options, chunk_of, folder_of, setting
from .study import modes

BATCHES = (0, 1, 2, 3, 5, 8, 12, 20, 30)


@dataclasses.dataclass
class Figure9(Options):
    """Barriers during training."""

    pairs: int = 3
    """Pairs of each class at each stage (the paper's: 5)."""
    epochs: tuple[int, ...] = (1, 2, 4, 8)
    """Epochs that are stages (the paper's: 1 to 30)."""


def trained_to(
    options: Figure9, model: Any, data: Dataset, stages: list[int], size: int
) -> Iterator[tuple[int, Any]]:
    """(number of steps, parameters) at stages of training by Adam, 1e-3."""
    augment = crop_and_flip if data.name == "cifar10" else None
    loss = TrainingLoss.of(model.apply, CLASSIFICATION, Protocol(augment=augment))
    trainer = Trainer(
        lambda params, batch, key, given: loss(params, (*batch, key)), optax.adam(1e-3),
        stepwise=True,
    )  # fmt: skip
    key = jax.random.key(options.seed)
    state = trainer.init(model.init(key, data.x_train[:1]), key)
    whole = len(data.x_train) // size
    done = 0
    for stage in stages:
        for step in tqdm(range(done, stage), f"training to step {stage}", leave=False):
            order = np.random.default_rng([options.seed, step // whole])
            rows = order.permutation(len(data.x_train))[step % whole * size :][:size]
            batch = jax.tree.map(lambda v, r=rows: v[r][None], (data.x_train, data.y_train))
            state, _ = trainer.advance(state, batch, 1)
        done = stage
        yield stage, jax.tree.map(np.asarray, state.trained)


def networks(
    options: Figure9, model: Any, data: Dataset, stages: list[int], size: int, folder: Path
) -> dict[int, Any]:
    """The networks at all stages, from the folder if they are there."""
    files = {s: folder / f"step{s}.safetensors" for s in stages}
    if not all(f.exists() for f in files.values()):
        for stage, params in trained_to(options, model, data, stages, size):
            statistics = mcjax.trace(model.apply, params, data.x_train[:2]).normalisations.found
            if stage and statistics:
                params = estimate_batch_norm(model.apply, params, data.x_train[:5000])
            files[stage].parent.mkdir(parents=True, exist_ok=True)
            mcjax.save(files[stage], params)
    like = model.init(jax.random.key(0), data.x_train[:1])
    return {
        s: jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(mcjax.load(f)))
        for s, f in files.items()
    }


def measured(net: Endpoint, options: Figure9, stage: int, file: Path) -> dict[str, Any]:
    """Losses between synthetic inputs of one network; kept."""
    if file.exists():
        return json.loads(file.read_text())
    how = inputs.Synthesis(0.2 if options.small else 5e-3, steps=64 if options.smoke else 1024)
    each = 1 if options.small else options.pairs
    pairs = modes(net, net.data.x_train.shape[1:], each, how, options.seed + stage)
    record: dict[str, Any] = {"stage": stage, "pairs": len(pairs), "of": 10 * each}
    if len(pairs):
        points = 48 if options.small else 200
        found = net.interpolate(pairs, points)
        record |= {"t": found.t.tolist(), "loss": found.loss.tolist()}
    write(file, record)
    return record


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The mean loss at every stage, after batches and after epochs; the barriers."""
    import matplotlib

    of = list(zip(record["names"], record["stages"], strict=True))
    there = [(name, r) for name, r in of if r["pairs"]]
    with figure(file, 15, 4.0) as drawn:
        panels = drawn.subplots(1, 3)
        shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(there)))
        ends: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for (name, r), rgb in zip(there, shades, strict=True):
            late, colour = int(not name.startswith("batch")), matplotlib.colors.to_hex(rgb)
            line(panels[late], r["t"], r["mean"], colour)
            ends[late][name] = (r["mean"][len(r["mean"]) // 2], colour)
        titles = "after batches", "after epochs"
        for axes, title, names in zip(panels, titles, ends, strict=False):
            along_path(axes, "C")
            axes.set(title=f"Mean loss, {title}", yscale="log", ylabel="cross-entropy")
            beside(axes, names)
        heights = [np.array(r["highest"]) for _, r in there]
        x = range(len(there))
        panels[2].errorbar(x, [h.mean() for h in heights], [h.std() for h in heights], fmt="o-",
                           capsize=3, ms=4, color=AFTER)  # fmt: skip
        panels[2].set_xticks(x, [name for name, _ in there], rotation=60, fontsize=8)
        panels[2].set(title="Barriers: mean, standard deviation", ylabel="highest loss")


def summarised(of: dict[str, Any]) -> dict[str, Any]:
    """A stage: the mean of its losses, the highest of each pair; the work folder has all."""
    short = {k: of[k] for k in ("stage", "pairs", "of")}
    if not of["pairs"]:
        return short
    mean, highest = np.mean(of["loss"], 0), np.max(of["loss"], 1)
    return short | {"t": of["t"], "mean": mean.tolist(), "highest": highest.tolist()}


def main(options: Figure9) -> None:
    folder = folder_of(options, "figure9")
    data, model, _ = setting(options)
    name = f"figure9-{data.name}"
    size = 32 if options.small else 512
    whole = len(data.x_train) // size
    batches = (0, 1, 3) if options.smoke else BATCHES
    epochs = (1,) if options.smoke else (1, 2, 4) if options.quick else options.epochs
    of = {s: f"batch {s}" for s in batches} | {e * whole: f"epoch {e}" for e in epochs}
    work = options.working("vrabel2024", "figure9") / f"figure9-{data.name}"
    stages = sorted(of)
    found = []
    made = networks(options, model, data, stages, size, work)
    for stage in tqdm(stages, "stages", leave=False):
        net = Endpoint(data.name, model, made[stage], data, chunk_of(options))
        found.append(measured(net, options, stage, work / f"step{stage}.json"))
    rows = []
    for r in found:
        barrier: tuple[str, ...] = ("", "")
        if r["pairs"]:
            high = np.max(r["loss"], 1)
            barrier = f"{high.mean():.3g} ± {high.std():.2g}", f"{np.median(high):.3g}"
        rows.append([of[r["stage"]], f"{r['pairs']} of {r['of']}", *barrier])
    text = table(
        f"Highest loss between synthetic inputs of low loss during training; {data.name}, Adam "
        f"1e-3, batch {size}.",
        ("stage", "pairs", "barrier, mean ± standard deviation", "median"), rows,
    )  # fmt: skip
    record = {"stages": [summarised(r) for r in found], "names": [of[s] for s in stages]}
    finish(options, folder, name, record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Figure9, description=__doc__))
