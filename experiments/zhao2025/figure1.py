"""`python -m experiments.zhao2025.figure1`: connected components of minima.

The minimum of a linear and of a residual network with weights of one dimension (zhao2025, Fig. 1),
its components counted on a grid, and the components that minima found by gradient descent lie in.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from scipy.ndimage import label

from mcjax import theory
from mcjax.figures import shade

from ..figures import BLUE, GREEN, ORANGE, PINK, figure, finish, table
from .study import Options, descend, folder_of

PAPER = {"linear": 4, "residual": 3}  # Prop. 4.3: 4 components for ε = 0, else 3
COLOURS = {0: BLUE, 1: ORANGE, -1: GREEN}
QUADRANTS = dict(zip((-4, -2, 2, 4), (BLUE, ORANGE, GREEN, PINK), strict=True))


def flood(epsilon: float, points: int) -> int:
    """Components of the plane without the curve W₁W₂ = −ε, on a grid of points × points."""
    grid = np.linspace(-3, 3, points + points % 2)  # even: no axis is on it
    through = grid[:, None] * grid + epsilon
    margin = 3 * (grid[1] - grid[0])  # as wide as what separates the sides
    return sum(label(s * through > margin)[1] for s in (1, -1))


def residual_minima(epsilon: float, starts: int, steps: int, seed: int) -> dict[str, Any]:
    """Minima of (1 − W₃(W₂W₁ + ε))² that gradient descent finds, and their components."""
    start = np.random.default_rng(seed).normal(0, 1.5, (starts, 3))
    w, loss = descend(lambda w, _: (1 - w[2] * (w[1] * w[0] + epsilon)) ** 2, start, steps, 0.02)
    w = np.asarray(w)[loss < 1e-8]
    labels = theory.residual_component(w[:, 0], w[:, 1], epsilon)
    return {"starts": starts, "found": len(w), "weights": w.tolist(), "labels": labels.tolist()}


def linear_minima(layers: int, width: int, starts: int, steps: int, seed: int) -> dict[str, Any]:
    """Minima of ‖Y − W_l ⋯ W₁X‖² from random starts: their components, and paths between pairs."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, width, width)) + 2 * np.eye(width)

    def loss(weights: Any, _: Any = None) -> Any:
        out = x
        for w in weights:
            out = w @ out
        return ((y - out) ** 2).sum()

    start = list(np.swapaxes(rng.normal(size=(starts, layers, width, width)), 0, 1))
    found, losses = descend(loss, start, steps, 0.02)
    minima = [[np.asarray(w[i]) for w in found] for i in np.flatnonzero(losses < 1e-10)]
    labels = [theory.component_label(m, x) for m in minima]
    before, after, highest = 0, 0, 0.0
    pairs = list(itertools.pairwise(range(len(minima))))
    for i, j in pairs:
        before += labels[i] == labels[j]
        permutations = theory.connecting_permutations(minima[i], minima[j])
        moved = theory.permute_linear(permutations, minima[i])
        after += theory.component_label(moved, x) == labels[j]
        path = theory.connect_minima(moved, minima[j])
        highest = max(highest, *(float(loss(path(t))) for t in np.linspace(0, 1, 11)))
    return {
        "layers": layers, "width": width, "starts": starts, "found": len(minima),
        "components": len(set(labels)), "pairs": len(pairs), "joined": [before, after],
        "highest loss on paths": highest, "norm": float((y**2).sum()),
    }  # fmt: skip


