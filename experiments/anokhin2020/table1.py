"""`python -m experiments.anokhin2020.table1`: one hidden layer of 2,000 neurons, every method.

Trains end points and the networks that the learnable methods learn from by the paper's protocol,
connects disjoint pairs with every method of Table 1 and sets the worst accuracies beside the
paper's. Measures the loss along the swap stage besides, which the paper describes and does not
report.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from tqdm import tqdm

import mcjax
from mcjax import flows
from mcjax.align import match_butterflies
from mcjax.data import IMAGENET, crop_and_flip, load
from mcjax.models import MLP
from mcjax.path import Swaps
from mcjax.training import Protocol

from ..common import Run, digits
from .paper import TABLE1
from .study import Study, highest_peak, measure_all, table, write

METHODS = (
    "linear", "arc", "iaf-flow", "realnvp-bijection", "linear+wa", "arc+wa", "ot", "ot+wa",
    "garipov-3", "garipov-5",
)  # fmt: skip


@dataclasses.dataclass
class Table1(Run):
    """Worst accuracy along paths between networks with one hidden layer (Table 1)."""

    data: Literal["mnist", "cifar10"] = "mnist"
    """Data set."""
    epochs: int | None = None
    """Epochs of training (the paper's: mnist 30, cifar10 400); chains train half or twice as long,
    as in the paper."""
    examples: int | None = None
    """Only so many training images (default: all)."""
    pairs: int = 3
    """Disjoint pairs of networks."""
    population: int = 16
    """Networks that the learnable methods learn from."""
    methods: tuple[str, ...] = METHODS
    """Rows of the table."""
    steps: tuple[int, int] = (1000, 500)
    """Steps of training of the bijection and of the flow."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""


def study_of(options: Table1) -> Study:
    """The data, network and protocols that the options ask for."""
    name = "digits" if options.small else options.data
    work = options.working("anokhin2020", f"table1-{name}")
    if options.small:
        width, epochs = (24, 2) if options.smoke else (256, 20)
        chain = Protocol(max(epochs // 2, 1), 32)
        return Study(
            name, MLP((width,)), digits(options.smoke), Protocol(epochs, 32), chain, work,
            points=5 if options.smoke else 21,
        )  # fmt: skip
    if name == "mnist":
        epochs = options.epochs or 30
        data = load("mnist", options.data_dir).first(options.examples)
        return Study(name, MLP((2000,)), data, Protocol(epochs), Protocol(2 * epochs), work)
    epochs = options.epochs or 400
    data = load("cifar10", options.data_dir).standardised(*IMAGENET).first(options.examples)
    chain = Protocol(max(epochs // 2, 1))
    protocol = Protocol(epochs, augment=crop_and_flip)
    return Study(name, MLP((2000,)), data, protocol, chain, work)


def connection_models(study: Study, options: Table1) -> dict[str, Any]:
    """The learnable methods' models, trained on the population once and kept."""
    size = 4 if options.small else options.population
    first = 2 * options.pairs
    learnable = [m for m in ("realnvp-bijection", "iaf-flow") if m in options.methods]
    files = {m: study.folder / f"{m}.safetensors" for m in learnable}
    models = {m: mcjax.load(f) for m, f in files.items() if f.exists()}
    if len(models) == len(files):
        return models
    networks = study.networks(range(first, first + size), "population")
    network = study.trace(networks[0])
    quick, width = options.small, 16 if options.smoke else 256
    bijection_steps, flow_steps = options.steps
    if quick:
        bijection_steps = flow_steps = 4 if options.smoke else 40
    running = study.folder / "running"
    train: dict[str, tuple[int, Any]] = {
        "realnvp-bijection": (bijection_steps, lambda steps, progress: flows.train_bijection(
            network, networks, study.train_data,
            flows.Architecture("realnvp", blocks=2 if quick else 8, width=width, depth=1),
            flows.AdamProtocol(steps, 64 if options.smoke else 256, 3e-4),
            key=jax.random.key(0), directory=running, progress=progress,
        )),
        "iaf-flow": (flow_steps, lambda steps, progress: flows.train_flow(
            network, networks, flows.Architecture("iaf", blocks=2 if quick else 10, depth=0),
            flows.AdamProtocol(steps, 512), key=jax.random.key(0),
            directory=running, progress=progress,
        )),
    }  # fmt: skip
    for method in learnable:
        if method in models:
            continue
        steps, run = train[method]
        with tqdm(total=steps, desc=f"{study.name}: training {method}", leave=False) as bar:

            def progress(step: int, loss: float, bar: Any = bar) -> None:
                bar.update(step - bar.n)
                bar.set_postfix_str(f"loss {loss:.4f}")

            models[method] = run(steps, progress)
        mcjax.save(files[method], models[method])
    return models


def swap_stage(study: Study, a: Any, b: Any, points: int) -> list[dict[str, Any]]:
    """The loss in the middle of swaps, for several numbers of swaps that go together."""
    network = study.trace(a)
    permutations = match_butterflies(network, a, b).permutations
    rows = []
    most = sum(np.size(p) for p in permutations.values())
    for together in (1, 10, 100, most):
        stage = Swaps(network, b, permutations, together=together)
        t = np.concatenate([[0.0], stage.middles(points), [1.0]])
        curve = mcjax.evaluate(stage, study.apply, study.train_data, t)
        rows.append({"together": together, "legs": stage.legs, "curve": curve.to_dict()})
    return rows


def swap_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "", "The swap stage of OT, from the permuted B to B: training set, in the middle of swaps.",
        "", "| swaps together | legs | loss at the ends | highest loss | worst accuracy (%) |",
        "|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for row in rows:
        loss, accuracy = row["curve"]["loss"], row["curve"]["accuracy"]
        together = "all that are disjoint" if row is rows[-1] else str(row["together"])
        lines.append(f"| {together} | {row['legs']} | {loss[-1]:.4f} | {max(loss):.4f} | "
                     f"{100 * min(accuracy):.2f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def main(options: Table1) -> None:
    study = study_of(options)
    networks = study.networks(range(2 * options.pairs), "endpoints")
    models = connection_models(study, options)
    results = measure_all(study, networks, options.methods, models)
    swaps = swap_stage(study, networks[0], networks[1], 5 if options.small else 20)
    name = study.name
    text = table(study, results, TABLE1.get(name, {})) + swap_table(swaps)
    text += f"\nPeak memory: {highest_peak(results):.2f} GB.\n"
    out = options.results(study.folder, __file__)
    flows_used = {m: dict(v.metadata) | dataclasses.asdict(v.architecture) for m, v in
                  models.items()}  # fmt: skip
    print(text)
    write(out, f"table1-{name}", study, results, text, swaps=swaps, flows=flows_used)


if __name__ == "__main__":
    main(tyro.cli(Table1, description=__doc__))
