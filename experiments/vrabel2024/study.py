"""Pairs of inputs, and what is measured along chains between them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mcjax import inputs

from .endpoints import Endpoint, Options, Pairs

# The authors' attack in their statistics: 512 steps of Adam on the loss of another label.
ATTACK = inputs.Synthesis(
    1e-3, steps=512, learning_rate=5e-3, deviation=0.1, roughness=1e-8
)  # fmt: skip


def delta_of(options: Options) -> float:
    """δ: the paper's; on digits one that networks of a minute reach."""
    return 0.05 if options.small else 1e-3


def by_class(net: Endpoint, seed: int, delta: float | None = None) -> list[np.ndarray]:
    """Numbers of the test images of each class in random order; with δ, those of a loss ≤ δ."""
    y = net.data.y_test
    order = np.random.default_rng(seed).permutation(len(y))
    if delta is not None:
        order = order[net.losses(net.data.x_test, y)[order] <= delta]
    return [order[y[order] == k] for k in range(10)]


def same_class(net: Endpoint, numbers: list[np.ndarray], each: int) -> Pairs:
    """Disjoint pairs of one class, `each` of every class where there are so many."""
    counts = [min(each, len(n) // 2) for n in numbers]
    first, second = (
        np.concatenate([n[k : 2 * c : 2] for n, c in zip(numbers, counts, strict=True)])
        for k in (0, 1)
    )
    x, y = net.data.x_test, net.data.y_test
    return Pairs(x[first], x[second], y[first])


def other_class(net: Endpoint, numbers: list[np.ndarray], each: int, seed: int) -> Pairs:
    """A of each class and a C of a random other one; labels (y_a, y_c)."""
    rng = np.random.default_rng(seed + 1)
    first = np.concatenate([n[:each] for n in numbers])
    x, y = net.data.x_test, net.data.y_test
    pool = np.concatenate(numbers)
    second = np.array([rng.choice(pool[y[pool] != k]) for k in y[first]])
    return Pairs(x[first], x[second], (y[first], y[second]))


def attacked(
    net: Endpoint, pairs: Pairs, how: inputs.Synthesis, below: Any = None
) -> tuple[Pairs, np.ndarray]:
    """Pairs (A, K′) of different classes' (A, K), K moved until it has A's label; their numbers.

    Attacks that did not reach their loss are left out.
    """
    y = pairs.y[0]
    made = net.synthesise(pairs.c, y, how, below)
    reached = np.flatnonzero(made.status == "below delta")
    return Pairs(pairs.a[reached], made.x[reached], y[reached]), reached


def modes(
    net: Endpoint, shape: tuple[int, ...], each: int, how: inputs.Synthesis, seed: int
) -> Pairs:
    """Pairs of synthetic inputs of each class, from noise of deviation 0.01 (App. B.5).

    The differences of neighbouring pixels of one of the two are penalised, so that they differ.
    Pairs of which one did not get below its δ are left out.
    """
    y = np.repeat(np.arange(10), each)
    start = np.random.default_rng(seed).normal(0, 0.01, (2, len(y), *shape)).astype(np.float32)
    smooth = dataclasses.replace(how, roughness=2.5e-7)
    a, c = (net.synthesise(x, y, h) for x, h in zip(start, (how, smooth), strict=True))
    reached = (a.status == "below delta") & (c.status == "below delta")
    return Pairs(a.x[reached], c.x[reached], y[reached])


def along(net: Endpoint, points: np.ndarray, y: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(t, losses) on the chain through (k, …) points, `count` on each segment."""
    number = len(points) - 1
    found = net.interpolate(Pairs(points[:-1], points[1:], np.full(number, y)), count)
    t = (np.arange(number)[:, None] + found.t) / number
    return t.ravel(), found.loss.ravel()


@dataclasses.dataclass(frozen=True)
class Chains:
    """Paths between the same two inputs by name, and the losses along them.

    - `points`: name → (k, …); `status`: name → a word of the bypass, "" of a straight line
    - `curves`: name → (t, losses)
    """

    points: dict[str, np.ndarray]
    status: dict[str, str]
    curves: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, net: Endpoint, options: Options, pair: Pairs, direct: str,
           depths: dict[int, str], count: int) -> Chains:  # fmt: skip
        """The straight line, called `direct`, and chains after so many rounds.

        - `count`: points at which the loss is looked at, on the whole path (20 on a segment)
        """
        points, status = {direct: np.stack([pair.a[0], pair.c[0]])}, {direct: ""}
        for depth, what in depths.items():
            how = how_of(options, depth=depth, inserted=31)
            made = net.bypass(pair, how)
            points[what], status[what] = made.points[0], str(made.status[0])
        label = int(pair.y[0])
        curves = {
            k: along(net, v, label, max(count // (len(v) - 1), 20)) for k, v in points.items()
        }
        return cls(points, status, curves)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            k: curve_record(*curve) | {"status": self.status[k]} for k, curve in self.curves.items()
        }


def curve_record(t: np.ndarray, loss: np.ndarray) -> dict[str, Any]:
    """A loss along a path for JSON, in the digits that float32 has."""
    return {k: [float(f"{v:.6g}") for v in values] for k, values in (("t", t), ("loss", loss))}


def example(net: Endpoint, options: Options) -> Pairs:
    """The pair of low-loss images of one class with the highest barrier of a hundred or so."""
    numbers = by_class(net, options.seed, delta_of(options) / 2)
    pairs = same_class(net, numbers, 2 if options.smoke else 12)
    return pairs.at(np.array([highest(net, pairs)]))


def highest(net: Endpoint, pairs: Pairs) -> int:
    """The pair with the highest barrier above its ends."""
    return int(net.interpolate(pairs, 50).gap.argmax())


def how_of(options: Options, **changes: Any) -> inputs.Bypass:
    """The paper's options of the bypass at its δ; in a small run fewer and longer steps."""
    how = inputs.Bypass(delta_of(options), points=250)
    if options.small:
        steps = 32 if options.smoke else 64
        how = dataclasses.replace(how, points=48, steps=steps, block=16, learning_rate=0.02)
    return dataclasses.replace(how, **changes)


def attack_of(options: Options, delta: float, **changes: Any) -> inputs.Synthesis:
    """The paper's attack to a loss; in a small run longer steps, in a smoke run few of them."""
    attack = dataclasses.replace(ATTACK, delta=delta, **changes)
    if options.small:
        steps = 96 if options.smoke else min(attack.steps, 512)
        attack = dataclasses.replace(attack, steps=steps, learning_rate=0.02)
    return attack