def surface(axes: Any, epsilon: float, title: str) -> None:
    """W₃ = 1 / (W₁W₂ + ε), |W₃| ≤ 4, in the colours of its components."""
    for first, side in itertools.product((1, -1), repeat=2):
        # One side of the curve for W₁ of one sign: W₂ between the curve and the box.
        edge = side * 0.25 - epsilon  # W₁W₂ where W₃ = ±4
        near = 0.0 if edge * side <= 0 else abs(edge) / 3
        w1 = first * (near + (3 - near) * np.linspace(0, 1, 40)[:, None] ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.clip(np.nan_to_num(edge / w1, nan=np.inf), -3, 3)
        bound = np.where(w1 == 0, -side * first * 3.0, bound)
        w2 = bound + (side * first * 3 - bound) * np.linspace(0, 1, 30)
        w1 = np.broadcast_to(w1, w2.shape)
        w3 = 1 / (w1 * w2 + epsilon)
        label_ = int(theory.residual_component(w1[-1, -1], w2[-1, -1], epsilon))
        colour = (COLOURS if epsilon else QUADRANTS)[label_]
        axes.plot_surface(w1, w2, w3, color=colour, edgecolor="white", linewidth=0.15, alpha=0.9,
                          rcount=40, ccount=30, shade=False)  # fmt: skip
    axes.set(title=title, xlabel="$W_1$", ylabel="$W_2$", zlim=(-4, 4))
    axes.set_zlabel("$W_3$", labelpad=2)
    axes.view_init(26, -62)
    axes.set_box_aspect((1, 1, 0.9), zoom=0.92)


def plane(axes: Any, found: dict[str, Any]) -> None:
    """Where descent ended, in the plane of W₁ and W₂."""
    grid = np.linspace(-4, 4, 601)
    w1, w2 = np.meshgrid(grid, grid, indexing="ij")
    safe = np.where(w1 * w2 == -1, 2.0, w2)
    labels = theory.residual_component(w1, safe, 1.0)
    for component, colour in COLOURS.items():
        inside = (labels == component).astype(float)
        axes.contourf(w1, w2, inside, [0.5, 1.5], colors=[colour], alpha=0.18)
        mine = np.array([w for w, k in zip(found["weights"], found["labels"], strict=True)
                         if k == component])  # fmt: skip
        if len(mine):
            axes.plot(mine[:, 0], mine[:, 1], "o", ms=3.2, color=colour)
            x, y = {0: (-1.8, -3.6), 1: (2.4, -3.6), -1: (-2.4, 3.5)}[component]
            axes.text(x, y, f"{len(mine)} minima", color=shade(colour, -0.25), ha="center",
                      fontsize=9)  # fmt: skip
    for side in (grid[grid > 0.2], grid[grid < -0.2]):
        axes.plot(side, -1 / side, color="black", lw=1)
    axes.set(title="(c) minima that descent finds, residual", xlabel="$W_1$", ylabel="$W_2$",
             xlim=(-4, 4), ylim=(-4, 4))  # fmt: skip
    axes.grid(visible=False)


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Both surfaces of minima, and where descent ended."""
    with figure(file, 12.6, 4.2) as drawn:
        surface(drawn.add_subplot(131, projection="3d"), 0.0, "(a) linear: 4 components")
        surface(drawn.add_subplot(132, projection="3d"), 1.0, "(b) residual: 3 components")
        plane(drawn.add_subplot(133), record["residual"])


def main(options: Options) -> None:
    folder = folder_of(options, "figure1")
    starts, steps = (8, 400) if options.smoke else (64, 4000)
    with jax.enable_x64(True):
        found = residual_minima(1.0, 12 if options.smoke else 300, steps, options.seed)
        depths = (2,) if options.smoke else (2, 3, 4)
        deep = [linear_minima(n, 2, starts, steps, options.seed + n) for n in depths]
    counts = {e: flood(e, 200 if options.smoke else 2000) for e in (0.0, 1.0, -0.5)}
    rows = [
        [f"one dimension, ε = {e:g}", theory.residual_component_count(e), n,
         PAPER["residual" if e else "linear"]]
        for e, n in counts.items()
    ]  # fmt: skip
    tables = [
        table("Components of the minimum of (1 − W₃(W₂W₁ + ε))².",
              ["network", "closed form", "flood fill of a grid", "paper"], rows),
        table(
            "Minima of 2 × 2 linear networks found by descent from random starts, and pairs of "
            "them joined by the explicit path after permutations.",
            ["layers", "minima", "components met", "paper", "pairs in one component",
             "after permutations", "highest loss on a path / ‖Y‖²"],
            [[r["layers"], r["found"], r["components"], theory.component_count(r["layers"]),
              *(f"{n} of {r['pairs']}" for n in r["joined"]),
              f"{r['highest loss on paths'] / r['norm']:.1e}"] for r in deep],
        ),
    ]  # fmt: skip
    record = {"flood": {str(e): n for e, n in counts.items()}, "residual": found, "linear": deep}
    finish(options, folder, "figure1", record, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
