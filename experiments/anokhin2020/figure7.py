"""`python -m experiments.anokhin2020.figure7`: WA-ensembles and independent networks.

Test accuracy against the number of networks in the ensemble, for independent networks and for
WA(n), adjusted at the n-th layer from the last; with what each costs in multiply-adds and in
parameters stored (anokhin2020, Fig. 7, there VGG16 on CIFAR-100).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tyro
from tqdm import tqdm

from mcjax import figures
from mcjax.data import IMAGENET, crop_and_flip, load
from mcjax.merge import independent, wa_ensemble
from mcjax.models import MLP, VGG16
from mcjax.study import machine
from mcjax.training import Protocol

from ..common import Run, digits, done, write
from .study import Study


@dataclasses.dataclass
class Figure7(Run):
    """Accuracy of WA-ensembles against the number of networks (Figure 7)."""

    network: Literal["mlp", "vgg16"] = "mlp"
    """mlp: three hidden layers of 512; vgg16: VGG16 without batch normalisation (CIFAR-10)."""
    data: Literal["mnist", "cifar10"] = "mnist"
    """Data set of the mlp."""
    epochs: int | None = None
    """Epochs of training (the paper's: MNIST 30, CIFAR 400)."""
    members: int = 7
    """Most networks in an ensemble."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""


def study_of(options: Figure7) -> Study:
    name = options.data if options.network == "mlp" else "cifar10"
    name = "digits" if options.small else f"{options.network}-{name}"
    work = options.working("anokhin2020", f"figure7-{name}")
    if options.small:
        width, protocol = (12, Protocol(2, 32)) if options.smoke else (64, Protocol(20, 32))
        hidden = (width, width, width)
        return Study(name, MLP(hidden), digits(options.smoke), protocol, protocol, work)
    model = MLP((512, 512, 512)) if options.network == "mlp" else VGG16()
    if name == "mlp-mnist":
        protocol = Protocol(options.epochs or 30)
        return Study(name, model, load("mnist", options.data_dir), protocol, protocol, work)
    protocol = Protocol(options.epochs or 400)
    data = load("cifar10", options.data_dir).standardised(*IMAGENET)
    augmented = dataclasses.replace(protocol, augment=crop_and_flip)
    return Study(name, model, data, augmented, protocol, work)


def measure(study: Study, networks: list[Any]) -> list[dict[str, Any]]:
    """Accuracy (%) and cost of every ensemble of the first k networks."""
    network = study.trace(networks[0])
    depth = len(network.layers)
    layers = [n for n in (1, 2, 3, 5, 8, 11, 14) if n < depth]
    rows: list[dict[str, Any]] = []
    work = [(n, k) for n in (0, *layers) for k in range(1, len(networks) + 1)]
    for layer, count in tqdm(work, desc=f"{study.name}: ensembles", leave=False):
        some = networks[:count]
        made = (
            independent(network, some)
            if layer == 0 or count == 1
            else wa_ensemble(network, some, study.data.x_train, layer=layer)
        )
        rows.append({
            "kind": f"WA({layer})" if layer else "Ind", "members": count,
            "accuracy": 100 * made.accuracy(study.test_data),
            "multiply_adds": made.flops * count, "parameters": made.parameters * count,
        })  # fmt: skip
    return rows


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The accuracy over the number of networks, and over what they cost."""
    rows = record["rows"]
    kinds = list(dict.fromkeys(r["kind"] for r in rows))
    words = {k: "independent" if k == "Ind" else k for k in kinds}
    colours = {**figures.colours_of(k for k in kinds if k != "Ind"), "Ind": "#222222"}
    model = record["model"].split("(")[0]
    with figures.house_style():
        (left, right), whole = figures.new_panels(2, width=4.9, height=3.6, sharey=True)
        ends: dict[str, dict[str, Any]] = {"members": {}, "multiply_adds": {}}
        for kind in kinds:
            mine = [r for r in rows if r["kind"] == kind]
            for panel, x in ((left, "members"), (right, "multiply_adds")):
                last = max(mine, key=lambda r: r[x])
                ends[x][words[kind]] = (last["accuracy"], colours[kind])
                figures.line(panel, [r[x] for r in mine], [r["accuracy"] for r in mine],
                             colours[kind], marker="o", ms=4)  # fmt: skip
                if x == "multiply_adds":
                    # Ensembles that cost one network stand above each other, left of all others.
                    left_of = mine[0][x] == mine[-1][x]
                    panel.annotate(
                        words[kind], (last[x], mine[-1]["accuracy"]), (-5 if left_of else 5, 0),
                        va="center", ha="right" if left_of else "left", fontsize=9,
                        textcoords="offset points", color=colours[kind],
                    )  # fmt: skip
        left.set(xlabel="networks in the ensemble", ylabel="test accuracy (%)",
                 title=f"{model} on {record['data']}")  # fmt: skip
        right.set(xlabel="multiply-adds, one network = 1", title="… and what it costs")
        right.margins(x=0.22)
        left.xaxis.get_major_locator().set_params(integer=True)
        figures.end_labels(left, ends["members"])
        figures.save_figure(whole, file)


def main(options: Figure7) -> None:
    study = study_of(options)
    members = min(options.members, 3) if options.smoke else options.members
    networks = study.networks(range(members), "networks")
    rows = measure(study, networks)
    stem = options.results(study.folder, __file__) / f"figure7-{study.name}"
    files = [stem.with_suffix(f".{kind}") for kind in ("json", "png", "md")]
    record = {"machine": machine(), "data": study.data.name, "model": repr(study.model),
              "protocol": study.protocol.to_dict(), "rows": rows}  # fmt: skip
    write(files[0], record)
    draw(record, files[1])
    lines = [
        f"{members} networks trained for {study.protocol.epochs} epochs on "
        f"{study.data.name}; costs in units of one network.", "",
        "| ensemble | test accuracy (%) | multiply-adds | parameters |", "|---|---:|---:|---:|",
    ]  # fmt: skip
    one = next(r for r in rows if r["members"] == 1)
    lines.append(f"| one network | {one['accuracy']:.2f} | 1.00 | 1.00 |")
    lines += [
        f"| {r['kind']} | {r['accuracy']:.2f} | {r['multiply_adds']:.2f} | {r['parameters']:.2f} |"
        for r in rows
        if r["members"] == members
    ]
    text = "\n".join(lines) + "\n"
    write(files[2], text)
    print(text)
    done(*files)


if __name__ == "__main__":
    main(tyro.cli(Figure7, description=__doc__))
