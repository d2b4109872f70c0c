"""`python -m experiments.ferbach2023.drawn`: networks of any width drawn from a trained one.

To the neurons of a trained network distributions are fitted, and networks of one, two, four and
more times its width are drawn from them: their accuracy, and the barrier between two of them after
matching, against width. Their neurons are what the theory of ferbach2023 asks for: independent
draws of one distribution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import mcjax
from mcjax import theory
from mcjax.align import match_incoming
from mcjax.evaluation import PairwiseCurves, evaluate_pairs, mean_over_pairs
from mcjax.neurons import Distribution, Empirical, Flow, Gaussian, Mixture, draw_network

from ..figures import BLUE, GREEN, GREY, ORANGE, PINK, beside, figure, finish, table
from .networks import Dense, Warmed, data_of, networks
from .study import Options, folder_of, kept, slope, ticks_at

FAMILIES: dict[str, Distribution] = {
    "its neurons": Empirical(), "Gaussian": Gaussian(), "mixture of 16": Mixture(16),
    "mixture of 64": Mixture(64), "flow": Flow(),
}  # fmt: skip
COLOURS = dict(zip(FAMILIES, (GREY, BLUE, ORANGE, GREEN, PINK), strict=True))


@dataclasses.dataclass
class Drawn(Options):
    """Networks drawn from neurons."""

    width: int = 256
    """Units of each hidden layer of the trained networks."""
    factors: tuple[int, ...] = (1, 2, 4, 8)
    """Widths of those drawn, in units of the trained one's."""
    draws: int = 4
    """Networks of each width; all pairs of them are matched."""
    epochs: int = 3
    """Epochs of training, batches of 100, rate 0.025 at its highest."""


def measure(
    params: Any, hidden: tuple[int, ...], wide: tuple[int, ...], family: Distribution, draws: int,
    data: Any,
) -> dict[str, Any]:  # fmt: skip
    """Curves between networks of these widths drawn from a trained one, matched."""
    network = mcjax.trace(Dense(hidden).apply, params, data.x_train[:2])
    like = Dense(wide).init(jax.random.key(0), data.x_train[:1])
    other = mcjax.trace(Dense(wide).apply, like, data.x_train[:2])
    drawn = [draw_network(network, params, other, family, key=jax.random.key(k))
             for k in range(draws)]  # fmt: skip

    def matched(a: Any, b: Any) -> Any:
        return other.permute(match_incoming(other, a, b).permutations, b)

    found = evaluate_pairs(drawn, other, (data.x_test, data.y_test), 5, align=matched)
    return found.to_dict()


