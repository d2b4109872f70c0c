"""`python -m experiments.zhao2025.heads`: how far queries and keys are from an orbit (Prop. 5.5).

A head sees its queries Q and keys K only through Q Kᵀ, so GL(d) acts on the pair, (Q g⁻¹, g Kᵀ). In
trained heads: how far the middle between two points of one orbit is from it, and how far the heads
of one network are from the orbits of another's.

`--heads FILE.npz` takes heads of yours: arrays `query` and `key`, each (networks, heads, width, d),
biases, if there are any, as a last row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from mcjax import theory
from mcjax.symmetry import random_general_linear

from ..figures import BLUE, GREY, ORANGE, figure, finish, table
from .networks import data_of, train
from .study import Options, folder_of

Head = tuple[np.ndarray, np.ndarray]  # (Q, Kᵀ), (width, d) and (d, width)


@dataclasses.dataclass
class Heads(Options):
    """Trained heads and the orbits of their queries and keys."""

    heads: Path | None = None
    """Heads of yours, an .npz file (default: two small attention networks are trained)."""


def heads_of(options: Heads) -> tuple[str, list[list[Head]]]:
    """(where they are from, the heads of each network)."""
    if options.heads is not None:
        with np.load(options.heads) as file:
            query, key = file["query"], file["key"]
        if query.ndim != 4 or query.shape != key.shape:
            raise ValueError(
                "heads: query and key must be of one shape (networks, heads, width, d), got "
                f"{query.shape} and {key.shape}"
            )
        return options.heads.name, [_split(*pair) for pair in zip(query, key, strict=True)]
    data = data_of(options)
    net = train(options, "attention", data)
    found = []
    for params in net.params:
        attention = params["params"]["attention"]  # kernels are (width, heads, d)
        arrays = (np.moveaxis(np.asarray(attention[name]["kernel"], np.float64), 1, 0)
                  for name in ("query", "key"))  # fmt: skip
        found.append(_split(*arrays))
    return f"attention networks on {data.name}", found


def _split(query: np.ndarray, key: np.ndarray) -> list[Head]:
    return [(q, k.T) for q, k in zip(query, key, strict=True)]


def norm(head: Head) -> float:
    return math.hypot(*map(np.linalg.norm, head))


def middles(heads: list[Head], betas: tuple[float, ...], seed: int) -> list[dict[str, Any]]:
    """The middle of (Q/β, β Kᵀ) and (β Q, Kᵀ/β), and of random pairs, relative to the norm."""
    rows = []
    for number, head in enumerate(heads):
        (q, k), size = head, norm(head)
        for beta in betas:
            c = (beta + 1 / beta) / 2
            found = theory.distance_to_orbit((c * q, c * k), head)
            rows.append({
                "head": number, "beta": beta, "distance": found.distance / size,
                "status": found.status, "hyperbola": theory.distance_to_hyperbola(c) / 2**0.5,
            })  # fmt: skip
        g = np.asarray(random_general_linear(jax.random.key(seed + number), q.shape[1:]))
        middle = (q + q @ np.linalg.inv(g)) / 2, (k + g @ k) / 2
        found = theory.distance_to_orbit(middle, head)
        rows.append({"head": number, "beta": None, "distance": found.distance / size,
                     "status": found.status})  # fmt: skip
    return rows


def across(first: list[Head], second: list[Head]) -> list[dict[str, Any]]:
    """Every head of one network and every head of another, relative to the second's norm."""
    rows = []
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            found = theory.distance_to_orbit(b, a)
            stored = math.hypot(*(np.linalg.norm(x - y) for x, y in zip(a, b, strict=True)))
            rows.append({"heads": [i, j], "stored": stored / norm(b),
                         "orbit": found.distance / norm(b), "status": found.status})  # fmt: skip
    return rows


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Distances of middles from the orbit, and of heads of two networks."""
    own, pairs = record["own"], record["pairs"]
    with figure(file, 8.8) as drawn:
        left, right = drawn.subplots(1, 2)
        scaled = [r for r in own if r["beta"] is not None]
        fine = np.linspace(1, max(r["beta"] for r in scaled), 200)
        line = [theory.distance_to_hyperbola((b + 1 / b) / 2) / 2**0.5 for b in fine]
        left.plot(fine, line, color=GREY, lw=1.4, label="Q = K = 1 (Prop. 5.5)")
        left.plot([r["beta"] for r in scaled], [r["distance"] for r in scaled], "o", ms=4.5,
                  color=BLUE, alpha=0.7, label="trained heads")  # fmt: skip
        left.set(title="(a) The middle of an orbit's segment", xlabel="β",
                 ylabel="distance to the orbit / ‖(Q, K)‖")  # fmt: skip
        left.legend()
        stored, orbit = ([r[k] for r in pairs] for k in ("stored", "orbit"))
        right.plot(stored, orbit, "o", ms=5, color=ORANGE, label="pairs of heads")
        most = 1.05 * max(stored)
        right.plot([0, most], [0, most], color=GREY, lw=1.2, label="no gain")
        right.set(
            title="(b) Heads of two networks", xlabel="distance as stored / ‖(Q, K)‖",
            ylabel="distance to the orbit / ‖(Q, K)‖", xlim=(0, most), ylim=(0, most),
        )  # fmt: skip
        right.legend(loc="upper left")


def main(options: Heads) -> None:
    name = f"heads-{options.heads.stem}" if options.heads else "heads"
    folder = folder_of(options, name)
    source, networks = heads_of(options)
    betas = (1.5, 6.0) if options.smoke else (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    own = middles(networks[0], betas, options.seed)
    pairs = across(networks[0], networks[-1])
    width, d = networks[0][0][0].shape
    columns = ["between", "least", "mean", "largest", "stationary"]
    rows = []
    for beta in (*betas, None):
        mine = [r for r in own if r["beta"] == beta]
        rows.append([f"β = {beta:g}" if beta else "head and random g", *summary(mine, "distance")])
    tables = [
        table(
            f"{len(networks[0])} heads, {width} × {d}, of {source}: distance from the middle of a "
            "segment between two points of an orbit to the orbit, relative to ‖(Q, K)‖.",
            columns, rows,
        ),
        table(
            "Heads of two networks, relative to ‖(Q, K)‖.", columns,
            [[kind, *summary(pairs, key)]
             for kind, key in (("as stored", "stored"), ("to the orbit", "orbit"))],
        ),
    ]  # fmt: skip
    finish(options, folder, name, {"source": source, "own": own, "pairs": pairs}, tables, draw)


def summary(rows: list[dict[str, Any]], key: str) -> list[str]:
    values = [r[key] for r in rows]
    ended = sum(r["status"] == "stationary" for r in rows)
    return [f"{f(values):.4f}" for f in (np.min, np.mean, np.max)] + [f"{ended} of {len(rows)}"]


if __name__ == "__main__":
    main(tyro.cli(Heads, description=__doc__))
