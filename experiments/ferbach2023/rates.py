"""`python -m experiments.ferbach2023.rates`: how near independent neurons come, by dimension.

W₂ between two sets of m Gaussian neurons, and the error along the segment between the mean-field
networks that they make, against m and the dimension; and what noise around a subspace of few
dimensions changes (ferbach2023, Thm 3.1 and 5.4). Nothing is trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mcjax import theory
from mcjax.figures import end_labels, line

from ..figures import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, figure, finish, table
from .study import Options, folder_of, guide, kept, slope

DIMENSIONS = (1, 2, 4, 8, 16)
ETAS = (0.6, 0.42, 0.3, 0.21, 0.15)
SUBSPACE, AROUND = 2, 16
# |tanh''| ≤ 4 / (3 √3); |tanh'| ≤ 1.
SMOOTHNESS = 4 / (3 * 3**0.5)
TS = (0.25, 0.5, 0.75)


def output(neurons: np.ndarray, x: np.ndarray) -> np.ndarray:
    """f(x) = 1/m Σ tanh(1 + ⟨θ_i, x⟩) on inputs x."""
    return np.tanh(1 + x @ neurons.T).mean(1)


def along(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> float:
    """max over t and x of |(1 − t) f_A + t f_B − f of (1 − t) A + t B|."""
    ends = output(a, x), output(b, x)
    return max(
        float(np.abs((1 - t) * ends[0] + t * ends[1] - output((1 - t) * a + t * b, x)).max())
        for t in TS
    )


def matched(width: int, dimension: int, rng: np.random.Generator) -> dict[str, float]:
    """Two networks of Gaussian neurons, matched: distance, error and its bounds."""
    a, b = rng.normal(size=(2, width, dimension))
    x = rng.normal(size=(64, dimension))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = theory.wasserstein(a, b)
    assert found.solution.permutation is not None
    return {
        "m": width, "distance": found.distance,
        "error": along(a, b[found.solution.permutation], x), "unmatched": along(a, b, x),
        "bound": min(theory.two_layer_bound(found.distance, lipschitz=1.0),
                     theory.two_layer_bound(found.distance, smoothness=SMOOTHNESS)),
    }  # fmt: skip


def repetitions(width: int, most: int) -> int:
    """Fewer pairs of the widest networks: an assignment takes about m³ steps."""
    return max(2, min(most, 2**13 // width))


def gaussian(options: Options, largest: int) -> dict[int, list[dict[str, float]]]:
    """Dimension → rows of pairs of networks, width by width."""
    most, widths = 2 if options.smoke else 16, (2 ** np.arange(3, largest + 1)).tolist()
    folder = options.working("ferbach2023", "rates")
    found: dict[int, list[dict[str, float]]] = {d: [] for d in DIMENSIONS}
    for d, m in itertools.product(DIMENSIONS, widths):

        def rows(d: int = d, m: int = m) -> list[dict[str, float]]:
            rngs = [np.random.default_rng((options.seed, d, m, k))
                    for k in range(repetitions(m, most))]  # fmt: skip
            return [matched(m, d, rng) for rng in rngs]

        found[d] += kept(folder / f"d{d}-m{m}-seed{options.seed}.json", rows)
    return found


def near_subspace(options: Options, largest: int) -> dict[str, Any]:
    """W₂ of neurons at distance about η from a plane in 16 dimensions; the same draws for all η.

    The noise counts as much as the plane where W₂² is twice that of the plane alone.
    """
    repetitions, widths = 2 if options.smoke else 4, 2 ** np.arange(3, largest + 1)
    folder = options.working("ferbach2023", "rates")

    def of_width(m: int) -> list[list[float]]:
        out: list[list[float]] = [[] for _ in (0.0, *ETAS)]
        for k in range(repetitions):
            rng = np.random.default_rng((options.seed, 99, m, k))
            pair = rng.normal(size=(2, m, AROUND))
            for i, eta in enumerate((0.0, *ETAS)):
                scale = np.full(AROUND, eta / (AROUND - SUBSPACE) ** 0.5)
                scale[:SUBSPACE] = 1
                out[i].append(theory.wasserstein(*(pair * scale)).distance)
        return out

    distances = np.stack([
        np.array(kept(folder / f"plane-m{m}-seed{options.seed}.json", partial(of_width, m)))
        for m in widths.tolist()
    ], 1)  # fmt: skip
    crossings = [
        [crossing(widths, of_eta[:, k] / distances[0, :, k]) for k in range(repetitions)]
        for of_eta in distances[1:]
    ]
    return {"widths": widths.tolist(), "eta": [0.0, *ETAS], "distances": distances.tolist(),
            "crossings": crossings}  # fmt: skip


def crossing(widths: np.ndarray, ratio: np.ndarray) -> float:
    """The width at which the ratio first reaches √2, by lines between logarithms; NaN: nowhere."""
    above = np.flatnonzero(ratio >= 2**0.5)
    if not len(above) or above[0] == 0:
        return float("nan")
    j, (x, y) = above[0], (np.log(widths), np.log(ratio))
    share = (0.5 * np.log(2) - y[j - 1]) / (y[j] - y[j - 1])
    return float(np.exp(x[j - 1] + share * (x[j] - x[j - 1])))


def rate_of(rows: list[dict[str, float]], what: str, least: int = 0) -> theory.Rate:
    some = [r for r in rows if r["m"] >= least]
    return theory.fit_rate([int(r["m"]) for r in some], [r[what] for r in some])


def means(rows: list[dict[str, float]], what: str) -> tuple[list[float], list[float]]:
    """Widths, and the geometric means of a number over the pairs of each."""
    widths = sorted({r["m"] for r in rows})
    logs = [np.mean([np.log(r[what]) for r in rows if r["m"] == m]) for m in widths]
    return widths, np.exp(logs).tolist()


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Distances and errors over the width; a plane and noise around it."""
    found, near = record["gaussian"], record["subspace"]
    with figure(file, 14.6, 4.2) as drawn:
        left, middle, right = drawn.subplots(1, 3)
        ends, errors = {}, {}
        for (d, rows), colour in zip(found.items(), (BLUE, ORANGE, GREEN, PINK, RED), strict=False):
            x, y = means(rows, "distance")
            line(left, x, y, colour, lw=1.6, marker="o", ms=4)
            guide(left, x, y, theory.gaussian_exponent(int(d)), color=colour, lw=0.9, ls=":")
            ends[f"d = {d}"] = (y[-1], colour)
            x, y = means(rows, "error")
            line(middle, x, y, colour, lw=1.6, marker="o", ms=4)
            middle.plot(*means(rows, "bound"), color=colour, lw=0.9, ls="--")
            errors[f"d = {d}"] = (y[-1], colour)
        x, y = means(found["1"], "unmatched")
        line(middle, x, y, GREY, lw=1.6)
        errors["not matched,\nd = 1"] = (y[-1], GREY)
        left.set(title="(a) $W_2$ of Gaussian neurons; dotted: known slope", ylabel="$W_2$")
        middle.set(title="(b) error, matched (dashed: bound)", ylabel="largest error")
        mean = np.exp(np.log(near["distances"]).mean(-1))
        palette, widths = (GREY, BLUE, SKY, GREEN, ORANGE, RED), near["widths"]
        noise = {}
        for eta, y, colour in zip(near["eta"], mean, palette, strict=True):
            line(right, widths, y, colour, lw=1.6, marker="o", ms=4)
            noise[f"η = {eta:g}"] = (float(y[-1]), colour)
        for many, colour in zip(near["crossings"], palette[1:], strict=True):
            known = [v for v in many if v is not None and np.isfinite(v)]
            if known:
                right.axvline(np.mean(known), color=colour, lw=0.9, ls=":")
        right.set(title="(c) a plane and noise η in 16 dimensions", ylabel="$W_2$")
        for axes in (left, middle, right):
            axes.set(xscale="log", yscale="log", xlabel="units m")
        for axes, names in ((left, ends), (middle, errors), (right, noise)):
            end_labels(axes, names)


