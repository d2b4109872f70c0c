"""`python docs/figures.py`: the figures of the documentation pages, on digits, in two minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import mcjax
from mcjax import flows
from mcjax.align import match_butterflies
from mcjax.data import load
from mcjax.figures import (
    AFTER,
    BEFORE,
    FAINT,
    along_path,
    beside,
    colours_of,
    end_labels,
    house_style,
    line,
    new_panels,
    save_figure,
)
from mcjax.merge import independent, wa_ensemble
from mcjax.models import MLP
from mcjax.path import Arc, Legs, Linear, Swaps
from mcjax.training import Protocol, train_networks

OUT = Path(__file__).parent / "figures"

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


def spoken(method: str) -> str:
    """The words for a preset, as tables have them."""
    return mcjax.methods.traits_of(mcjax.methods.PRESETS[method]).label


def save(figure: Figure, name: str) -> None:
    save_figure(figure, OUT / f"{name}.png")


def panels(count: int, width: float = 10.4, height: float = 3.5) -> tuple[Figure, Any]:
    axes, figure = new_panels(count, count, width=width / count, height=height)
    return figure, axes[0] if count == 1 else axes


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
    axis.set_xticks(range(legs + 1), ["A", *range(1, legs), "B or P·B"])
    axis.grid(axis="x", visible=False)


def linear_and_arc(model: Any, a: Any, b: Any, network: Any) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 400, 2))
    figure, (left, middle, right) = panels(3, 12)
    colours = colours_of(["linear", "arc"])
    for axis, path, title in (
        (left, Linear({"w": one}, {"w": two}), "segment: squeezed"),
        (middle, Arc({"w": one}, {"w": two}), "arc: preserved"),
    ):
        axis.scatter(*one.T, s=6, color=FAINT, label="t = 0")
        colour = colours["linear" if isinstance(path, Linear) else "arc"]
        axis.scatter(*np.asarray(path(0.5)["w"]).T, s=6, color=colour, label="t = ½")
        axis.set(title=f"Neurons, {title}", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
        axis.legend(loc="upper left", markerscale=2)
    t, names = np.linspace(0, 1, 31), {}
    for method, colour in colours.items():
        path = mcjax.connect(network, a, b, method).path
        line(right, t, along := accuracy(path, model, t), colour)
        names[spoken(method)] = (float(along[15]), colour)
    along_path(right)
    right.set(title="64-512-10 on digits", ylabel="training accuracy (%)")
    beside(right, names)
    save(figure, "linear-and-arc")


def legs_of(axes: Any, model: Any, a: Any, b: Any, network: Any, shift: float | None) -> int:
    """Accuracy on every leg of two methods, and on the segment, drawn from leg `shift` on."""
    colours, names, legs = colours_of(["linear+wa", "ot+wa", "linear"]), {}, 1
    for method in ("linear+wa", "ot+wa"):
        path = mcjax.connect(network, a, b, method, x=x).path
        assert isinstance(path, Legs)
        t, legs = path.grid(10), len(path.legs)
        line(axes, legs * t, along := accuracy(path, model, t), colours[method])
        names[spoken(method)] = (float(along[len(t) // 2]), colours[method])
    t = np.linspace(0, 1, 31)
    along = accuracy(Linear(a, b), model, t)
    axes.plot(t * legs if shift is None else shift + t, along, "--", color=colours["linear"])
    beside(axes, names | {spoken("linear"): (float(along[15]), colours["linear"])})
    return legs


def weight_adjustment(model: Any, a: Any, b: Any, network: Any) -> None:
    figure, axes = panels(1, 9)
    legs_of(axes, model, a, b, network, shift=1.0)
    legs_axis(axes, 3, ["W₂: A → solved", "W₁: A → B, W₂ solved at each t", "W₂: solved → B"])
    axes.set(title="64-512-10 on digits")
    save(figure, "weight-adjustment")


def transport(model: Any, a: Any, b: Any, network: Any) -> None:
    figure, (left, right) = panels(2)
    permutations = match_butterflies(network, a, b).permutations
    t = np.linspace(0, 1, 31)
    moved, names = network.permute(permutations, b), {}
    for name, end, colour in (("to B", b, BEFORE), ("to P·B", moved, AFTER)):
        line(left, t, along := accuracy(Linear(a, end), model, t), colour)
        names[name] = (float(along[15]), colour)
    along_path(left, "B or P·B")
    left.set(title="A to B, neurons transported", ylabel="training accuracy (%)")
    beside(left, names)
    names = {}
    for together, colour in ((1, "#0072B2"), (10, "#009E73"), (100, "#E69F00")):
        stage = Swaps(network, b, permutations, together=together)
        t = np.concatenate([[0.0], stage.middles(40), [1.0]])
        curve = mcjax.evaluate(stage, model.apply, (x, y), t)
        line(right, t, curve.loss, colour)
        names[f"{together} at a time,\n{stage.legs} legs"] = (float(curve.loss.max()), colour)
    along_path(right, "B", "P·B")
    right.set(title="Swap stage: B's neurons back in order", ylim=(0, None),
              ylabel="loss in the middle of swaps")  # fmt: skip
    beside(right, names)
    save(figure, "optimal-transport")


def learnable(model: Any, nets: list[Any], network: Any) -> None:
    architecture = flows.Architecture("realnvp", blocks=4, width=128, depth=1)
    key = jax.random.key(0)
    trained = (
        flows.train_flow(
            network, nets[2:], architecture, flows.AdamProtocol(600, 1024, 1e-3), key=key),
        flows.train_bijection(
            network, nets[2:], (x, y), architecture, flows.AdamProtocol(600, 128, 5e-4), key=key),
    )  # fmt: skip
    figure, axes = panels(1, 8)
    t, names = np.linspace(0, 1, 31), {}
    a, b = nets[:2]
    methods = {spoken("arc"): mcjax.methods.Arc()}
    methods |= {mcjax.methods.traits_of(m).label: m for m in map(mcjax.methods.Flow, trained)}
    for name, colour in colours_of(methods).items():
        path = mcjax.connect(network, a, b, methods[name]).path
        line(axes, t, along := accuracy(path, model, t), colour)
        names[name] = (float(along[15]), colour)
    along_path(axes)
    axes.set(title="A pair that the connection model has not seen", ylabel="training accuracy (%)")
    beside(axes, names)
    save(figure, "learnable")


def layer_by_layer() -> None:
    model, network, (a, b) = networks((96, 96, 96), 2)
    figure, axes = panels(1, 10)
    legs = legs_of(axes, model, a, b, network, shift=None)
    names = ["W₂ solved", "layer 1", "W₃ solved", "layer 2", "W₄ solved", "layer 3", "W₄ → B"]
    legs_axis(axes, legs, names if legs == 7 else [""] * legs)
    axes.set(title="64-96-96-96-10 on digits")
    save(figure, "layer-by-layer")


def ensembles() -> None:
    _, network, nets = networks((64, 64, 64), 7)
    test = (data.x_test, data.y_test)
    figure, axes = panels(1, 8)
    ends = {}
    for layer, colour in ((0, "#222222"), (3, "#0072B2"), (2, "#009E73"), (1, "#E69F00")):
        scores = []
        for count in range(1, 8):
            lone = layer == 0 or count == 1
            made = (independent(network, nets[:count]) if lone
                    else wa_ensemble(network, nets[:count], x, layer=layer))  # fmt: skip
            scores.append(100 * made.accuracy(test))
        label = f"WA({layer}), {made.flops:.0%} of the cost" if layer else "independent"
        line(axes, range(1, 8), scores, colour, marker="o", ms=4)
        ends[label] = (scores[-1], colour)
    axes.set(title="64-64-64-64-10 on digits", xlabel="networks in the ensemble",
             ylabel="test accuracy (%)")  # fmt: skip
    end_labels(axes, ends)
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
    figure, axes = panels(1, 8)
    units = [2 * hidden[0] - round(r * hidden[0]) for r in ratios]
    losses = [mean[r][0] for r in ratios]
    line(axes, units, losses, AFTER, marker="o", ms=4)
    ends = {"PLeaS": (losses[-1], AFTER)}
    for name, colour in zip(found, ("#222222", BEFORE, "#E69F00"), strict=False):
        axes.axhline(mean[name][0], color=colour, ls="--", lw=1.4)
        ends[name] = (mean[name][0], colour)
    axes.set(title="64-16-16-10 on digits", xlabel="units a layer", ylabel="test loss", ylim=0)
    axes.set_xticks(units)
    end_labels(axes, ends)
    save(figure, "pleas")


if __name__ == "__main__":
    with house_style():
        model, network, nets = networks((512,), 8)
        a, b = nets[:2]
        linear_and_arc(model, a, b, network)
        weight_adjustment(model, a, b, network)
        transport(model, a, b, network)
        learnable(model, nets, network)
        layer_by_layer()
        ensembles()
        pleas()
