"""`python docs/figures.py`: the figures of the documentation pages, on digits, in two minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import mcjax
from mcjax import flows
from mcjax.align import match_butterflies
from mcjax.data import load
from mcjax.merge import independent, wa_ensemble
from mcjax.models import MLP
from mcjax.path import Arc, Legs, Linear, Swaps
from mcjax.training import Protocol, train_networks

OUT = Path(__file__).parent / "figures"
BLUE, ORANGE, GREEN, PINK, RED, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9",
)  # fmt: skip
STYLE: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
              "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True,
              "legend.frameon": False}  # fmt: skip

data = load("digits").flat()
x, y = data.x_train, data.y_train


def networks(hidden: tuple[int, ...], count: int) -> tuple[Any, Any, list[Any]]:
    """A model, its trace and trained networks."""
    model = MLP(hidden)
    made = train_networks(model.apply, lambda key: model.init(key, x[:1]), (x, y), range(count),
                 Protocol(60, 32))  # fmt: skip
    return model, mcjax.trace(model.apply, made[0], x[:2]), made


def accuracy(path: Any, model: Any, t: Any) -> np.ndarray:
    return 100 * mcjax.evaluate(path, model.apply, (x, y), t).accuracy


def save(figure: Figure, name: str) -> None:
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"{name}.png", dpi=140)


def panels(count: int, width: float = 9.5, height: float = 3.5) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, count)


def legs_axis(axis: Any, legs: int, labels: list[str]) -> None:
    """Legs as bands with a name each."""
    for k, label in enumerate(labels):
        if k % 2:
            axis.axvspan(k, k + 1, color="0.95", zorder=0)
        axis.text(k + 0.5, 0.02, label, transform=axis.get_xaxis_transform(), ha="center",
                  va="bottom", fontsize=8.5, color="0.35")  # fmt: skip
    low, high = axis.get_ylim()
    axis.set(xlim=(0, legs), ylim=(low - 0.1 * (high - low), high), xlabel="leg of the path",
             ylabel="training accuracy (%)")  # fmt: skip


def linear_and_arc(model: Any, a: Any, b: Any, network: Any) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 400, 2))
    figure, (left, middle, right) = panels(3, 11)
    for axis, path, title in (
        (left, Linear({"w": one}, {"w": two}), "segment: squeezed"),
        (middle, Arc({"w": one}, {"w": two}), "arc: preserved"),
    ):
        axis.scatter(*one.T, s=6, color="0.75", label="t = 0")
        axis.scatter(*np.asarray(path(0.5)["w"]).T, s=6, color=BLUE, label="t = 1/2")
        axis.set(title=f"{title}", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
        axis.legend(loc="upper left", markerscale=2)
    t = np.linspace(0, 1, 31)
    for method, colour in (("linear", ORANGE), ("arc", BLUE)):
        path = mcjax.connect(network, a, b, method).path
        right.plot(t, accuracy(path, model, t), color=colour, label=method)
    right.set(title="64-512-10 on digits", xlabel="t", ylabel="training accuracy (%)")
    right.legend()
    save(figure, "linear-and-arc")


def weight_adjustment(model: Any, a: Any, b: Any, network: Any) -> None:
    figure, axes = panels(1, 8)
    for method, colour in (("linear+wa", GREEN), ("ot+wa", RED)):
        path = mcjax.connect(network, a, b, method, x=x).path
        assert isinstance(path, Legs)
        t = path.grid(10)
        axes.plot(3 * t, accuracy(path, model, t), color=colour, label=method)
    plain = mcjax.connect(network, a, b, "linear").path
    t = np.linspace(0, 1, 31)
    axes.plot(1 + t, accuracy(plain, model, t), color=ORANGE, ls="--", label="linear")
    legs_axis(axes, 3, ["W₂: A → solved", "W₁: A → B, W₂ solved at each t", "W₂: solved → B"])
    axes.set(title="64-512-10 on digits")
    axes.legend()
    save(figure, "weight-adjustment")


def transport(model: Any, a: Any, b: Any, network: Any) -> None:
    figure, (left, right) = panels(2)
    permutations = match_butterflies(network, a, b).permutations
    t = np.linspace(0, 1, 31)
    left.plot(t, accuracy(Linear(a, b), model, t), color=ORANGE, label="segment")
    moved = network.permute(permutations, b)
    left.plot(t, accuracy(Linear(a, moved), model, t), color=BLUE, label="after transport")
    left.set(title="A to B, neurons transported", xlabel="t", ylabel="training accuracy (%)")
    left.legend()
    for together, colour in ((1, BLUE), (10, GREEN), (100, RED)):
        stage = Swaps(network, b, permutations, together=together)
        t = np.concatenate([[0.0], stage.middles(40), [1.0]])
        curve = mcjax.evaluate(stage, model.apply, (x, y), t)
        right.plot(t, curve.loss, color=colour, label=f"{together} at a time, {stage.legs} legs")
    right.set(title="swap stage: B's neurons back in order", xlabel="t",
              ylabel="loss in the middle of swaps", ylim=(0, None))  # fmt: skip
    right.legend()
    save(figure, "optimal-transport")


def learnable(model: Any, nets: list[Any], network: Any) -> None:
    architecture = flows.Architecture("realnvp", blocks=4, width=128, depth=1)
    key = jax.random.key(0)
    trained = {
        "realnvp-flow": flows.train_flow(
            network, nets[2:], architecture, flows.AdamProtocol(600, 1024, 1e-3), key=key),
        "realnvp-bijection": flows.train_bijection(
            network, nets[2:], (x, y), architecture, flows.AdamProtocol(600, 128, 5e-4), key=key),
    }  # fmt: skip
    figure, axes = panels(1, 7)
    t = np.linspace(0, 1, 31)
    a, b = nets[:2]
    arc = mcjax.connect(network, a, b, "arc").path
    axes.plot(t, accuracy(arc, model, t), color=ORANGE, label="arc")
    for (method, made), colour in zip(trained.items(), (SKY, BLUE), strict=True):
        path = mcjax.connect(network, a, b, mcjax.methods.Flow(made)).path
        axes.plot(t, accuracy(path, model, t), color=colour, label=method)
    axes.set(title="a pair that the connection model has not seen", xlabel="t",
             ylabel="training accuracy (%)")  # fmt: skip
    axes.legend()
    save(figure, "learnable")


def layer_by_layer() -> None:
    model, network, (a, b) = networks((96, 96, 96), 2)
    figure, axes = panels(1, 9)
    for method, colour in (("linear+wa", GREEN), ("ot+wa", RED)):
        path = mcjax.connect(network, a, b, method, x=x).path
        assert isinstance(path, Legs)
        t = path.grid(10)
        legs = len(path.legs)
        axes.plot(legs * t, accuracy(path, model, t), color=colour, label=method)
    t = np.linspace(0, 1, 31)
    axes.plot(legs * t, accuracy(Linear(a, b), model, t), color=ORANGE, ls="--", label="linear")
    names = ["W₂ solved", "layer 1", "W₃ solved", "layer 2", "W₄ solved", "layer 3", "W₄ → B"]
    legs_axis(axes, legs, names if legs == 7 else [""] * legs)
    axes.set(title="64-96-96-96-10 on digits")
    axes.legend()
    save(figure, "layer-by-layer")


def ensembles() -> None:
    _, network, nets = networks((64, 64, 64), 7)
    test = (data.x_test, data.y_test)
    figure, axes = panels(1, 7)
    for layer, colour in ((0, "black"), (3, BLUE), (2, GREEN), (1, ORANGE)):
        scores = []
        for count in range(1, 8):
            lone = layer == 0 or count == 1
            made = (independent(network, nets[:count]) if lone
                    else wa_ensemble(network, nets[:count], x, layer=layer))  # fmt: skip
            scores.append(100 * made.accuracy(test))
        label = f"WA({layer}), {made.flops:.0%} of the cost" if layer else "independent"
        axes.plot(range(1, 8), scores, "o-", ms=4, color=colour, label=label)
    axes.set(title="64-64-64-64-10 on digits", xlabel="networks in the ensemble",
             ylabel="test accuracy (%)")  # fmt: skip
    axes.legend()
    save(figure, "ensembles")


def pleas() -> None:
    """Loss and accuracy of merged networks, the mean over four pairs."""
    hidden, ratios = (16, 16), (1.0, 0.75, 0.5, 0.25, 0.0)
    model, network, nets = networks(hidden, 8)
    test = (data.x_test, data.y_test)
    found: dict[Any, list[Any]] = {}

    def score(name: Any, apply_fn: Any, params: Any) -> None:
        at = mcjax.evaluate(Linear(params, params), apply_fn, test, [0.0])
        found.setdefault(name, []).append((at.loss[0], at.accuracy[0]))

    for a, b in zip(nets[::2], nets[1::2], strict=True):
        aligned = mcjax.align.match_activations(network, a, b, x).action(network)(b)
        segment = Linear(a, aligned)
        score("each network", model.apply, a)
        score("each network", model.apply, b)
        score("mean of aligned networks", model.apply, segment(0.5))
        repaired = mcjax.evaluation.Repaired(segment, network, x)
        score("with REPAIR", model.apply, repaired(0.5))
        for ratio in ratios:
            wide = MLP(tuple(2 * n - round(ratio * n) for n in hidden))
            made = mcjax.merge.pleas(network, a, b, x, ratio=ratio, merged=wide.apply)
            score(ratio, wide.apply, made.params)
    mean = {name: np.mean(values, 0) for name, values in found.items()}
    for name, (loss, right) in mean.items():
        print(f"{name}: loss {loss:.3f}, accuracy {100 * right:.1f} %")
    figure, axes = panels(1, 7)
    units = [2 * hidden[0] - round(r * hidden[0]) for r in ratios]
    axes.plot(units, [mean[r][0] for r in ratios], "o-", color=BLUE, label="PLeaS")
    for name, colour in zip(found, (GREEN, RED, ORANGE), strict=False):
        axes.axhline(mean[name][0], color=colour, ls="--", label=name)
    axes.set(title="64-16-16-10 on digits", xlabel="units a layer", ylabel="test loss", ylim=0)
    axes.set_xticks(units)
    axes.legend()
    save(figure, "pleas")


if __name__ == "__main__":
    with matplotlib.rc_context(STYLE):
        model, network, nets = networks((512,), 8)
        a, b = nets[:2]
        linear_and_arc(model, a, b, network)
        weight_adjustment(model, a, b, network)
        transport(model, a, b, network)
        learnable(model, nets, network)
        layer_by_layer()
        ensembles()
        pleas()
