"""`python -m experiments.ferbach2023.figure2`: three matchers, six rates (ferbach2023, Fig. 2).

784-512-512-512-10 on MNIST: the loss halfway between matched networks, both barriers, and the
effective dimension of what each matcher looks at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import mcjax
from mcjax import theory
from mcjax.align import Matching, match_activations, match_incoming
from mcjax.evaluation import PairwiseCurves, evaluate_pairs, mean_over_pairs
from mcjax.figures import METHOD_COLOURS, line

from ..figures import BEFORE, BLUE, ORANGE, PINK, beside, figure, finish, table
from .correlation import Cells, concordant, rank_correlation
from .networks import Dense, Warmed, data_of, networks
from .study import Options, folder_of, kept, plain_ticks, seeds_of

RATES = (1e-4, 4e-4, 1.6e-3, 6.3e-3, 2.5e-2, 0.1)
MATCHERS = ("naive", "theirs", "activations")
LABELS = {"none": "not matched", "naive": "incoming weights", "theirs": "… in the metric of inputs",
          "both": "… of both networks", "activations": "activations"}  # fmt: skip
COLOURS = {"none": BEFORE, "naive": BLUE, "theirs": ORANGE, "both": PINK,
           "activations": METHOD_COLOURS["activation matching"]}  # fmt: skip
# Read off the paper's plots: test loss of the networks, and at t = ½ by matcher.
PAPER = {
    "ends": (1.02, 0.33, 0.19, 0.083, 0.067, 0.076), "naive": (2.05, 1.4, 1.25, 0.9, 0.39, 0.085),
    "theirs": (1.35, 0.55, 0.41, 0.25, 0.14, 0.098),
    "activations": (1.22, 0.47, 0.32, 0.18, 0.126, 0.10),
}  # fmt: skip
SAMPLE = 10_000  # training images that activations and second moments are of


@dataclasses.dataclass
class Figure2(Options):
    """Matchers against learning rates."""

    hidden: tuple[int, ...] = (512, 512, 512)
    """Widths of the hidden layers; the paper's numbers are shown for its own alone."""
    networks: int = 3
    """Networks of each rate; all pairs of them are matched."""
    epochs: int = 5
    """Epochs of batches of 100 (the paper: 50 of 500, twice as many steps)."""


def matcher(
    name: str, network: mcjax.Network, x: Any, found: list[Matching]
) -> Callable[[Any, Any], Any]:
    """(A, B) → B aligned to A; what was found is put on the list."""
    match = {
        "naive": lambda a, b: match_incoming(network, a, b),
        "theirs": lambda a, b: match_incoming(network, a, b, x),
        "both": lambda a, b: match_incoming(network, a, b, x, both=True),
        "activations": lambda a, b: match_activations(network, a, b, x, "covariance"),
    }[name]

    def align(a: Any, b: Any) -> Any:
        found.append(match(a, b))
        return network.permute(found[-1].permutations, b)

    align.__name__ = name
    return align


def between(name: str, params: Sequence[Any], network: mcjax.Network, data: Any) -> dict[str, Any]:
    """Curves between every two networks on the test set, and W₂² of every layer."""
    found: list[Matching] = []
    align = None if name == "none" else matcher(name, network, data.x_train[:SAMPLE], found)
    curves = evaluate_pairs(params, network, (data.x_test, data.y_test), 5, align=align)
    squared = [dict(m.after) for m in found if m.minimised]
    return {"curves": curves.to_dict(), "squared distances": squared}


def of_layers(
    params: Sequence[Any], network: mcjax.Network, data: Any, look: Callable[..., Any],
    measure: Callable[[Any], float] = float,
) -> dict[str, Any]:  # fmt: skip
    """Matcher → (networks, layers): a measure of what it compares, as `look` shows it."""
    out: dict[str, list[list[float]]] = {name: [] for name in MATCHERS}
    for one in params:
        layers = look(network, one, data.x_train[:SAMPLE])
        out["naive"].append([measure(layer.weights) for layer in layers[:-1]])
        out["theirs"].append([measure(layer.incoming) for layer in layers[:-1]])
        out["activations"].append([measure(layer.inputs) for layer in layers[1:]])
    return out


def intrinsic(points: Any) -> float:
    """By two nearest neighbours; NaN where so many units are dead that there is none."""
    try:
        return theory.intrinsic_dimension(points)
    except ValueError:
        return float("nan")


def noise_of(params: Sequence[Any], network: mcjax.Network, data: Any) -> dict[str, Any]:
    """(networks, layers) of rank, noise and misfit of incoming weights."""
    found = [
        [theory.low_rank_noise(layer.weights)
         for layer in theory.neuron_clouds(network, one, data.x_train[:2])[:-1]]  # of any inputs
        for one in params
    ]  # fmt: skip
    return {
        name: [[getattr(layer, name) for layer in layers] for layers in found]
        for name in ("rank", "noise", "misfit")
    }