def shown(found: dict[str, Any]) -> tuple[PairwiseCurves, Any, np.ndarray]:
    """The curves, the mean barrier, and the accuracies of the networks themselves."""
    curves = PairwiseCurves.from_dict(found)
    return curves, mean_over_pairs(curves.barriers()), np.diag(curves.at_middle("accuracy"))


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Accuracies of what is drawn, and barriers between two draws, mean ± standard deviation."""
    results = record["found"]
    with figure(file, 11.5, 3.8 * len(results)) as drawn:
        panels = np.atleast_2d(drawn.subplots(len(results), 2))
        for (depth, families), (left, right) in zip(results.items(), panels, strict=True):
            words = f"{depth} hidden layer" + "s" * (depth != "1")
            own = 100 * record["trained"][depth]
            names: dict[str, Any] = {"the trained network": (own, "#222222")}
            left.axhline(own, color="#222222", ls="--", lw=1.2)
            for name, rows in families.items():
                widths, of = [int(m) for m in rows], [shown(r) for r in rows.values()]
                style: Any = {"fmt": "o-", "ms": 4, "color": COLOURS[name], "elinewidth": 1}
                accuracy = [100 * a.mean() for _, _, a in of]
                left.errorbar(widths, accuracy, [100 * a.std(ddof=1) for _, _, a in of], **style)
                right.errorbar(widths, [m.mean for _, m, _ in of],
                               [m.deviation for _, m, _ in of], **style)  # fmt: skip
                names[name] = (accuracy[-1], COLOURS[name])
            left.set(title=f"{words}: accuracy of what is drawn", xlabel="width", xscale="log",
                     ylabel="test accuracy (%)")  # fmt: skip
            right.set(title=f"{words}: barrier of two draws, matched", xlabel="width",
                      xscale="log", ylabel="barrier of the test loss")  # fmt: skip
            for axes in (left, right):
                ticks_at(axes.xaxis, widths)
            beside(right, names)


def families_of(options: Drawn, depth: int) -> list[str]:
    """The flow, fitted for each layer of each draw anew, only where that takes minutes."""
    return [n for n in FAMILIES if n != "flow" or (depth == 1 and not options.small)]


def found_for(options: Drawn, depth: int, data: Any) -> tuple[dict[str, dict[int, Any]], float]:
    """Family → width → curves, of a trained network of this depth; and its own accuracy."""
    working = options.working("ferbach2023", "drawn")
    width = 8 if options.smoke else 32 if options.quick else options.width
    draws = 2 if options.smoke else options.draws
    protocol = (
        Warmed(2 if options.smoke else 20, 32, 0.1, weight_decay=0)
        if options.small
        else Warmed(options.epochs, 100, 0.025, weight_decay=0)
    )
    hidden, out = (width,) * depth, {}
    (params,) = networks(hidden, data, [options.seed], protocol, working)
    curve = mcjax.evaluate(mcjax.path.Linear(params, params), Dense(hidden).apply,
                           (data.x_test, data.y_test), 2)  # fmt: skip
    for name in families_of(options, depth):
        for factor in (1, 2) if options.smoke else options.factors:
            mark = f"{depth}x{width}-{protocol.epochs}-{options.seed}-{name}-{factor}-{draws}"
            out.setdefault(name, {})[factor * width] = kept(
                working / f"{mark}.json".replace(" ", "-"),
                lambda name=name, wide=(factor * width,) * depth: measure(
                    params, hidden, wide, FAMILIES[name], draws, data
                ),
            )
    return out, float(curve.values["accuracy"][0])


def exponents_of(families: dict[str, dict[int, Any]]) -> dict[str, theory.Rate]:
    """Family → exponent of the width, of barriers, where all are positive."""
    out = {}
    for name, of in families.items():
        barriers = [shown(r)[0].barriers() for r in of.values()]
        upper = np.stack([b[np.triu_indices(len(b), 1)] for b in barriers])
        if len(of) > 2 and (upper > 0).all():
            out[name] = theory.fit_rate([*of], upper)
    return out


def main(options: Drawn) -> None:
    data, folder = data_of(options), folder_of(options, "drawn")
    depths = (1,) if options.smoke else (1, 2)
    found = {depth: found_for(options, depth, data) for depth in depths}
    results = {depth: families for depth, (families, _) in found.items()}
    ends = {depth: accuracy for depth, (_, accuracy) in found.items()}
    rows, exponents = [], {}
    for depth, families in results.items():
        exponents |= {f"{depth} hidden, {n}": r for n, r in exponents_of(families).items()}
        for name, of in families.items():
            for m, (curves, barrier, accuracy) in ((m, shown(r)) for m, r in of.items()):
                middle = curves.at_middle()
                rows.append([f"{depth} × {m}", name,
                             f"{100 * accuracy.mean():.2f} ± {100 * accuracy.std(ddof=1):.2f}",
                             f"{np.diag(middle).mean():.3f}",
                             f"{mean_over_pairs(middle).mean:.3f}",
                             f"{barrier.mean:.4f} ± {barrier.deviation:.4f}"])  # fmt: skip
    said = "; ".join(f"{k} {slope(r)}" for k, r in exponents.items()) or "not fitted"
    trained = ", ".join(f"{d} hidden: {100 * a:.2f} %" for d, a in ends.items())
    text = table(
        f"Networks drawn from the neurons of one trained network (its accuracy: {trained}): test "
        "accuracy and loss, loss half-way between every two of them, matched by incoming weights, "
        "and barrier above the chord; mean ± standard deviation. Exponents of the width, of "
        f"barriers: {said}.",
        ["hidden layers × width", "distribution", "accuracy, %", "loss", "at t = ½", "barrier"],
        rows,
    )
    record = {"found": {str(d): {n: {str(m): r for m, r in of.items()} for n, of in fs.items()}
                        for d, fs in results.items()},
              "trained": {str(d): a for d, a in ends.items()},
              "exponents": {k: dataclasses.asdict(r) for k, r in exponents.items()}}  # fmt: skip
    finish(options, folder, "drawn", record, [text], draw)


if __name__ == "__main__":
    main(tyro.cli(Drawn, description=__doc__))
