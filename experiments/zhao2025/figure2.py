"""`python -m experiments.zhao2025.figure2`: between two points of an orbit.

The loss between two minima of a network with weights of one dimension (zhao2025, Fig. 2), how high
it is (Prop. 5.3, 5.6), and how far from the orbit the middle of a segment is (Prop. 5.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import mcjax
from mcjax import theory
from mcjax.figures import end_labels, line

from ..figures import BLUE, GREEN, GREY, ORANGE, RED, SKY, beside, figure, finish, table
from .study import Options, folder_of

SCALES = (2.0, 3.0, 4.0, 5.0)
BETAS = (1.0, 1.5, 2.0, 3.0, 3.7, 4.5, 6.0, 8.0, 12.0)


def along_segments(points: int) -> list[dict[str, Any]]:
    """(1 − W₂W₁)² on segments from (1, 1) to (m, 1/m), and its closed form."""
    alphas = np.linspace(0, 1, points)
    rows = []
    for m in SCALES:
        path = mcjax.path.Linear(np.array([1.0, 1.0]), np.array([m, 1 / m]))
        losses = [float((1 - w1 * w2) ** 2) for w1, w2 in map(path, alphas)]
        rows.append({
            "m": m, "alpha": alphas.tolist(), "loss": losses,
            "height": float(theory.barrier_height(m)),
        })  # fmt: skip
    return rows


def from_orbit(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Distances of the middle of (β, 1/β) I and (1/β, β) I from the orbit W₁W₂ = I."""
    rows = []
    for n in sizes:
        one = np.eye(n)
        for beta in BETAS:
            c = (beta + 1 / beta) / 2
            found = theory.distance_to_orbit((c * one, c * one), (one, one))
            rows.append({
                "n": n, "beta": beta, "distance": found.distance, "status": found.status,
                "predicted": n**0.5 * theory.distance_to_hyperbola(c),
            })  # fmt: skip
    return rows


def landscape(axes: Any, m: float) -> None:
    """The loss in the plane, its minimum, and a segment between two points of it."""
    grid = np.linspace(0.02, 5.2, 301)
    w1, w2 = np.meshgrid(grid, grid)
    loss = np.abs(1 - w1 * w2)
    axes.contourf(w1, w2, np.log10(loss + 1e-2), np.linspace(-2, 1.5, 15), cmap="Blues",
                  extend="max")  # fmt: skip
    middle = (m + 1 / m) / 2
    axes.plot(grid, 1 / grid, color="black", lw=1.6)
    axes.plot([1 / m, m], [m, 1 / m], "o-", color=RED, lw=2, ms=6, mec="white")
    axes.plot([middle], [middle], "D", color=ORANGE, ms=7, mec="white")
    for text, at, colour in (("minimum: $W_2W_1=1$", (1.15, 1.0), "black"),
                             ("segment", (1.5, 3.0), RED),
                             ("its middle", (middle + 0.2, middle + 0.1), ORANGE)):  # fmt: skip
        axes.annotate(text, at, color=colour if colour == "black" else "white", fontsize=9)
    axes.set(title="(a) loss (shading) of one-dimensional weights", xlabel="$W_1$",
             ylabel="$W_2$", xlim=(0, 5.2), ylim=(0, 5.2))  # fmt: skip
    axes.grid(visible=False)


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The landscape, the loss on segments of it, and how far their middles are from the minimum."""
    segments, distances = record["segments"], record["distances"]
    with figure(file, 13.4, 4.0) as drawn:
        left, middle, right = drawn.subplots(1, 3)
        landscape(left, 4.0)
        fine = np.linspace(0, 1, 201)
        names = {}
        for row, colour in zip(segments, (SKY, BLUE, GREEN, ORANGE), strict=False):
            gain = np.asarray(theory.segment_gain(fine, row["m"]))
            line(middle, fine, (gain - 1) ** 2, colour, lw=1.6)
            middle.plot(row["alpha"], row["loss"], "o", ms=4, color=colour)
            names[f"m = {row['m']:g}"] = (row["height"], colour)
        middle.set(title="(b) on the segment to (m, 1/m): lines, theory", xlabel="α",
                   ylabel="loss")  # fmt: skip
        beside(middle, names)
        betas = np.linspace(1, max(r["beta"] for r in distances), 300)
        ends = {}
        sizes = sorted({r["n"] for r in distances})
        for n, colour in zip(sizes, (BLUE, GREEN, ORANGE), strict=False):
            mine = [r for r in distances if r["n"] == n]
            curve = [n**0.5 * theory.distance_to_hyperbola((b + 1 / b) / 2) for b in betas]
            line(right, betas, curve, colour, lw=1.6)
            right.plot([r["beta"] for r in mine], [r["distance"] for r in mine], "o", ms=4.5,
                       color=colour)  # fmt: skip
            ends[f"{n} × {n}"] = (curve[-1], colour)
        kink = 2 + 3**0.5
        right.axvline(kink, color=GREY, lw=1, ls=":")
        right.annotate("c = 2", (kink + 0.15, 0.3), color=GREY)
        right.set(title="(c) distance of the middle from the orbit", xlabel="β",
                  ylabel="distance", xlim=(betas[0], betas[-1] + 0.3))  # fmt: skip
        end_labels(right, ends)


def main(options: Options) -> None:
    folder = folder_of(options, "figure2")
    with jax.enable_x64(True):
        segments = along_segments(5 if options.smoke else 17)
        distances = from_orbit((1, 2) if options.smoke else (1, 4, 16))
    tables = [
        table(
            "Height of the barrier between (1, 1) and (m, 1/m), ‖Y‖ = 1. It grows without bound "
            "(Prop. 5.3); among minima with |W| ≤ m it is bounded by its own value (Prop. 5.6).",
            ["m", "closed form", "measured", "bound for weights up to m"],
            [[f"{r['m']:g}", f"{r['height']:.6f}", f"{max(r['loss']):.6f}",
              f"{theory.bounded_barrier(1.0, 1.0, r['m'], 1.0):.6f}"] for r in segments],
        ),
        table(
            "Distance from the middle of (β I, I/β) and (I/β, β I) to the orbit W₁W₂ = I, n × n: "
            "√n times that of the hyperbola.",
            ["n, β", "closed form", "minimised", "status"],
            [[f"{r['n']}, {r['beta']:g}", f"{r['predicted']:.4f}", f"{r['distance']:.4f}",
              r["status"]] for r in distances],
        ),
    ]  # fmt: skip
    record = {"segments": segments, "distances": distances}
    finish(options, folder, "figure2", record, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
