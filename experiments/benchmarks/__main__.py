"""`python -m experiments.benchmarks`: every speed target, measured, beside its floor."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from mcjax.study import machine

from ..common import done, write
from .layerwise import rows_of_layers
from .machine import in_a_process, matrix_rate, processor, row
from .sizes import rows_of_sizes

HERE = "experiments.benchmarks"
HEADER = ("work", "measured", "target", "floor", "GFLOP/s", "note", "on")


@dataclasses.dataclass
class Benchmarks:
    """Measure every speed target and write the table (Markdown and JSON)."""

    out: Path = Path(__file__).parent / "results"
    """Folder of the results."""
    only: tuple[str, ...] = ()
    """Modules, or a module and what it measures ("curves training"), to measure again; the others'
    numbers stay those in the folder, with the machine that they were measured on and its rate. What
    the folder has no number of is measured too."""


def main(arguments: Benchmarks) -> None:
    work = [
        ("sweep", "784-2000-10"), ("sweep", "784-512-512-512-10"), ("sweep", "orbit"),
        ("matching", "activations"), ("matching", "weights"), ("matching", "group"),
        ("tracing", "resnet20"), ("tracing", "transformer"),
        ("adjustment", "one"), ("adjustment", "path"), ("adjustment", "transport"),
        ("curves", "training"), ("curves", "statistics-mlp"), ("curves", "statistics-wide"),
        ("curves", "statistics-tiny-ten"), ("curves", "alignment"), ("imports", "all"),
        ("pairs", "barriers"), ("pairs", "matching"), ("pairs", "training"), ("pairs", "rates"),
        ("inputs", "curves"), ("inputs", "mlp"), ("inputs", "cnn"), ("inputs", "percolation"),
        ("attacks", "mlp"), ("attacks", "cnn"), ("layerwise", "resnet20"),
        ("sizes", "resnet50"), ("sizes", "vit-b16"), ("sizes", "gpt2-small"),
        ("sizes", "decoder-0.5b"),
    ]  # fmt: skip
    kind = jax.devices()[0].platform
    found, file = {}, arguments.out / f"{kind}.json"
    if arguments.only:
        found = json.loads(file.read_text())["measured"]
        names = {*arguments.only}
        work = [w for w in work if {w[0], " ".join(w)} & names or " ".join(w) not in found]
    bar = tqdm(work, leave=False)
    for module, what in bar:
        bar.set_description(f"{module} {what}")
        measured = in_a_process(f"{HERE}.{module}", what)
        found[f"{module} {what}"] = {**measured, "rate": matrix_rate(), "on": processor()}
        record = {"machine": {**machine(), "name": processor()}, "measured": found}
        write(file, json.dumps(record, indent=1) + "\n")
    rows = _rows(found)
    name = f"{processor()}, JAX {jax.__version__}"
    lines = [
        f"Last measured on {name}; GFLOP/s is the rate of float32 products of the machine that a "
        "row was measured on, at the time.", "",
        "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER),
    ]  # fmt: skip
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    table_file = arguments.out / f"{kind}.md"
    write(table_file, "\n".join(lines) + "\n")
    table = Table(*HEADER, title=name)
    for one in rows:
        table.add_row(*one)
    Console().print(table)
    done(file, table_file)


def _rows(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    parts = (
        _rows_of_sweeps, _rows_of_adjustment, _rows_of_curves, _rows_of_pairs, _rows_of_inputs,
        _rows_of_attacks, rows_of_layers, rows_of_sizes,
    )  # fmt: skip
    return [row for part in parts for row in part(found)]


def _rows_of_sweeps(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    rows = []
    for sizes, target in (("784-2000-10", "≥ 8×, < 2 GB"), ("784-512-512-512-10", "≥ 1.6×")):
        r = found[f"sweep {sizes}"]
        rows.append(row(
            r, f"sweep of 25 t, {sizes}, 70,000 images", f"{r['ratio']:.1f}× a jitted loop", target,
            f"{r['seconds']:.2f} s (loop {r['loop']:.1f} s), peak {r['memory'] / 1e9:.2f} GB",
        ))  # fmt: skip
    r = found["sweep orbit"]
    rows.append(row(
        r, "sweep of 25 t of an orbit, 784-512-512-512-10, 70,000 images",
        f"{r['seconds'] / r['linear']:.2f}× the segment's", "≤ 1.5×",
        f"{r['seconds']:.2f} s, constructed in {1e3 * r['construct']:.0f} ms",
    ))  # fmt: skip
    r = found["matching activations"]
    rows.append(row(
        r, "activation matching, 784-512-512-512-10, 10,000 images",
        f"{r['seconds']:.2f} s warm, {r['cold']:.2f} s cold", "≤ 0.3 s, ≤ 1.5 s",
    ))  # fmt: skip
    r = found["matching weights"]
    rows.append(row(
        r, "weight matching, 784-512-512-512-10", f"{100 * r['share']:.0f} % in SciPy", "≥ 80 %",
        f"{r['seconds']:.2f} s, networks trained on MNIST",
    ))  # fmt: skip
    r = found["matching group"]
    rows.append(row(
        r, "weight matching over the whole group, transformer of 12 layers, width 256",
        f"{r['ratio']:.1f}× permutations only", "≤ 3×", f"{r['seconds']:.1f} s",
    ))  # fmt: skip
    for name, target in (("resnet20", "< 1 s, ≤ 1.1×"), ("transformer", "< 3 s, ≤ 1.1×")):
        r = found[f"tracing {name}"]
        note = f"interpreter {r['interpreter']:.2f}× the plain forward"
        rows.append(row(r, f"trace, {name}", f"{r['seconds']:.2f} s", target, note))
    return rows


def _rows_of_adjustment(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    one, path, ot = (found[f"adjustment {k}"] for k in ("one", "path", "transport"))
    return [
        row(
            one, "weight adjustment, 2,000 units, 60,000 images",
            f"{one['lstsq'] / one['seconds']:.1f}× lstsq in float64, "
            f"{one['pinv'] / one['seconds']:.0f}× pinv in float32; residual {one['excess']:.0e} "
            "above the optimum", "≥ 5×, ≥ 15×, ≤ 1e-6",
            f"{one['seconds']:.2f} s; lstsq {one['lstsq']:.1f} s, pinv {one['pinv']:.0f} s "
            f"(residual {100 * one['pinv_excess']:.0f} % above)",
        ),
        row(
            path, "Linear + WA, 21 t, MNIST, constructed and evaluated",
            f"{path['seconds']:.0f} s", "≤ 60 s",
            f"constructed in {path['construct']:.0f} s, peak {path['memory'] / 1e9:.2f} GB",
        ),
        row(
            ot, "OT of 2,000 butterflies",
            f"{ot['seconds']:.2f} s, {100 * ot['share']:.0f} % in SciPy", "≤ 2 s, ≥ 70 %",
            "networks trained on MNIST",
        ),
    ]  # fmt: skip


def _rows_of_curves(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    r = found["curves training"]
    rows = [row(
        r, "an epoch of Bézier training, 784-512-512-512-10, 60,000 images, batch 128",
        f"{r['ratio']:.2f}× plain training, {r['seconds'] / r['floor']:.1f}× the floor",
        "≤ 1.5×, < 2×", f"{r['seconds']:.2f} s; four t a step {r['four']:.1f} s",
    )]  # fmt: skip
    for what, name in (("mlp", "784-512-512-512-10 with BatchNorm, 20,000 images"),
                       ("wide", "784-2000-10 with BatchNorm, 10,000 images"),
                       ("tiny-ten", "TinyTen, 1,000 images")):  # fmt: skip
        r = found[f"curves statistics-{what}"]
        rows.append(row(
            r, f"61 t with statistics estimated again, {name}",
            f"{r['loop'] / r['seconds']:.1f}× a loop over t of jitted passes", "≥ 3×",
            f"{r['seconds']:.1f} s in one pass a t (loop of two passes {r['loop']:.1f} s; in "
            f"chunks of 500, two passes, {r['chunked']:.1f} s cold)",
        ))  # fmt: skip
    r = found["curves alignment"]
    rows.append(row(
        r, "alignment of ResNet32, 10,000 images",
        f"{r['seconds'] / r['forwards']:.2f}× one forward pass of each network", "one pass",
        f"{r['seconds']:.1f} s, {r['cold']:.1f} s cold; the forward passes {r['forwards']:.1f} s",
    ))  # fmt: skip
    r = found["imports all"]
    rows.append(row(
        r, "import of mcjax alone, and of all it offers (but flows)",
        f"{r['alone'] / r['jax']:.2f}× import jax, {r['seconds'] / r['jax']:.2f}×", "≤ 1.6×, –",
        f"{r['alone']:.2f} s, {r['seconds']:.2f} s",
    ))  # fmt: skip
    return rows


def _rows_of_pairs(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    barriers, matching, training, rates = (
        found[f"pairs {k}"] for k in ("barriers", "matching", "training", "rates")
    )
    return [
        row(
            barriers, "barriers of 66 pairs × 11 t, 784-2000-10, 10,000 images",
            f"{barriers['ratio']:.1f}× 66 calls of evaluate, {barriers['parts']:.2f}× its parts",
            "≥ 3×, ≤ 1.25×",
            f"{barriers['seconds']:.1f} s; parts: 12 first layers and 726 remainders",
        ),
        row(
            matching, "weight matching of 66 pairs, 784-512-512-512-10",
            f"{100 * matching['share']:.0f} % in SciPy, two threads {matching['threads']:.2f}× one",
            "≥ 90 %, ≤ 0.6×",
            f"{matching['seconds']:.1f} s one after the other, networks trained on MNIST",
        ),
        row(
            training, "training 12 networks, 784-512-10, side by side",
            f"{training['ratio']:.2f}× one after the other", "≥ 2×",
            f"{training['seconds']:.1f} s an epoch of 10,000 images",
        ),
        row(
            rates, "W₂ of Gaussian neurons, d = 1 to 16, up to 4,096 of them",
            f"{rates['seconds']:.0f} s", "≤ 300 s", "assignments by SciPy, one thread",
        ),
    ]  # fmt: skip


def _rows_of_attacks(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    rows = []
    for name, network in (("mlp", "MLP on digits"), ("cnn", "a CNN on MNIST")):
        of = found[f"attacks {name}"]
        for kind, attack, target in (("pgd", "PGD", "≥ 1×"), ("cw", "Carlini-Wagner", "≥ 2×")):
            ratio = of.get(f"{kind}_ratio")
            against = "foolbox is not installed" if ratio is None else f"{ratio:.1f}× foolbox"
            label = f"{attack} of 500 images, {network}"
            note = f"{of[kind]:.2f} s, batches of {of[f'{kind}_batch']:.0f}"
            floor = {**of, "floor": of[f"{kind}_floor"]}
            rows.append(row(floor, label, against, target, note))
    return rows


def _rows_of_inputs(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    curves, mlp, cnn, sites = (
        found[f"inputs {k}"] for k in ("curves", "mlp", "cnn", "percolation")
    )
    return [
        row(
            curves, "loss curves of 1,000 pairs of inputs × 250 points, a CNN on MNIST",
            f"{curves['ratio']:.2f}× the bare forward", "≤ 1.1×",
            f"{curves['seconds']:.1f} s, batches of {curves['batch']:.0f}",
        ),
        row(
            mlp, "bypass of 100 pairs of digits at once, MLP",
            f"{mlp['ratio']:.1f}× one after the other", "≥ 5×", f"{mlp['seconds']:.2f} s",
        ),
        row(
            cnn, "bypass of 100 pairs at once, a CNN on MNIST, 64 steps",
            f"{cnn['ratio']:.2f}× the bare gradient steps", "≤ 1.5×",
            f"{cnn['seconds']:.1f} s of CPU time, {cnn['points']:.0f} points a segment, in the "
            f"defaults' proportion to the steps; of {3 * cnn['points']:.0f}: {cnn['curves']:.2f}×",
        ),
        row(
            sites, "percolation, 10⁶ sites, 2 to 20 dimensions", f"{sites['seconds']:.1f} s",
            "< 10 s",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Benchmarks, description=__doc__))
