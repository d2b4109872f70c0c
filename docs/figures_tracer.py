"""`python docs/figures_tracer.py`: how the tracer sees a model, from real traces, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import mcjax

OUT = Path(__file__).parent / "figures"
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"]
GREY, DARK = "#d9d9d9", "0.25"
UNIT = 0.16  # the width of one unit

Shapes = Mapping[str, tuple[int, ...]]
STREAM: Shapes = {"embed": (5, 8), "up": (8, 12), "down": (12, 8), "out": (8, 3)}


def with_skip(p: Any, x: Any) -> Any:
    h = x @ p["embed"]
    return (h + jax.nn.relu(h @ p["up"]) @ p["down"]) @ p["out"]


def without_skip(p: Any, x: Any) -> Any:
    h = x @ p["embed"]
    return jax.nn.relu(h @ p["up"]) @ p["down"] @ p["out"]


def attention(p: Any, x: Any) -> Any:
    """Queries, keys and values of two heads in one weight, as in many checkpoints."""
    q, k, v = jnp.moveaxis((x @ p["qkv"]).reshape(*x.shape[:2], 3, 2, 4), 2, 0)
    weights = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k), -1)
    mixed = jnp.einsum("bhts,bshe->bthe", weights, v)
    return mixed.reshape(*x.shape[:2], 8) @ p["out"]


def branches(p: Any, x: Any) -> Any:
    """Two branches, concatenated."""
    left, right = jnp.tanh(x @ p["left"]), jax.nn.relu(x @ p["right"])
    return jnp.concatenate([left, right], -1) @ p["out"]


def flattened(p: Any, x: Any) -> Any:
    """A convolution's positions and channels, flattened for a dense layer."""
    h = jax.lax.conv_general_dilated(
        x, p["conv"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(h).reshape(x.shape[0], -1) @ p["out"]


def traced(function: Callable, shapes: Shapes, *x: int) -> mcjax.Network:
    params = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    return mcjax.trace(function, params, jax.ShapeDtypeStruct(x, jnp.float32))


class Painter:
    """Axes as bars: a colour for each group, grey for what is fixed."""

    def __init__(self, axis: Any, network: mcjax.Network) -> None:
        self.axis = axis
        self.names = {group.atom: name for name, group in network.groups.items()}
        self.colours = dict(zip(network.groups, COLOURS, strict=False))

    def bars(self, x: float, y: float, axes: Any, batched: bool = False) -> float:
        """Every axis of an array, side by side; where they end."""
        for number, expr in enumerate(axes):
            if batched and not number:
                x = self.box(x, y, 0.5, GREY, "n", DARK) + 0.12
                continue
            for factor in expr:
                x = self.factor(x, y, factor)
            x += 0.12
        return x

    def factor(self, x: float, y: float, factor: Any) -> float:
        if hasattr(factor, "parts"):  # a concatenation: its parts one after the other
            for part in factor.parts:
                for inner in part:
                    x = self.factor(x, y, inner)
            return x
        if hasattr(factor, "members"):  # a family: other units for each index of a fixed axis
            share = max(0.5, UNIT * factor.size)
            height = 0.7 / len(factor.members)
            for number, member in enumerate(factor.members):
                name = self.names.get(member[0])
                colour = GREY if name is None else self.colours[name]
                at = y - 0.35 + (number + 0.5) * height  # the first on top
                self.box(x, at, share, colour, "", DARK, height)
            return x + share
        name = self.names.get(factor)
        colour = GREY if name is None else self.colours[name]
        text = str(factor.size)
        return self.box(
            x, y, max(0.5, UNIT * factor.size), colour, text, DARK if name is None else "w"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        colour: str,
        text: str,
        ink: str,
        height: float = 0.7,
    ) -> float:
        style = "round,pad=0,rounding_size=0.06"
        self.axis.add_patch(
            FancyBboxPatch((x, y - height / 2), width, height, style, fc=colour, ec="w", lw=1)
        )
        self.axis.text(x + width / 2, y, text, ha="center", va="center", color=ink, fontsize=9)
        return x + width


def program(axis: Any, network: mcjax.Network, title: str) -> None:
    """A row for each parameter and each operation, in the order of the program."""
    found = network.analysis
    leaves = list(network.leaf_names)
    named = dict(zip(found.program.inputs, [*leaves, "x"], strict=True))
    rows: list[tuple[str, Any, bool]] = [
        (name, axes, False) for name, axes in zip(leaves, network.leaf_axes, strict=True)
    ]
    for equation in found.program.equations:
        (out,) = equation.outputs
        named[out] = f"h{sum(v.startswith('h') for v in named.values()) + 1}"
        used = " ".join(named[v] for v in equation.inputs if isinstance(v, int))
        rows.append((f"{named[out]} = {equation.name} {used}", found.axes[out], True))
    painter = Painter(axis, network)
    for y, (text, axes, batched) in enumerate(rows):
        y = y + (0.5 if batched else 0)  # the operations stand apart from the parameters
        axis.text(-0.15, y, text, ha="right", va="center", fontsize=9, family="monospace")
        painter.bars(0, y, axes, batched)
    groups = ", ".join(f"{n} ({g.size})" for n, g in network.groups.items())
    axis.set_title(f"{title}\ngroups: {groups}", fontsize=10)
    axis.set(xlim=(-3.9, 3.4), ylim=(len(rows) + 0.2, -0.7))
    axis.axis("off")


def axes_figure() -> Figure:
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    program(left, traced(without_skip, STREAM, 2, 5), "a chain of layers")
    program(right, traced(with_skip, STREAM, 2, 5), "with a skip connection")
    return figure


def composites_figure() -> Figure:
    cases = [
        ("q, k, v of 2 heads in one weight", attention,
         {"qkv": (6, 24), "out": (8, 6)}, (2, 5, 6)),
        ("two branches, concatenated", branches,
         {"left": (5, 8), "right": (5, 6), "out": (14, 3)}, (2, 5)),
        ("3 × 3 × 6 of a convolution, flattened", flattened,
         {"conv": (2, 2, 1, 6), "out": (54, 3)}, (2, 4, 4, 1)),
    ]  # fmt: skip
    figure = Figure(figsize=(8.8, 2.9), layout="constrained")
    for axis, (title, function, shapes, x) in zip(figure.subplots(1, 3), cases, strict=True):
        network = traced(function, shapes, *x)
        painter = Painter(axis, network)
        for y, (name, axes) in enumerate(zip(network.leaf_names, network.leaf_axes, strict=True)):
            axis.text(-0.15, y, name, ha="right", va="center", fontsize=9, family="monospace")
            painter.bars(0, y, axes)
        for k, (name, group) in enumerate(network.groups.items()):
            y = len(shapes) + 0.4 + 0.7 * k
            painter.box(0, y, 0.35, painter.colours[name], "", DARK, 0.35)
            outer = f" inside each of {group.shape[0]}" if len(group.shape) > 1 else ""
            text = f"{name}: {group.size} units{outer}"
            axis.text(0.5, y, text, va="center", fontsize=8.5, color=DARK)
        axis.set_title(title, fontsize=10)
        axis.set(xlim=(-0.9, 3.9), ylim=(5.2, -0.7))
        axis.axis("off")
    return figure


def verification_figure() -> Figure:
    """How far outputs move, by a group's permutation and by ones that leave something out."""
    network = traced(with_skip, STREAM, 2, 5)
    rng = np.random.default_rng(0)
    whole, parts = (
        [],
        {"without its readers": ("up", "out"), "without the skip's writer": ("down",)},
    )
    others: dict[str, list[float]] = {name: [] for name in parts}
    for draw in range(20):
        p = {n: rng.normal(size=s) for n, s in STREAM.items()}
        x = rng.normal(size=(16, 5))
        order = {"embed": np.asarray(network.random_permutations(jax.random.key(draw))["embed"])}
        moved = {n: np.asarray(v) for n, v in moved_in_float64(network, order, p).items()}
        before = plainly(p, x)
        whole.append(max(change(moved, x, before), 1e-17))
        for name, left in parts.items():
            some = {n: p[n] if n in left else v for n, v in moved.items()}
            others[name].append(change(some, x, before))
    figure = Figure(figsize=(7, 2.3), layout="constrained")
    axis = figure.subplots()
    rows = {"the group, as found": whole, **others}
    for y, (_, values) in enumerate(rows.items()):
        axis.scatter(
            values, np.full(len(values), y), s=22, color=COLOURS[2 if not y else 4], alpha=0.6
        )
    axis.axvline(1e-7, color=DARK, lw=1, ls="--")
    axis.text(1.4e-7, 2.42, "refused from here on", fontsize=8.5, color=DARK, va="bottom")
    axis.set(xscale="log", xlim=(1e-17, 10), ylim=(2.9, -0.5), yticks=range(len(rows)),
             xlabel="largest change of an output, of the largest output")  # fmt: skip
    axis.set_yticklabels(rows)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def change(p: Any, x: Any, before: Any) -> float:
    return float(np.abs(plainly(p, x) - before).max() / np.abs(before).max())


def plainly(p: Any, x: Any) -> Any:
    """`with_skip` in NumPy, in float64."""
    h = x @ p["embed"]
    return (h + np.maximum(h @ p["up"], 0) @ p["down"]) @ p["out"]


def moved_in_float64(network: mcjax.Network, order: Any, p: Any) -> Any:
    """`network.permute` moves bits: of numbers of each leaf's entries, then of the entries."""
    numbers = {n: np.arange(v.size, dtype=np.float32).reshape(v.shape) for n, v in p.items()}
    moved = network.permute(order, numbers)
    return {n: p[n].reshape(-1)[np.asarray(v).astype(int)] for n, v in moved.items()}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for name, figure in {
        "tracer-axes": axes_figure(),
        "tracer-composites": composites_figure(),
        "tracer-verification": verification_figure(),
    }.items():
        figure.savefig(OUT / f"{name}.png", dpi=140)


if __name__ == "__main__":
    main()
