"""`python -m experiments.zhao2025.traced`: the paper's quantities on trained, traced networks.

The loss on the orbit curve between a network and its transform by a random element of all its
symmetries, beside that on the segment (Eq. 5); the barrier under rescaling of a hidden layer
(Prop. 5.3, 5.4); curvature and the bound of Theorem 6.2; components of orbits (Cor. 3.6).

21 points of a curve, 11 scales, orbits of 6 lengths; with `--quick` digits in place of MNIST, 11
points, 5 scales, 3 lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree

import mcjax
from mcjax import theory
from mcjax.figures import along_path, line
from mcjax.path import Linear, Orbit
from mcjax.tasks import CLASSIFICATION, REGRESSION, cross_entropy

from ..figures import BLUE, GREEN, ORANGE, PINK, RED, beside, figure, finish, table
from .networks import Trained, data_of, in_float64, symmetries, train
from .study import Options, folder_of

NAMES = ("relu", "bottleneck", "attention")
COLOURS = dict(zip(NAMES, (BLUE, GREEN, PINK), strict=True))
STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FEW = 200  # training examples whose loss is bounded, in float64


def orbit_of(net: Trained, seed: int) -> Orbit:
    """From the network to its transform by a random element, permutations and signs first."""
    action = mcjax.Action.random(net.network, jax.random.key(seed))
    return Orbit(action, net.params[0], discrete="first")


def along(net: Trained, test: Any, points: int, seed: int) -> dict[str, Any]:
    """Loss and accuracy on the curve and on the segment between its ends."""
    orbit = orbit_of(net, seed)
    segment = Linear(orbit(0.0), orbit(1.0))
    curves = {name: mcjax.evaluate(path, net.network, test, points)
              for name, path in (("orbit", orbit), ("segment", segment))}  # fmt: skip
    (own,) = mcjax.evaluate(Linear(net.params[0], net.params[0]), net.network, test, [0.0]).loss
    count = theory.orbit_components(net.network)
    return {
        "name": net.name, "symmetries": symmetries(net.network), "loss": float(own),
        "off": float(np.abs(curves["orbit"].loss - own).max()),
        "barrier": mcjax.evaluation.barrier(curves["segment"].t, curves["segment"].loss),
        "components": repr(count)[len("OrbitComponents(") : -1],
        "curves": {n: c.to_dict() for n, c in curves.items()},
    }  # fmt: skip


def rescaled(net: Trained, test: Any, scales: np.ndarray, points: int) -> list[dict[str, Any]]:
    """Between the MLP and itself with a hidden layer scaled by m and its reader by 1/m.

    Of the last hidden layer the segment's logits are f(α) (z − b) + b, z those of the network and
    b the output bias: theory predicts the logits, and so both losses.
    """
    network, params, (x, y) = net.network, net.params[0], test
    z = np.asarray(net.model.apply(params, x), np.float64)
    b = np.asarray(params["params"][f"Dense_{len(net.model.hidden)}"]["bias"], np.float64)
    norm = float(np.square(z - b).mean())
    groups = {"last": network.layers[-1].groups_in[0], "first": network.layers[0].groups_out[0]}
    rows = []
    for m in scales:
        row: dict[str, Any] = {"m": float(m), "predicted": float(theory.barrier_height(m))}
        gain = float(theory.segment_gain(0.5, m))
        row["predicted_loss"] = float(np.mean(cross_entropy(gain * (z - b) + b, y)))
        for name, group in groups.items():
            scale = np.full(network.groups[group].shape, m, np.float32)
            end = mcjax.Action.of(network, elements={group: {"positive": scale}})(params)
            segment = Linear(params, end)
            error = mcjax.evaluate(
                segment, network, (x, z.astype(np.float32)), points, task=REGRESSION
            )
            curve = mcjax.evaluate(segment, network, test, points, task=CLASSIFICATION)
            middle = len(curve.t) // 2
            row[name] = {"highest": float(error.loss.max()) / norm,
                         "loss": float(curve.loss[middle]),
                         "accuracy": float(curve.accuracy[middle])}  # fmt: skip
        row["permuted"] = permuted(net, x[:50], m)
        rows.append(row)
    return rows


def permuted(net: Trained, x: Any, m: float) -> dict[str, Any]:
    """Bounds of the least squared barrier at ½ over permutations of the last hidden layer."""
    layers = [net.params[0]["params"][f"Dense_{i}"] for i in range(len(net.model.hidden) + 1)]
    for layer in layers[:-2]:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    pre = np.asarray(x @ layers[-2]["kernel"] + layers[-2]["bias"], np.float64).T
    last = np.asarray(layers[-1]["kernel"], np.float64).T
    found = theory.permuted_barrier(last, pre, lambda v: np.maximum(v, 0), m)
    norm = float(np.square(last @ np.maximum(pre, 0)).sum())
    return {"lower": found.lower / norm, "upper": found.upper / norm, "status": found.status}


def bounds(
    net: Trained, examples: Any, points: int, strengths: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    """Theorem 6.2 on orbits of growing length, in float64: its bound beside what is measured."""
    x, y = examples
    rows = []
    with jax.enable_x64(True):
        whole = orbit_of(net, seed)
        start, curve = in_float64(whole.start), whole.curve
        unravel = ravel_pytree(start)[1]

        def loss(flat: Any) -> jax.Array:
            return jnp.mean(cross_entropy(net.model.apply(unravel(flat), x), y))

        value_and_slope = jax.jit(jax.value_and_grad(loss))
        level = float(loss(ravel_pytree(start)[0]))
        flatten = jax.jit(jax.vmap(lambda path, t: ravel_pytree(path.at(t))[0], (None, 0)))
        for strength in strengths:
            orbit = Orbit(curve.power(strength), start)
            inside = np.clip(np.linspace(0, 1, points), 1e-6, 1 - 1e-6)
            kappa, speed = theory.curvature(orbit, inside)
            on_curve = np.asarray(flatten(orbit, np.linspace(0, 1, 8 * points + 1)))
            chord = float(np.linalg.norm(on_curve[-1] - on_curve[0]))
            length = float(np.linalg.norm(np.diff(on_curve, axis=0), axis=1).sum())
            bound = theory.chord_bound(float(kappa.max()), chord, max(length, chord))
            apart, off, slopes = 0.0, 0.0, []
            for s in np.linspace(0, 1, points):
                point = (1 - s) * on_curve[0] + s * on_curve[-1]
                nearest = nearest_of(on_curve, point)
                apart = max(apart, float(np.linalg.norm(nearest - point)))
                for r in (0.0, 0.5, 1.0):  # on the way from the chord to the curve
                    at, slope = value_and_slope((1 - r) * point + r * nearest)
                    slopes.append(float(np.linalg.norm(slope)))
                    off = max(off, abs(float(at) - level)) if r == 0 else off
            rows.append({
                "strength": strength, "chord": chord, "length": length,
                "curvature": float(kappa.max()), "speed": [float(speed.min()), float(speed.max())],
                "status": bound.status, "formula": bound.formula if bound.formula == bound.formula
                else None, "bound": bound.distance, "distance": apart, "level": level, "off": off,
                "slope": max(slopes), "loss bound": bound.loss(max(slopes)),
            })  # fmt: skip
    return rows


def nearest_of(line: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The point of a polyline, (corners, parameters), that is nearest to another."""
    first = int(np.linalg.norm(line - point, axis=1).argmin())
    found = [line[first]]
    for i in (first - 1, first):
        if 0 <= i < len(line) - 1:
            along = line[i + 1] - line[i]
            s = np.clip(along @ (point - line[i]) / (along @ along), 0, 1)
            found.append(line[i] + s * along)
    return min(found, key=lambda q: float(np.linalg.norm(q - point)))


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The loss on orbits and segments; rescaled layers; distances and their bounds."""
    with figure(file, 13.4, 7.4) as drawn:
        axes = drawn.subplots(2, 3)
        titles = ("(a) ReLU MLP: scalings", "(b) linear bottleneck: + GL",
                  "(c) attention: + GL in each head")  # fmt: skip
        for panel, row, title in zip(axes[0], record["along"], titles, strict=False):
            for name, colour in (("segment", RED), ("orbit", BLUE)):
                line(panel, row["curves"][name]["t"], row["curves"][name]["loss"], colour)
            along_path(panel, "g·A")
            panel.set(title=title, ylabel="test cross-entropy", ylim=(0, None))
        beside(axes[0, 2], {"segment": (1, RED), "orbit": (0, BLUE)})
        _rescaled(axes[1, 0], axes[1, 1], record["rescaled"])
        _bounds(axes[1, 2], record["bounds"])


def _rescaled(error: Any, loss: Any, rows: list[dict[str, Any]]) -> None:
    scales, fine = [r["m"] for r in rows], np.geomspace(rows[0]["m"], rows[-1]["m"], 201)
    error.fill_between(
        scales, [r["permuted"]["lower"] for r in rows], [r["permuted"]["upper"] for r in rows],
        color=ORANGE, alpha=0.35, lw=0, label="best permutation: bounds",
    )  # fmt: skip
    error.plot(fine, theory.barrier_height(fine), color=BLUE, lw=1.6, label="theory")
    for name, colour, marker in (("last", BLUE, "o"), ("first", GREEN, "s")):
        error.plot(scales, [r[name]["highest"] for r in rows], marker, color=colour, ms=4.5,
                   label=f"{name} hidden layer")  # fmt: skip
        loss.plot(scales, [r[name]["loss"] for r in rows], marker, color=colour, ms=4.5)
    loss.plot(scales, [r["predicted_loss"] for r in rows], color=BLUE, lw=1.6)
    error.set(title="(d) ReLU MLP, a layer times m", xscale="log", yscale="log", xlabel="m",
              ylabel="squared change of logits / $\\|z-b\\|^2$", ylim=(1e-4, None))  # fmt: skip
    loss.set(title="(e) the same, cross-entropy", xscale="log", xlabel="m",
             ylabel="test loss at the middle", ylim=(0, None))  # fmt: skip
    loss.legend(*error.get_legend_handles_labels(), loc="upper center")


def _bounds(panel: Any, bounds: Mapping[str, Any]) -> None:
    names = {}
    for name, rows in bounds.items():
        chords, colour = [r["chord"] for r in rows], COLOURS[name]
        panel.plot(chords, [r["distance"] for r in rows], "o-", color=colour, ms=4, lw=1.2)
        panel.plot(chords, [r["bound"] for r in rows], color=colour, lw=1, ls="--")
        for r in rows:
            holds = r["status"] == "theorem"
            panel.plot(r["chord"], r["bound"], "^", ms=5, color=colour,
                       mfc=colour if holds else "white")  # fmt: skip
        names[name] = (rows[-1]["distance"], colour)
    panel.set(title="(f) distance of chord from curve; ▲ bound", xscale="log", yscale="log",
              xlabel="‖w₂ − w₁‖", ylabel="distance")  # fmt: skip
    beside(panel, names)


def tables(found: dict[str, Any]) -> list[str]:
    of_bounds = [(name, r) for name, rows in found["bounds"].items() for r in rows]
    return [
        table(
            "From a network to its transform by a random element of its group (test set).",
            ["network", "units and their groups", "components of an orbit", "loss",
             "largest change on the orbit", "barrier on the segment"],
            [[r["name"], r["symmetries"], r["components"], f"{r['loss']:.4f}", f"{r['off']:.1e}",
              f"{r['barrier']:.3f}"] for r in found["along"]],
        ),
        table(
            "ReLU MLP, a hidden layer times m. Squared change of the logits, highest on the "
            "segment, in units of ‖z − b‖²; cross-entropy and accuracy at the middle.",
            ["m", "theory", "last layer", "first layer", "best permutation of the last (50 "
             "examples)", "loss, theory", "loss, last", "loss, first", "accuracy, last (%)"],
            [[f"{r['m']:.3g}", f"{r['predicted']:.4g}", f"{r['last']['highest']:.4g}",
              f"{r['first']['highest']:.4g}",
              f"{r['permuted']['lower']:.3g} to {r['permuted']['upper']:.3g}",
              f"{r['predicted_loss']:.4f}", f"{r['last']['loss']:.4f}",
              f"{r['first']['loss']:.4f}", f"{100 * r['last']['accuracy']:.2f}"]
             for r in found["rescaled"]],
        ),
        table(
            "Theorem 6.2 along orbits exp(s log g), float64: κ and the largest gradient are of "
            f"samples. Loss on {FEW} training examples.",
            ["network, s", "‖w₂ − w₁‖", "length", "largest κ", "status", "bound of the distance",
             "distance", "C_L × bound", "largest change of loss"],
            [[f"{name}, {r['strength']:g}", f"{r['chord']:.3f}", f"{r['length']:.3f}",
              f"{r['curvature']:.3f}", r["status"], f"{r['bound']:.4g}", f"{r['distance']:.4g}",
              f"{r['loss bound']:.3g}", f"{r['off']:.3g}"] for name, r in of_bounds],
        ),
    ]  # fmt: skip


def main(options: Options) -> None:
    folder = folder_of(options, "traced")
    data = data_of(options)
    nets = [train(options, name, data) for name in (NAMES[:1] if options.smoke else NAMES)]
    test = (data.x_test, data.y_test)
    few = (data.x_train[:FEW], data.y_train[:FEW])
    size = 0 if options.smoke else 1 if options.quick else 2
    points, scales = (3, 11, 21)[size], np.geomspace(1 / 30, 30, (2, 3, 11)[size])
    strengths = (STRENGTHS[-1:], STRENGTHS[1::2], STRENGTHS)[size]
    found = {
        "data": data.name,
        "along": [along(net, test, points, options.seed) for net in nets],
        "rescaled": rescaled(nets[0], test, scales, min(points, 11)),
        "bounds": {net.name: bounds(net, few, points, strengths, options.seed) for net in nets},
    }
    finish(options, folder, "traced", found, tables(found), draw)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
