"""`python -m experiments.ferbach2023.widths`: barriers after matching, against width.

Networks with one and with two hidden layers: barriers between matched networks and W₂ of the
matched incoming weights (ferbach2023, Thm 3.1 and 5.2).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import mcjax
from mcjax import theory
from mcjax.align import match_incoming
from mcjax.evaluation import PairMean, PairwiseCurves, evaluate_pairs, mean_over_pairs
from mcjax.figures import line, shade

from ..figures import BLUE, ORANGE, beside, figure, finish, table
from .networks import Dense, Warmed, data_of, networks
from .study import Options, folder_of, guide, kept, plain_ticks, seeds_of, slope, ticks_at

SAMPLE = 10_000


@dataclasses.dataclass
class Widths(Options):
    """Barriers against width."""

    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096)
    """Units of each hidden layer."""
    networks: int = 4
    """Networks of each width; all pairs of them are matched."""
    epochs: int = 3
    """Epochs of training, batches of 100, rate 0.025 at its highest."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """Networks of one width, and where what is measured on them is kept."""

    params: list[Any]
    network: mcjax.Network
    hidden: tuple[int, ...]
    mark: str


def trained_networks(options: Widths, data: Any, depth: int, width: int) -> Trained:
    """The networks of a depth and a width; `dropout` uses the same ones."""
    count = 3 if options.small else options.networks
    protocol = (
        Warmed(2 if options.smoke else 10, 32, 0.1, weight_decay=0)
        if options.small
        else Warmed(options.epochs, 100, 0.025, weight_decay=0)
    )
    hidden, seeds = (width,) * depth, seeds_of(options, count)
    params = networks(hidden, data, seeds, protocol, options.working("ferbach2023", "widths"))
    network = mcjax.trace(Dense(hidden).apply, params[0], data.x_train[:2])
    name = "-".join(map(str, hidden))
    return Trained(params, network, hidden, f"{name}-{options.seed}+{count}-{protocol.epochs}")


def shapes(options: Widths) -> list[tuple[int, int]]:
    """(hidden layers, width) of all networks."""
    if options.smoke:
        return [(1, 4), (1, 8)]
    widths = (8, 32, 128) if options.quick else options.widths
    return [(depth, width) for width in widths for depth in (1, 2)]


def measure(of: Trained, data: Any) -> dict[str, Any]:
    """Curves on the test set between networks as they are and matched, and W₂² of every layer."""
    squared: list[dict[str, float]] = []

    def theirs(a: Any, b: Any) -> Any:
        found = match_incoming(of.network, a, b, data.x_train[:SAMPLE])
        squared.append(dict(found.after))
        return of.network.permute(found.permutations, b)

    test = (data.x_test, data.y_test)
    curves = {
        "matched": evaluate_pairs(of.params, of.network, test, 5, align=theirs),
        "not matched": evaluate_pairs(of.params, of.network, test, 5),
    }
    return {"curves": {k: c.to_dict() for k, c in curves.items()}, "squared distances": squared}


def bounds(of: Trained, data: Any) -> list[float]:
    """For each pair, matched, the bound √2 · `relu_bound` of the barrier of the test loss."""
    out = []
    for a, b in itertools.combinations(of.params, 2):
        moved = match_incoming(of.network, a, b, data.x_train[:SAMPLE]).action(of.network)(b)
        (first_a, last_a), (first_b, last_b) = (
            [p["params"][f"Dense_{k}"] for k in (0, 1)] for p in (a, moved)
        )
        z = data.x_test @ (first_b["kernel"] - first_a["kernel"])
        z += first_b["bias"] - first_a["bias"]
        distance = float(np.sqrt(np.mean(np.sum(np.square(z), axis=1))))
        out.append(2**0.5 * theory.relu_bound(distance, last_a["kernel"], last_b["kernel"]))
    return out


def mean_barrier(found: dict[str, Any], kind: str) -> PairMean:
    return mean_over_pairs(PairwiseCurves.from_dict(found["curves"][kind]).barriers())


def loss_of(found: dict[str, Any]) -> float:
    """The mean test loss of the networks."""
    curves = PairwiseCurves.from_dict(found["curves"]["matched"])
    return float(np.diag(curves.at_middle()).mean())


def distances(found: dict[str, Any]) -> np.ndarray:
    """(pairs,) W₂ of the incoming weights of all layers together, in the metric of their inputs."""
    return np.sqrt([pair["total"] for pair in found["squared distances"]])


def upper(found: dict[str, Any], kind: str) -> np.ndarray:
    barriers = PairwiseCurves.from_dict(found["curves"][kind]).barriers()
    return barriers[np.triu_indices(len(barriers), 1)]


def rates(found: dict[int, dict[int, Any]]) -> dict[int, dict[str, theory.Rate]]:
    """Depth → exponents of the width, of barriers (where all are positive) and of W₂."""
    out: dict[int, dict[str, theory.Rate]] = {}
    for depth, rows in found.items():
        values = {
            "barrier": np.stack([upper(r, "matched") for r in rows.values()]),
            "distance": np.stack([distances(r) for r in rows.values()]),
        }
        out[depth] = {k: theory.fit_rate([*rows], v) for k, v in values.items() if (v > 0).all()}
    return out


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Barriers and distances over the width, and one against the other."""
    names: dict[str, Any] = {}
    with figure(file, 14.6, 4.0) as drawn:
        panels = drawn.subplots(1, 3)
        for (depth, rows), colour in zip(record["found"].items(), (BLUE, ORANGE), strict=False):
            words = f"{depth} hidden layer" + "s" * (depth != "1")
            widths = [int(w) for w in rows]
            for kind, style, shown in (("matched", "o-", colour),
                                       ("not matched", "s--", shade(colour, 0.5))):  # fmt: skip
                means = [mean_barrier(r, kind) for r in rows.values()]
                panels[0].errorbar(widths, [m.mean for m in means], [m.deviation for m in means],
                                   fmt=style, ms=4, color=shown, elinewidth=1)  # fmt: skip
                names[f"{words}, {kind}"] = (means[-1].mean, shown)
            w2 = [float(distances(r).mean()) for r in rows.values()]
            line(panels[1], widths, w2, colour, marker="o", ms=4)
            guide(panels[1], widths, w2, -0.5, color=colour, lw=0.9, ls=":")
            line(panels[2], w2, [mean_barrier(r, "matched").mean for r in rows.values()], colour,
                 marker="o", ms=4)  # fmt: skip
        panels[0].set(title="(a) barrier of the test loss", xlabel="width", ylabel="barrier")
        panels[1].set(title="(b) $W_2$ of matched weights; dotted: slope −½", xlabel="width",
                      ylabel="$W_2$")  # fmt: skip
        panels[2].set(title="(c) barrier against $W_2$, matched", xlabel="$W_2$", ylabel="barrier")
        for axes in panels:
            axes.set(xscale="log", yscale="log")
            plain_ticks(axes.yaxis)
        for axes in panels[:2]:
            ticks_at(axes.xaxis, widths)
        plain_ticks(panels[2].xaxis)
        beside(panels[2], names)


