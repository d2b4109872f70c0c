"""`python -m experiments.zhao2025.figure3`: curves of an approximate symmetry.

How much the map of Eq. 6 changes outputs, for 100 sigmoid networks of random sizes, beside the
bound of Prop. 6.1 (zhao2025, Fig. 3a); the loss along its curves beside that on segments (3b, 3c).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import tyro

import mcjax
from mcjax import theory
from mcjax.figures import along_path, line, shade
from mcjax.symmetry import log

from ..figures import BLUE, GREY, ORANGE, RED, beside, figure, finish, table
from .study import Options, descend, folder_of

# Fig. 3b and c: X (16, examples), Y (64, examples), 32 hidden units; in print 8 examples.
INPUTS, HIDDEN, OUTPUTS, PRINTED, MORE = 16, 32, 64, 8, 64
MAGNITUDES = (0.1, 0.3)
CURVES = 5
CUTOFF = 1e-10  # of the pseudo-inverse, in float64


def outputs(params: Any, data: Any) -> jax.Array:
    """U σ(VX) of a network in a padded stack of them."""
    x, mask = data["x"][params["number"]], data["mask"][params["number"]]
    return params["u"] @ (mask * jax.nn.sigmoid(params["v"] @ x))


def loss(params: Any, data: Any) -> jax.Array:
    return jnp.sum((outputs(params, data) - data["y"][params["number"]]) ** 2)


@jax.jit
@partial(jax.vmap, in_axes=(0, None))
def change(params: Any, data: Any) -> tuple[jax.Array, jax.Array]:
    """(‖U σ(VX)‖, ‖U σ(VX) − U′ σ(V′X)‖)."""
    x, mask, g = (data[name][params["number"]] for name in ("x", "mask", "g"))
    v, u = theory.approximate_action(
        g, (params["v"], params["u"]), x, lambda z: mask * jax.nn.sigmoid(z), cutoff=CUTOFF
    )
    before = outputs(params, data)
    after = outputs({**params, "v": v, "u": u}, data)
    return jnp.linalg.norm(before), jnp.linalg.norm(before - after)


def changes(count: int, largest: int, steps: int, seed: int) -> list[dict[str, Any]]:
    """By how much Eq. 6 changes the outputs of trained networks of random sizes.

    All networks are padded with zeros to the largest sizes, so that one program serves them all:
    hidden units and examples that are none are zero rows and columns, also of the pseudo-inverse.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, largest + 1, (count, 4))
    names = ("u", "v", "x", "y", "mask", "g")
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for m, h, n, k in sizes:
        made = (rng.normal(size=(m, h)) / h**0.5, rng.normal(size=(h, n)) / n**0.5,
                rng.normal(size=(n, k)), rng.normal(size=(m, k)), np.ones((h, k)),
                rng.normal(size=(h, h)))  # fmt: skip
        for name, value in zip(names, made, strict=True):
            parts[name].append(np.pad(value, [(0, largest - size) for size in value.shape]))
    held = {name: np.stack(values) for name, values in parts.items()}
    start = {"u": held.pop("u"), "v": held.pop("v"), "number": np.arange(count)}
    found, losses = descend(loss, start, steps, 0.02, held)
    norms, moved = map(np.asarray, change(found, held))
    return [
        {"outputs": int(m), "hidden": int(h), "inputs": int(n), "examples": int(k),
         "norm": float(norm), "change": float(by), "loss": float(at)}
        for (m, h, n, k), norm, by, at in zip(sizes, norms, moved, losses, strict=True)
    ]  # fmt: skip


def leaky(z: Any) -> Any:
    return jax.nn.leaky_relu(z, 0.01)


