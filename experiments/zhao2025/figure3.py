"""`python -m experiments.zhao2025.figure3`: curves of an approximate symmetry.

How much the map of Eq. 6 changes outputs, for 100 sigmoid networks of random sizes, beside the
bound of Prop. 6.1 (zhao2025, Fig. 3a); the loss along its curves beside that on segments (3b, 3c).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import mcjax
from mcjax import theory
from mcjax.symmetry import log, random_general_linear

from .study import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Options,
    descend,
    figure,
    finish,
    folder_of,
    table,
)

# Fig. 3b and c: X (16, examples), Y (64, examples), 32 hidden units; in print 8 examples.
INPUTS, HIDDEN, OUTPUTS, PRINTED, MORE = 16, 32, 64, 8, 64
MAGNITUDES = (0.1, 0.3)
CURVES = 5


def masked_sigmoid(mask: Any) -> Any:
    return lambda z: mask * jax.nn.sigmoid(z)


def changes(count: int, largest: int, steps: int, seed: int) -> list[dict[str, Any]]:
    """‖U σ(VX)‖ and by how much Eq. 6 changes it, for trained networks of random sizes.

    All networks are padded with zeros to the largest sizes, so that one program serves them all:
    masked hidden units and examples are zero rows and columns, also of the pseudo-inverse.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, largest + 1, (count, 4))
    parts: dict[str, list[Any]] = {name: [] for name in ("u", "v", "x", "y", "g", "mask")}
    for (m, h, n, k), key in zip(sizes, jax.random.split(jax.random.key(seed), count), strict=True):
        values = {
            "u": rng.normal(size=(m, h)) / h**0.5, "v": rng.normal(size=(h, n)) / n**0.5,
            "x": rng.normal(size=(n, k)), "y": rng.normal(size=(m, k)), "mask": np.ones((h, k)),
            "g": random_general_linear(key, (h,)),
        }  # fmt: skip
        for name, value in values.items():
            space = [(0, largest - s) for s in value.shape]
            parts[name].append(np.pad(value, space))
    held = {name: np.stack(values) for name, values in parts.items()}

    def loss(params: Any) -> jax.Array:
        hidden = masked_sigmoid(params["mask"])(params["v"] @ params["x"])
        return jnp.sum((params["u"] @ hidden - params["y"]) ** 2)

    def only_weights(params: Any) -> jax.Array:
        fixed = {n: jax.lax.stop_gradient(params[n]) for n in ("x", "y", "g", "mask")}
        return loss({**params, **fixed})

    found, losses = descend(only_weights, held, steps, 0.02)

    @jax.jit
    @jax.vmap
    def change(p: Any) -> tuple[jax.Array, jax.Array]:
        sigmoid = masked_sigmoid(p["mask"])
        before = p["u"] @ sigmoid(p["v"] @ p["x"])
        v, u = theory.approximate_action(p["g"], (p["v"], p["u"]), p["x"], sigmoid, cutoff=1e-10)
        after = u @ sigmoid(v @ p["x"])
        return jnp.linalg.norm(before), jnp.linalg.norm(before - after)

    norms, moved = map(np.asarray, change(found))
    return [
        {"outputs": int(m), "hidden": int(h), "inputs": int(n), "examples": int(k),
         "norm": float(norm), "change": float(by), "loss": float(loss_)}
        for (m, h, n, k), norm, by, loss_ in zip(sizes, norms, moved, losses, strict=True)
    ]  # fmt: skip


def leaky(z: Any) -> Any:
    return jax.nn.leaky_relu(z, 0.01)