def main(options: Widths) -> None:
    data, working = data_of(options), options.working("ferbach2023", "widths")
    found: dict[int, dict[int, Any]] = {}
    for depth, width in shapes(options):
        of = trained_networks(options, data, depth, width)
        between = kept(working / f"{of.mark}.json", lambda of=of: measure(of, data))
        if depth == 1:
            file = working / f"{of.mark}-bounds.json"
            between["bounds"] = kept(file, lambda of=of: bounds(of, data))
        found.setdefault(depth, {})[width] = between
    folder, exponents = folder_of(options, "widths"), rates(found)
    rows = [
        [
            f"{depth} × {width}", f"{loss_of(r):.3f}",
            *(str(mean_barrier(r, kind)) for kind in ("not matched", "matched")),
            f"{distances(r).mean():.3f}",
            f"{np.mean(r['bounds']):.3f}" if "bounds" in r else "",
        ]
        for depth, of_depth in found.items()
        for width, r in of_depth.items()
    ]  # fmt: skip
    said = "; ".join(
        f"{depth} hidden: " + ", ".join(f"{k} {slope(r)}" for k, r in of.items())
        for depth, of in exponents.items()
    )
    text = table(
        "Barriers of the test loss above the chord, mean ± standard deviation over pairs and "
        "interval over networks, matched by incoming weights in the metric of their inputs; W₂ of "
        f"these weights, all layers together. With one hidden layer, what the barrier is at most "
        f"(`mcjax.theory.relu_bound`, mean over pairs). Exponents of the width: {said}.",
        ["hidden layers × width", "loss", "not matched", "matched", "W₂", "bound"],
        rows,
    )
    record = {"found": {str(d): {str(w): r for w, r in of.items()} for d, of in found.items()},
              "exponents": {str(d): {k: dataclasses.asdict(r) for k, r in of.items()}
                            for d, of in exponents.items()}}  # fmt: skip
    finish(options, folder, "widths", record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Widths, description=__doc__))