def of_rate(options: Figure2, rate: float, data: Any, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Everything that is measured on the networks of one rate."""
    count = 2 if options.smoke else 3 if options.quick else options.networks
    seeds = seeds_of(options, count)
    protocol = (
        Warmed(2 if options.smoke else 20, 32, 10 * rate, weight_decay=0)
        if options.small
        else Warmed(options.epochs, 100, rate, weight_decay=0)
    )
    folder = options.working("ferbach2023", "figure2")
    params = networks(hidden, data, seeds, protocol, folder)
    network = mcjax.trace(Dense(hidden).apply, params[0], data.x_train[:2])
    widths = "-".join(map(str, hidden))
    mark = f"{widths}-rate{rate:g}-{options.seed}+{count}-{protocol.epochs}"
    of = params, network, data
    out = {
        "between": {
            name: kept(folder / f"{mark}-{name}.json", lambda name=name: between(name, *of))
            for name in LABELS
        },
        "dimensions": kept(folder / f"{mark}-dimensions.json",
                           lambda: of_layers(*of, theory.layer_dimensions)),
        "noise": kept(folder / f"{mark}-noise.json", lambda: noise_of(*of)),
    }  # fmt: skip
    if find_spec("skdim"):  # the extra mcjax[dimension]
        out["intrinsic"] = kept(
            folder / f"{mark}-intrinsic.json",
            lambda: of_layers(*of, theory.neuron_clouds, intrinsic),
        )
    return out


def numbers(found: Mapping[float, Any]) -> dict[str, Any]:
    """Matcher → rate → what the tables show: matrices over networks, and dimensions."""
    out: dict[str, dict[float, Any]] = {name: {} for name in LABELS}
    for rate, measured in found.items():
        for name in LABELS:
            curves = PairwiseCurves.from_dict(measured["between"][name]["curves"])
            out[name][rate] = {
                "middle": curves.at_middle(), "chord": curves.barriers(),
                "endpoint": curves.barriers("endpoint"),
                "dimensions": np.array(measured["dimensions"].get(name, [])),
                "intrinsic": np.array(measured.get("intrinsic", {}).get(name, [])),
            }  # fmt: skip
    return out


def cells_of(measured: Mapping[str, Any], kind: str = "dimensions") -> Cells:
    """Error at t = ½ and dimension (the geometric mean over layers) of every cell."""
    cells = [(name, rate) for name in MATCHERS for rate in measured[name]]
    return Cells(
        [name for name, _ in cells],
        [rate for _, rate in cells],
        np.stack([measured[n][r]["middle"] for n, r in cells]),
        np.stack([np.exp(np.log(measured[n][r][kind]).mean(1)) for n, r in cells]),
    )


def main_table(measured: Mapping[str, Any], paper: bool, epochs: int) -> str:
    rows = []
    for k, rate in enumerate(measured["none"]):
        ends = np.diag(measured["none"][rate]["middle"])
        row = [f"{rate:g}", f"{ends.mean():.3f}" + (f" / {PAPER['ends'][k]}" if paper else "")]
        for name in LABELS:
            middle = mean_over_pairs(measured[name][rate]["middle"])
            theirs = f" / {PAPER[name][k]}" if paper and name in PAPER else ""
            around = "" if np.isnan(middle.deviation) else f" ± {middle.deviation:.3f}"  # one pair
            row.append(f"{middle.mean:.3f}{around}{theirs}")
        rows.append(row)
    return table(
        "Test loss of the networks and at t = ½, mean ± standard deviation over pairs"
        + (
            f" / read off the paper's plots (6,000 steps there, {600 * epochs:,} here)."
            if paper
            else "."
        ),
        ["rate", "networks", *LABELS.values()],
        rows,
    )


def barrier_table(measured: Mapping[str, Any]) -> str:
    rows = [
        [f"{rate:g}", *(
            f"{mean_over_pairs(measured[n][rate]['chord']).mean:.3f} / "
            f"{mean_over_pairs(measured[n][rate]['endpoint']).mean:.3f}" for n in LABELS
        )]
        for rate in measured["none"]
    ]  # fmt: skip
    return table("Barriers of the test loss: above the chord / above the higher end, means over "
                 "pairs.", ["rate", *LABELS.values()], rows)  # fmt: skip


def dimension_table(measured: Mapping[str, Any]) -> str:
    rows = [
        [f"{rate:g}", *(
            ", ".join(f"{v:.1f}" for v in measured[n][rate]["dimensions"].mean(0))
            for n in MATCHERS
        )]
        for rate in measured["none"]
    ]  # fmt: skip
    return table("Effective dimension of what is matched, hidden layers in order, means over "
                 "networks.", ["rate", *(LABELS[n] for n in MATCHERS)], rows)  # fmt: skip


def cloud_table(found: Mapping[float, Any]) -> str:
    """Of the neurons as points: rank and noise of the weights, and intrinsic dimensions."""
    intrinsic = all("intrinsic" in measured for measured in found.values())
    layers = lambda values, digits: ", ".join(  # noqa: E731
        f"{v:.{digits}f}" for v in np.mean(values, 0)
    )
    rows = [
        [f"{rate:g}", layers(measured["noise"]["rank"], 0), layers(measured["noise"]["noise"], 4),
         layers(measured["noise"]["misfit"], 2),
         *(layers(measured["intrinsic"][n], 1) for n in MATCHERS if intrinsic)]
        for rate, measured in found.items()
    ]  # fmt: skip
    return table(
        "Neurons as points, hidden layers in order, means over networks: incoming weights as a "
        "matrix of low rank and noise (misfit: distance from the law of noise, 0 to 1)"
        + ("; intrinsic dimension (TwoNN) of what is matched." if intrinsic else "."),
        ["rate", "rank", "noise", "misfit", *(LABELS[n] for n in MATCHERS if intrinsic)],
        rows,
    )


def claims(cells: Cells, kind: str = "effective") -> tuple[str, dict[str, Any]]:
    """Does a smaller dimension go with a smaller error?"""
    found = {"all": rank_correlation(cells)}
    found |= {name: rank_correlation(cells.where(name)) for name in MATCHERS}
    rows = [
        [LABELS.get(name, "all cells"), c.cells, f"{c.value:.2f}",
         _interval(c.low, c.high), _interval(c.least, c.most)]
        for name, c in found.items()
    ]  # fmt: skip
    agree, of = concordant(cells)
    text = table(
        f"Rank correlation (Spearman) of {kind} dimension and loss at t = ½ over cells (matcher "
        "× rate). Intervals, 95 %: cells as a sample (Bonett and Wright 2000); networks drawn anew "
        f"(bootstrap). Of two matchers at one rate, the one of smaller dimension has the smaller "
        f"loss in {agree} of {of} cases.",
        ["cells", "number", "correlation", "over cells", "over networks"],
        rows,
    )
    return text, {name: dataclasses.asdict(c) for name, c in found.items()} | {
        "concordant": [agree, of]
    }


def _interval(low: float, high: float) -> str:
    return "–" if np.isnan(low) else f"{low:.2f} to {high:.2f}"


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Losses half-way by rate, effective dimensions, and one against the other."""
    measured = numbers({float(rate): of for rate, of in record["rates"].items()})
    cells, paper = cells_of(measured), tuple(record["hidden"]) == (512, 512, 512)
    rates, names = list(measured["none"]), {}
    with figure(file, 14.6, 4.2) as drawn:
        left, middle, right = drawn.subplots(1, 3)
        ends = [np.diag(measured["none"][r]["middle"]).mean() for r in rates]
        left.plot(rates, ends, "--", color="#222222", lw=1.4)
        names["the networks"] = (ends[-1], "#222222")
        for name, colour in COLOURS.items():
            means = [mean_over_pairs(measured[name][r]["middle"]) for r in rates]
            losses = [m.mean for m in means]
            left.errorbar(rates, losses, [m.deviation for m in means], fmt="o-", ms=4,
                          color=colour, elinewidth=1)  # fmt: skip
            names[LABELS[name]] = (losses[-1], colour)
            if paper and name in PAPER:
                left.plot(rates, PAPER[name], ":", color=colour, lw=1)
            if name in MATCHERS:
                dims = [cells.mean_dimension(name, r) for r in rates]
                line(middle, rates, dims, colour, marker="o", ms=4)
                line(right, dims, losses, colour, lw=0.8)
                right.scatter(dims, losses, s=np.linspace(20, 90, len(rates)), color=colour)
        left.set(title="(a) test loss at t = ½" + ("; dotted: the paper" if paper else ""),
                 xlabel="learning rate", ylabel="cross-entropy")  # fmt: skip
        middle.set(title="(b) effective dimension", xlabel="learning rate",
                   ylabel="dimension, mean over layers")  # fmt: skip
        right.set(title="(c) loss and dimension (large: high rate)",
                  xlabel="effective dimension", ylabel="loss at t = ½")  # fmt: skip
        for axes in (left, middle, right):
            axes.set(xscale="log", yscale="log")
        for axis in (middle.yaxis, right.xaxis):
            plain_ticks(axis)
        beside(right, names)


def main(options: Figure2) -> None:
    data = data_of(options)
    hidden = (12,) if options.smoke else (48, 48, 48) if options.quick else options.hidden
    rates = RATES[3:5] if options.smoke else RATES
    found = {rate: of_rate(options, rate, data, hidden) for rate in rates}
    measured = numbers(found)
    folder = folder_of(options, "figure2")
    paper = not options.small and hidden == (512, 512, 512)
    name = "figure2" if options.small or paper else f"figure2-{'-'.join(map(str, hidden))}"
    text, correlations = claims(cells_of(measured))
    tables = [main_table(measured, paper, options.epochs), barrier_table(measured),
              dimension_table(measured), cloud_table(found), text]  # fmt: skip
    if all("intrinsic" in of for of in found.values()):
        text, more = claims(cells_of(measured, "intrinsic"), "intrinsic")
        tables.append(text)
        correlations["intrinsic"] = more
    record = {"hidden": hidden, "epochs": options.epochs, "data": data.name,
              "rates": {str(r): v for r, v in found.items()},
              "correlations": correlations}  # fmt: skip
    finish(options, folder, name, record, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Figure2, description=__doc__))
