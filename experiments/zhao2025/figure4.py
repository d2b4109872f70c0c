"""`python -m experiments.zhao2025.figure4`: barriers under rescaling, without bound.

The loss between a minimum of a five-layer network and its rescaling by m (zhao2025, Fig. 4), for
activations of degrees 1 to 3, also after the best permutation of the last hidden layer (Prop. 5.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import mcjax
from mcjax import theory
from mcjax.figures import end_labels

from ..figures import BLUE, GREEN, ORANGE, figure, finish, table
from .study import Options, descend, folder_of

SIZES = (8, 16, 32, 16, 8, 4)  # Fig. 4: X (8, 4), Y (4, 4)
EXAMPLES = 4
DEGREES = (1, 2, 3)


def leaky(z: Any, k: int = 1) -> Any:
    """Leaky ReLU times |z|^{k − 1}: homogeneous of degree k for c > 0. On arrays of either kind."""
    return (z - 0.99 * z * (z < 0)) * abs(z) ** (k - 1)


def hidden(weights: Any, x: Any) -> Any:
    """The last hidden pre-activations, columns are examples."""
    for w in weights[:-2]:
        x = leaky(w @ x)
    return weights[-2] @ x


def minimum(k: int, steps: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(weights, X, Y) of a network whose last activation is of degree k, Y what it computes."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(SIZES[0], EXAMPLES)), rng.normal(size=(SIZES[-1], EXAMPLES))
    shapes = zip(SIZES[1:], SIZES[:-1], strict=True)
    start = [rng.normal(size=(1, *s)) * (2 / s[1]) ** 0.5 for s in shapes]

    def loss(weights: Any, _: Any) -> Any:
        return jnp.sum((y - weights[-1] @ leaky(hidden(weights, x), k)) ** 2)

    found, _ = descend(loss, start, steps, 0.01)
    return [np.asarray(w)[0] for w in found], x, y


def measure(k: int, scales: np.ndarray, steps: int, seed: int) -> dict[str, Any]:
    """Losses between the minimum and its rescalings, run and predicted, in units of ‖Y‖²."""
    weights, x, y = minimum(k, steps, seed)
    norm = float((y**2).sum())

    def loss(point: Any) -> jax.Array:
        return jnp.sum((y - point[-1] @ leaky(hidden(point, x), k)) ** 2) / norm

    along = jax.jit(jax.vmap(lambda path, alpha: loss(path.at(alpha)), (None, 0)))
    alphas = np.linspace(0, 1, 401)
    rows = []
    for m in scales:
        end = [*weights[:-2], m * weights[-2], m**-k * weights[-1]]
        losses = np.asarray(along(mcjax.path.Linear(weights, end), alphas))
        best = theory.permuted_barrier(
            weights[-1], np.asarray(hidden(weights, x)), lambda z: leaky(z, k), m, k=k
        )
        rows.append({
            "m": float(m), "highest": float(losses.max()), "middle": float(losses[200]),
            "alpha": float(alphas[losses.argmax()]),
            "predicted": float(theory.barrier_height(m, k)),
            "predicted_middle": float((theory.segment_gain(0.5, m, k) - 1) ** 2),
            "predicted_alpha": float(theory.worst_alpha(m, k)),
            "permuted": best.lower / norm, "status": best.status,
        })  # fmt: skip
    return {"k": k, "loss": float(loss(weights)), "norm": norm, "rows": rows}


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The error at the middle, the barrier, and where it is highest, over the scale."""
    found = record["found"]
    colours = (BLUE, GREEN, ORANGE)
    lines = np.geomspace(1 / 50, 50, 201)
    with figure(file, 13.4, 4.0) as drawn:
        left, middle, right = drawn.subplots(1, 3)
        first = found[0]
        norm, scales = first["norm"] ** 0.5, [r["m"] for r in first["rows"]]
        gain = np.asarray(theory.segment_gain(0.5, lines))
        left.plot(lines, norm * (gain - 1), color=BLUE, lw=1.6, label="theory")
        left.plot(scales, [norm * r["middle"] ** 0.5 for r in first["rows"]], "o", ms=5,
                  color=BLUE, label="network")  # fmt: skip
        left.plot(scales, [norm * r["permuted"] ** 0.5 for r in first["rows"]], "v", ms=5,
                  color=ORANGE, label="best of 8! permutations")  # fmt: skip
        left.set(xscale="log", yscale="log", xlabel="m", ylabel="$\\|f - Y\\|$ at the middle",
                 title="(a) five layers, leaky ReLU", ylim=(1e-3, 3e2))  # fmt: skip
        left.legend(loc="lower left")
        names = {}
        for row, colour in zip(found, colours, strict=False):
            k, ms = row["k"], [r["m"] for r in row["rows"]]
            middle.plot(lines, theory.barrier_height(lines, k), color=colour, lw=1.6)
            middle.plot(lines, (np.asarray(theory.segment_gain(0.5, lines, k)) - 1) ** 2,
                        color=colour, lw=1, ls="--")  # fmt: skip
            middle.plot(ms, [r["highest"] for r in row["rows"]], "o", ms=4.5, color=colour)
            right.plot(lines, theory.worst_alpha(lines, k), color=colour, lw=1.6)
            right.plot(ms, [r["alpha"] for r in row["rows"]], "o", ms=4.5, color=colour)
            names[f"degree {k}"] = (float(theory.worst_alpha(lines[-1], k)), colour)
        middle.set(xscale="log", yscale="log", xlabel="m", ylabel="barrier / $\\|Y\\|^2$",
                   title="(b) at the worst α (dashed: at ½)", ylim=(1e-5, 1e8))  # fmt: skip
        right.set(xscale="log", xlabel="m", ylabel="α", title="(c) where it is worst",
                  ylim=(0, 1), xlim=(lines[0], lines[-1]))  # fmt: skip
        end_labels(right, names)


def main(options: Options) -> None:
    folder = folder_of(options, "figure4")
    scales = np.geomspace(1 / 30, 30, 2 if options.smoke else 14)
    steps = 300 if options.smoke else 4000
    degrees = DEGREES[:1] if options.smoke else DEGREES
    with jax.enable_x64(True):
        found = [measure(k, scales, steps, options.seed) for k in degrees]
    tables = [
        table(
            f"Between a minimum (loss {r['loss']:.1e} ‖Y‖²) and its rescaling, degree {r['k']}, in "
            "units of ‖Y‖²; over all 8! permutations of the last hidden layer the least at ½.",
            ["m", "highest, theory", "network, of 401 points", "α*, theory", "network",
             "at ½, theory", "network", "best permutation"],
            [[f"{v['m']:.3g}", f"{v['predicted']:.4g}", f"{v['highest']:.4g}",
              f"{v['predicted_alpha']:.3f}", f"{v['alpha']:.3f}", f"{v['predicted_middle']:.4g}",
              f"{v['middle']:.4g}", f"{v['permuted']:.4g}"] for v in r["rows"]],
        )
        for r in found
    ]  # fmt: skip
    finish(options, folder, "figure4", {"sizes": SIZES, "found": found}, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