def along(examples: int, steps: int, points: int, seed: int) -> dict[str, Any]:
    """‖W₂σ(W₁X) − Y‖ on γ and on the segment between its ends, for elements of each magnitude."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(INPUTS, examples)), rng.normal(size=(OUTPUTS, examples))

    def loss(params: Any) -> jax.Array:
        v, u = params
        return jnp.linalg.norm(u @ leaky(v @ x) - y)

    start = (rng.normal(size=(1, HIDDEN, INPUTS)) / INPUTS**0.5,
             rng.normal(size=(1, OUTPUTS, HIDDEN)) / HIDDEN**0.5)  # fmt: skip
    found, _ = descend(loss, start, steps, 0.01)
    params = tuple(np.asarray(w)[0] for w in found)
    t = np.linspace(0, 1, points)
    losses = jax.jit(jax.vmap(lambda path, s: loss(path.at(s)), (None, 0)))
    rows = []
    for magnitude in MAGNITUDES:
        pairs, lengths = [], []
        for _ in range(CURVES):
            g = jax.scipy.linalg.expm(magnitude * rng.normal(size=(HIDDEN, HIDDEN)))
            gamma = theory.ApproximateCurve(params, log(g), x, leaky, 1e-10)
            ends = gamma.at(0.0), gamma.at(1.0)
            pairs.append([losses(gamma, t), losses(mcjax.path.Linear(*ends), t)])
            away = [np.linalg.norm(b - a) for a, b in zip(*ends, strict=True)]
            lengths.append(float(np.hypot(*away)))
        curves = np.asarray(pairs)  # (curves, γ or segment, points)
        rows.append({
            "magnitude": magnitude, "distance": lengths, "gamma": curves[:, 0].tolist(),
            "segment": curves[:, 1].tolist(),
        })  # fmt: skip
    return {"examples": examples, "minimum": float(loss(params)), "t": t.tolist(), "rows": rows}


def draw(nets: list[dict[str, Any]], both: list[dict[str, Any]], file: Any) -> None:
    with figure(file, 12.6) as drawn:
        axes = drawn.subplots(1, 3)
        norm, change = (np.array([r[k] for r in nets]) for k in ("norm", "change"))
        few = np.array([r["examples"] <= r["hidden"] for r in nets])
        shown = np.maximum(change, 1e-12)
        for mine, colour, marker, name in (
            (~few, BLUE, "o", "examples > hidden units"),
            (few, ORANGE, "v", "examples ≤ hidden units"),
        ):
            axes[0].loglog(shown[mine], norm[mine], marker, ms=4, color=colour, label=name)
        line = np.array([1e-12, 1e3])
        axes[0].plot(line, line, color="black", lw=1.2, label="bound (Prop. 6.1)")
        axes[0].set(
            title="(a) 100 sigmoid networks" if len(nets) == 100 else f"(a) {len(nets)} networks",
            xlabel="$\\|U\\sigma(VX) - U'\\sigma(V'X)\\|$", ylabel="$\\|U\\sigma(VX)\\|$",
            ylim=(norm.min() / 2, norm.max() * 2),
        )  # fmt: skip
        axes[0].legend(fontsize=8.5, loc="lower left", frameon=True)
        printed, more = both
        t = more["t"]
        rows = zip(axes[1:], more["rows"], printed["rows"], "bc", strict=True)
        for panel, row, exact, name in rows:
            for kind, colour, label in (("segment", RED, "segment"), ("gamma", BLUE, "γ")):
                curves = np.asarray(row[kind])
                panel.plot(t, curves.T, color=colour, lw=0.6, alpha=0.4)
                panel.plot(t, curves.mean(0), color=colour, lw=2.2,
                           label=f"{label}, {more['examples']} examples")  # fmt: skip
            panel.plot(t, np.mean(exact["gamma"], 0), color=GREY, lw=1.6, ls=":",
                       label=f"γ, {printed['examples']} examples, as printed")  # fmt: skip
            panel.set(
                title=f"({name}) $g=\\exp M$, $M_{{ij}}\\sim N(0, {row['magnitude']:g}^2)$", xlabel="t",
                ylabel="$\\|W_2\\sigma(W_1X) - Y\\|$", yscale="symlog", ylim=(0, None),
            )  # fmt: skip
            panel.set_yscale("linear")
        axes[2].legend(fontsize=8.5, loc="upper right", frameon=True)


def main(options: Options) -> None:
    folder = folder_of(options, "figure3")
    smoke = options.smoke
    with jax.enable_x64(True):
        nets = changes(
            6 if smoke else 100, 12 if smoke else 100, 50 if smoke else 500, options.seed
        )
        both = [along(n, 50 if smoke else 3000, 5 if smoke else 41, options.seed)
                for n in (PRINTED, MORE)]  # fmt: skip
        draw(nets, both, folder / "figure3.png")
    few = [r for r in nets if r["examples"] <= r["hidden"]]
    many = [r for r in nets if r["examples"] > r["hidden"]]
    share = [r["change"] / r["norm"] for r in many]
    tables = [
        table(
            f"Eq. 6 on {len(nets)} trained sigmoid networks with sizes up to 100: change of the "
            "outputs in units of their norm; the bound is 1.",
            ["networks", "count", "least", "median", "largest"],
            [["examples > hidden units", len(many),
              *(f"{f(share):.3f}" for f in (np.min, np.median, np.max))],
             ["examples ≤ hidden units", len(few),
              *(f"{f([r['change'] / r['norm'] for r in few]):.1e}"
                for f in (np.min, np.median, np.max))]],
        ),
        table(
            f"Loss ‖W₂σ(W₁X) − Y‖, mean over {CURVES} curves.",
            ["examples, magnitude of M", "distance of the ends", "at the minimum", "highest on γ",
             "highest on the segment"],
            [[f"{run['examples']}, {row['magnitude']:g}", f"{np.mean(row['distance']):.2f}",
              f"{run['minimum']:.4f}", f"{np.max(row['gamma'], 1).mean():.4f}",
              f"{np.max(row['segment'], 1).mean():.4f}"] for run in both for row in run["rows"]],
        ),
    ]  # fmt: skip
    finish(options, folder, "figure3", {"networks": nets, "curves": both}, tables)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
