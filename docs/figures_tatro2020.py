"""`python docs/figures_tatro2020.py`: figures of alignment, trained curves, PAM and merging."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from figures import (
    OUT,
    accuracy,
    data,
    networks,
    panels,
    save,
    x,
    y,
)

import mcjax
from mcjax.align import correlation_signature, match_activations, match_many
from mcjax.attacks import PGD
from mcjax.evaluation import Plane, Repaired, evaluate_plane
from mcjax.figures import (
    AFTER,
    BEFORE,
    along_path,
    beside,
    colours_of,
    end_labels,
    house_style,
    line,
)
from mcjax.methods import Pam, Problem
from mcjax.path import Bezier, Linear
from mcjax.theory import alignment_bound
from mcjax.training import Protocol, train_curve, train_networks

PROTOCOL = Protocol(20, 32, 0.02, 0.9, 5e-4, True, 4)
KEY = jax.random.key(0)
T = np.linspace(0, 1, 25)


def alignment(network: Any, model: Any, a: Any, b: Any) -> None:
    figure, (left, right) = panels(2)
    variants = {
        "before": None,
        "correlation, post": ("correlation", "post"),
        "correlation, pre": ("correlation", "pre"),
        "L2, post": ("l2", "post"),
        "L2, pre": ("l2", "pre"),
    }
    ends, names = {}, {}
    for (label, variant), colour in zip(
        variants.items(), ("#222222", "#0072B2", "#009E73", "#E69F00", "#CC79A7"), strict=True
    ):
        moved = b
        if variant:
            moved = network.permute(match_activations(network, a, b, x, *variant).permutations, b)
        signature = correlation_signature(network, a, moved, x)
        line(left, list(signature), list(signature.values()), colour, marker="o", ms=4)
        ends[label] = (list(signature.values())[-1], colour)
        if label in ("before", "L2, pre"):
            bound = alignment_bound(network, a, moved, (x, y), T)
            end, colour = {"before": ("B", BEFORE), "L2, pre": ("P·B", AFTER)}[label]
            loss = mcjax.evaluate(Linear(a, moved), model.apply, (x, y), T).loss
            line(right, T, bound.loss, colour, ls="--")
            line(right, T, loss, colour)
            names[f"bound to {end}"] = (float(bound.loss[12]), colour)
            names[f"loss to {end}"] = (float(loss[12]), colour)
    left.set(title="Corresponding units", ylabel="mean correlation")
    along_path(right, "B or P·B")
    right.set(title="Theorem 3.1 (dashed: bounds)", ylabel="cross-entropy", yscale="log")
    beside(right, names)
    end_labels(left, ends)
    save(figure, "alignment")


def trained_curves(model: Any, a: Any, b: Any, moved: Any) -> dict[str, Bezier]:
    figure, (left, right) = panels(2)
    curves, test, ends, names = {}, (data.x_test, data.y_test), {}, {}
    colours = colours_of(["unaligned", "aligned"])
    for label, end, last in (("unaligned", b, "B"), ("aligned", moved, "P·B")):
        colour = colours[label]
        fitted = train_curve(Bezier.between(a, end), model.apply, (x, y), PROTOCOL, key=KEY)
        curves[label] = fitted.path
        epochs = range(1, len(fitted.losses) + 1)
        line(left, epochs, fitted.losses, colour)
        ends[label] = (float(fitted.losses[-1]), colour)
        for path, style in ((Linear(a, end), ":"), (fitted.path, "-")):
            along = mcjax.evaluate(path, model.apply, test, T)
            name = f"{'curve' if style == '-' else 'segment'} to {last}"
            line(right, T, 100 * along.accuracy, colour, ls=style)
            names[name] = (float(along.accuracy[12]), colour)
    left.set(title="Training", xlabel="epoch", ylabel="training cross-entropy")
    along_path(right, "B or P·B")
    right.set(title="Along the curve (dotted: segments)", ylabel="test accuracy (%)")
    beside(right, names)
    end_labels(left, ends)
    save(figure, "trained-curves")
    return curves  # type: ignore[return-value]


def proximal(network: Any, model: Any, a: Any, b: Any, aligned: Any, curves: Any) -> None:
    figure, (left, right) = panels(2)
    steps = ("start", "P", "curve")
    colours = colours_of(["PAM unaligned", "PAM aligned", "unaligned", "aligned"])
    ends, names = {}, {}
    for label, start in (("unaligned", None), ("aligned", aligned)):
        colour = colours[f"PAM {label}"]
        slow = dataclasses.replace(PROTOCOL, epochs=8, learning_rate=PROTOCOL.learning_rate / 2)
        problem = Problem(network, a, b, x, y, KEY)
        found = Pam(PROTOCOL, permutation_protocol=slow).minimise(problem, start=start)
        line(left, steps, found.objective, colour, marker="o", ms=4)
        ends[f"from {label}"] = (float(found.objective[-1]), colour)
        line(right, T, along := accuracy(found.path, model, T), colour)
        names[f"PAM from {label}"] = (float(along[12]), colour)
    for label, curve in curves.items():
        line(right, T, along := accuracy(curve, model, T), colours[label], ls="--")
        names[f"curve, {label}"] = (float(along[12]), colours[label])
    left.set(title="PAM's objective after each step", ylabel="mean loss along the curve")
    along_path(right, "B or P·B")
    right.set(title="Along the curve", ylabel="training accuracy (%)")
    beside(right, names)
    end_labels(left, ends)
    save(figure, "pam")


def robust(model: Any) -> None:
    attack = PGD(0.1, 0.025)
    protocol = dataclasses.replace(PROTOCOL, attack=attack)

    def init(key: jax.Array) -> Any:
        return model.init(key, x[:1])

    a, b = train_networks(model.apply, init, (x, y), (0, 1), protocol)
    network = mcjax.trace(model.apply, a, x[:2])
    moved = network.permute(match_activations(network, a, b, x).permutations, b)
    figure, (left, right) = panels(2)
    test = (data.x_test, data.y_test)
    names, colours = {}, colours_of(["unaligned", "aligned"])
    for label, end, last in (("unaligned", b, "B"), ("aligned", moved, "P·B")):
        start = Bezier.between(a, end)
        path = train_curve(start, model.apply, (x, y), protocol, key=KEY).path
        for axis, against in ((left, None), (right, attack)):
            along = mcjax.evaluate(path, model.apply, test, T, attack=against)
            line(axis, T, 100 * along.accuracy, colours[label])
        names[f"{label}, to {last}"] = (float(along.accuracy[12]), colours[label])
    left.set(title="Clean", ylabel="test accuracy (%)")
    right.set(title="Attacked (PGD, ε = 0.1)", ylabel="test accuracy (%)")
    for axis in (left, right):
        along_path(axis, "B or P·B")
    beside(right, names)
    save(figure, "robust")


def plane(model: Any, a: Any, b: Any, moved: Any) -> None:
    through = Plane.through(a, b, moved)
    surface = evaluate_plane(through, model.apply, (data.x_test, data.y_test), 25)
    lines = {
        "to B": through.coordinates_along(Linear(a, b), 2),
        "to P·B": through.coordinates_along(Linear(a, moved), 2),
    }
    surface.plot(OUT / "plane.png", names=("A", "B", "P·B"), paths=lines)


def merging() -> None:
    model, network, nets = networks((64, 64, 64), 3)
    figure, (left, right) = panels(2)
    a, b = nets[:2]
    moved = network.permute(match_activations(network, a, b, x).permutations, b)
    names = {}
    for label, path, colour in (
        ("segment", Linear(a, b), BEFORE),
        ("aligned", Linear(a, moved), AFTER),
        ("aligned\n+ REPAIR", Repaired(Linear(a, moved), network, x), "#009E73"),
    ):
        loss = mcjax.evaluate(path, model.apply, (x, y), T).loss
        line(left, T, loss, colour)
        names[label] = (float(loss[12]), colour)
    along_path(left, "B or P·B")
    left.set(title="64-64-64-64-10 on digits", ylabel="training cross-entropy")
    beside(left, names)
    many = match_many(network, nets)
    line(right, range(len(many.objective)), many.objective, AFTER, marker="o", ms=4)
    right.set(title="Three networks at once", xlabel="step of Frank–Wolfe (last: rounded)",
              ylabel="Σ ⟨Pᵢθᵢ, Pⱼθⱼ⟩")  # fmt: skip
    save(figure, "merging")


if __name__ == "__main__":
    with house_style():
        model, network, (a, b) = networks((32, 32), 2)
        matching = match_activations(network, a, b, x)
        moved = network.permute(matching.permutations, b)
        alignment(network, model, a, b)
        curves = trained_curves(model, a, b, moved)
        proximal(network, model, a, b, matching.permutations, curves)
        robust(model)
        plane(model, a, b, moved)
        merging()
