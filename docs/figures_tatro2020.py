"""`python docs/figures_tatro2020.py`: figures of alignment, trained curves, PAM and merging."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import matplotlib
import numpy as np
from figures import (
    BLUE,
    GREEN,
    ORANGE,
    OUT,
    PINK,
    RED,
    STYLE,
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
    for (label, variant), colour in zip(
        variants.items(), ("black", BLUE, GREEN, ORANGE, PINK), strict=True
    ):
        moved = b
        if variant:
            moved = network.permute(match_activations(network, a, b, x, *variant).permutations, b)
        signature = correlation_signature(network, a, moved, x)
        left.plot(list(signature), list(signature.values()), "o-", color=colour, label=label)
        if label in ("before", "L2, pre"):
            bound = alignment_bound(network, a, moved, (x, y), T)
            line = {"before": "to B", "L2, pre": "to B aligned"}[label]
            loss = mcjax.evaluate(Linear(a, moved), model.apply, (x, y), T).loss
            right.semilogy(T, bound.loss, "--", color=colour, label=f"bound {line}")
            right.semilogy(T, loss, color=colour, label=f"loss {line}")
    left.set(title="corresponding units", ylabel="mean correlation")
    left.legend(fontsize=8)
    right.set(title="Theorem 3.1", xlabel="t", ylabel="cross-entropy")
    right.legend(fontsize=8)
    save(figure, "alignment")


def trained_curves(model: Any, a: Any, b: Any, moved: Any) -> dict[str, Bezier]:
    figure, (left, right) = panels(2)
    curves, test = {}, (data.x_test, data.y_test)
    for label, end, colour in (("unaligned", b, ORANGE), ("aligned", moved, BLUE)):
        fitted = train_curve(Bezier.between(a, end), model.apply, (x, y), PROTOCOL, key=KEY)
        curves[label] = fitted.path
        epochs = range(1, len(fitted.losses) + 1)
        left.plot(epochs, fitted.losses, color=colour, label=label)
        for path, style in ((Linear(a, end), ":"), (fitted.path, "-")):
            along = mcjax.evaluate(path, model.apply, test, T)
            name = f"{label}, {'curve' if style == '-' else 'segment'}"
            right.plot(T, 100 * along.accuracy, style, color=colour, label=name)
    left.set(title="training", xlabel="epoch", ylabel="loss")
    left.legend()
    right.set(title="along the curve", xlabel="t", ylabel="test accuracy (%)")
    right.legend()
    save(figure, "trained-curves")
    return curves  # type: ignore[return-value]


def proximal(network: Any, model: Any, a: Any, b: Any, aligned: Any, curves: Any) -> None:
    figure, (left, right) = panels(2)
    steps = ("start", "P", "curve")
    for label, start, colour in (("unaligned", None, RED), ("aligned", aligned, GREEN)):
        slow = dataclasses.replace(PROTOCOL, epochs=8, learning_rate=PROTOCOL.learning_rate / 2)
        problem = Problem(network, a, b, x, y, KEY)
        found = Pam(PROTOCOL, permutation_protocol=slow).minimise(problem, start=start)
        left.plot(steps, found.objective, "o-", color=colour, label=f"PAM from {label}")
        right.plot(T, accuracy(found.path, model, T), color=colour, label=f"PAM from {label}")
    for (label, curve), colour in zip(curves.items(), (ORANGE, BLUE), strict=True):
        right.plot(T, accuracy(curve, model, T), "--", color=colour, label=f"curve, {label}")
    left.set(title="objective after each step", ylabel="mean loss along the curve")
    left.legend()
    right.set(title="along the curve", xlabel="t", ylabel="training accuracy (%)")
    right.legend(fontsize=8)
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
    for label, end, colour in (("unaligned", b, ORANGE), ("aligned", moved, BLUE)):
        start = Bezier.between(a, end)
        path = train_curve(start, model.apply, (x, y), protocol, key=KEY).path
        for axis, against in ((left, None), (right, attack)):
            along = mcjax.evaluate(path, model.apply, test, T, attack=against)
            axis.plot(T, 100 * along.accuracy, color=colour, label=label)
    left.set(title="clean", xlabel="t", ylabel="test accuracy (%)")
    right.set(title="attacked (PGD, ε = 0.1)", xlabel="t", ylabel="test accuracy (%)")
    left.legend()
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
    for label, path, colour in (
        ("segment", Linear(a, b), ORANGE),
        ("aligned", Linear(a, moved), BLUE),
        ("aligned + REPAIR", Repaired(Linear(a, moved), network, x), GREEN),
    ):
        loss = mcjax.evaluate(path, model.apply, (x, y), T).loss
        left.plot(T, loss, color=colour, label=label)
    left.set(title="64-64-64-64-10 on digits", xlabel="t", ylabel="training loss")
    left.legend()
    many = match_many(network, nets)
    right.plot(many.objective, "o-", color=BLUE)
    right.set(title="three networks at once", xlabel="step of Frank–Wolfe (last: rounded)",
              ylabel="Σ ⟨Pᵢθᵢ, Pⱼθⱼ⟩")  # fmt: skip
    save(figure, "merging")


if __name__ == "__main__":
    with matplotlib.rc_context(STYLE):
        model, network, (a, b) = networks((32, 32), 2)
        matching = match_activations(network, a, b, x)
        moved = network.permute(matching.permutations, b)
        alignment(network, model, a, b)
        curves = trained_curves(model, a, b, moved)
        proximal(network, model, a, b, matching.permutations, curves)
        robust(model)
        plane(model, a, b, moved)
        merging()