def along(examples: int, curves: int, steps: int, points: int, seed: int) -> dict[str, Any]:
    """‖W₂σ(W₁X) − Y‖ on γ and on the segment between its ends, for elements of each magnitude."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(INPUTS, examples)), rng.normal(size=(OUTPUTS, examples))

    def loss(params: Any, _: Any = None) -> jax.Array:
        v, u = params
        return jnp.linalg.norm(u @ leaky(v @ x) - y)

    start = (rng.normal(size=(1, HIDDEN, INPUTS)) / INPUTS**0.5,
             rng.normal(size=(1, OUTPUTS, HIDDEN)) / HIDDEN**0.5)  # fmt: skip
    ended, _ = descend(loss, start, steps, 0.01)
    params = tuple(np.asarray(w)[0] for w in ended)
    t = np.linspace(0, 1, points)
    losses = jax.jit(jax.vmap(lambda path, s: loss(path.at(s)), (None, 0)))
    point = jax.jit(lambda path, s: path.at(s))
    rows = []
    for magnitude in MAGNITUDES:
        pairs, lengths = [], []
        for _ in range(curves):
            g = scipy.linalg.expm(magnitude * rng.normal(size=(HIDDEN, HIDDEN)))
            gamma = theory.ApproximateCurve(params, log(g), x, leaky, CUTOFF)
            ends = point(gamma, 0.0), point(gamma, 1.0)
            pairs.append([losses(gamma, t), losses(mcjax.path.Linear(*ends), t)])
            away = [np.linalg.norm(b - a) for a, b in zip(*ends, strict=True)]
            lengths.append(math.hypot(*away))
        found = np.asarray(pairs)  # (curves, γ or segment, points)
        rows.append({
            "magnitude": magnitude, "distance": lengths, "gamma": found[:, 0].tolist(),
            "segment": found[:, 1].tolist(),
        })  # fmt: skip
    return {"examples": examples, "minimum": float(loss(params)), "t": t.tolist(), "rows": rows}


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Eq. 6 on many networks; the loss on curves of the approximate symmetry, and on segments."""
    nets, (printed, more) = record["networks"], record["curves"]
    with figure(file, 13.6, 4.0) as drawn:
        axes = drawn.subplots(1, 3)
        _changes(axes[0], nets)
        t = more["t"]
        names: dict[str, Any] = {}
        rows = zip(axes[1:], more["rows"], printed["rows"], "bc", strict=True)
        for panel, row, exact, name in rows:
            for kind, colour, label in (("segment", RED, "segment"), ("gamma", BLUE, "γ")):
                curves = np.asarray(row[kind])
                panel.plot(t, curves.T, color=shade(colour, 0.55), lw=0.6)
                line(panel, t, curves.mean(0), colour)
                names[f"{label},\n{more['examples']} examples"] = (curves.mean(0).max(), colour)
            panel.plot(t, np.mean(exact["gamma"], 0), color=GREY, lw=1.6, ls=":")
            names[f"γ, {printed['examples']} examples,\nas printed"] = (0.0, GREY)
            along_path(panel, "g·A")
            panel.set(
                title=f"({name}) $g=\\exp M$, $M_{{ij}}\\sim N(0, {row['magnitude']:g}^2)$",
                ylabel="$\\|W_2\\sigma(W_1X) - Y\\|$",
            )  # fmt: skip
        beside(axes[-1], names)


def _changes(axes: Any, nets: list[dict[str, Any]]) -> None:
    norm, change = (np.array([r[k] for r in nets]) for k in ("norm", "change"))
    few = np.array([r["examples"] <= r["hidden"] for r in nets])
    for mine, colour, marker, name in (
        (~few, BLUE, "o", "examples > hidden units"),
        (few, ORANGE, "v", "examples ≤ hidden units"),
    ):
        axes.plot(change[mine], norm[mine], marker, ms=4, color=colour, label=name, clip_on=False)
    most = norm.max()
    axes.plot([0, most], [0, most], color="black", lw=1.2, label="bound (Prop. 6.1)")
    axes.set(
        title=f"(a) Eq. 6 on {len(nets)} sigmoid networks", xlim=(0, None), ylim=(0, None),
        xlabel="$\\|U\\sigma(VX) - U'\\sigma(V'X)\\|$", ylabel="$\\|U\\sigma(VX)\\|$",
    )  # fmt: skip
    axes.legend(loc="lower right")  # below the bound there is nothing


def main(options: Options) -> None:
    folder = folder_of(options, "figure3")
    count, largest, steps, points, curves = (
        (6, 12, 50, 5, 1) if options.smoke else (30, 40, 500, 21, CURVES) if options.quick
        else (100, 100, 1000, 41, CURVES)
    )  # fmt: skip
    with jax.enable_x64(True):
        nets = changes(count, largest, steps, options.seed)
        both = [along(n, curves, 3 * steps, points, options.seed) for n in (PRINTED, MORE)]
    few = [r for r in nets if r["examples"] <= r["hidden"]]
    many = [r for r in nets if r["examples"] > r["hidden"]]
    share = [r["change"] / r["norm"] for r in many]
    tables = [
        table(
            f"Eq. 6 on {len(nets)} trained sigmoid networks, sizes up to {largest}: change of the "
            "outputs in units of their norm; the bound is 1.",
            ["networks", "count", "least", "median", "largest"],
            [["examples > hidden units", len(many),
              *(f"{f(share):.3f}" for f in (np.min, np.median, np.max))],
             ["examples ≤ hidden units", len(few),
              *(f"{f([r['change'] / r['norm'] for r in few]):.1e}"
                for f in (np.min, np.median, np.max))]],
        ),
        table(
            f"Loss ‖W₂σ(W₁X) − Y‖, mean over {curves} curves.",
            ["examples, magnitude of M", "distance of the ends", "at the minimum", "highest on γ",
             "highest on the segment"],
            [[f"{run['examples']}, {row['magnitude']:g}", f"{np.mean(row['distance']):.2f}",
              f"{run['minimum']:.4f}", f"{np.max(row['gamma'], 1).mean():.4f}",
              f"{np.max(row['segment'], 1).mean():.4f}"] for run in both for row in run["rows"]],
        ),
    ]  # fmt: skip
    finish(options, folder, "figure3", {"networks": nets, "curves": both}, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