def rates_table(found: dict[int, list], least: int) -> str:
    rows = []
    for d, of_d in found.items():
        highest = max(r["error"] / r["bound"] for r in of_d)
        rows.append([
            d, slope(rate_of(of_d, "distance")), slope(rate_of(of_d, "distance", least)),
            f"{theory.gaussian_exponent(d):.3f}", f"{theory.worst_case_exponent(d):.3f}",
            slope(rate_of(of_d, "error", least)), f"{highest:.2f}",
        ])  # fmt: skip
    return table(
        "Exponents of the width, with 95 % intervals of a straight line: W₂ between two sets of "
        "Gaussian neurons, and the error along the segment between f = 1/m Σ tanh(1 + ⟨θ, x⟩), "
        "‖x‖ = 1, after matching. Known: up to logarithms (d = 1, 2) and as m → ∞. The last "
        "column is the largest error over its bound (1/8 H W₂² or 1/2 L W₂).",
        ["d", "W₂, all m", f"W₂, m ≥ {least}", "known", "worst case", f"error, m ≥ {least}",
         "error / bound"],
        rows,
    )  # fmt: skip


def subspace_table(near: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    widths, rows = np.array(near["widths"]), []
    for eta, many, of_eta in zip(
        near["eta"][1:], near["crossings"], near["distances"][1:], strict=True
    ):
        distances, crossed = np.array(of_eta), np.isfinite(many).any()
        at = float(np.nanmean(many)) if crossed else float("inf")
        rows.append([
            f"{eta:g}", f"{eta**-SUBSPACE:.0f}", f"{at:.0f}" if crossed else "beyond",
            *(part_slope(widths, distances, some) for some in (widths < at / 2, widths > 2 * at)),
        ])  # fmt: skip
    crossed = [
        (eta, m)
        for eta, many in zip(near["eta"][1:], near["crossings"], strict=True)
        for m in many
        if np.isfinite(m)
    ]
    title = (
        f"Neurons near a subspace of {SUBSPACE} of {AROUND} dimensions, noise of length η: the "
        "width m* at which noise counts as much as the subspace (W₂² doubled), and the exponents "
        "of W₂ below m*/2 and above 2 m*."
    )
    fitted = None
    if len({eta for eta, _ in crossed}) > 1 and len(crossed) > 2:
        rate = theory.fit_rate(*map(list, zip(*crossed, strict=True)))
        fitted = {"exponent": rate.exponent, "low": rate.low, "high": rate.high}
        title += f" m* against η: exponent {slope(rate)}, said: {-SUBSPACE} up to logarithms."
    head = ["η", f"η^−{SUBSPACE}", "m*", "below", "above"]
    return table(title, head, rows), fitted


def part_slope(widths: np.ndarray, distances: np.ndarray, some: np.ndarray) -> str:
    """The exponent over some widths, where there are three or more."""
    if some.sum() < 3:
        return "–"
    return slope(theory.fit_rate(widths[some], distances[some]))


def main(options: Options) -> None:
    folder = folder_of(options, "rates")
    largest = 5 if options.smoke else 9 if options.quick else 12
    found = gaussian(options, largest)
    near = near_subspace(options, min(largest, 10))
    text, fitted = subspace_table(near)
    tables = [rates_table(found, 8 if options.smoke else 64), text]
    record = {"gaussian": {str(d): rows for d, rows in found.items()}, "subspace": near,
              "exponent of eta": fitted}  # fmt: skip
    finish(options, folder, "rates", record, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
