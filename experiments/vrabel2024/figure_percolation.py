"""`python -m experiments.vrabel2024.figure_percolation`: clusters of random lattices.

How large the largest cluster of occupied sites is on hypercubic lattices of 2 to 20 dimensions,
beside the fixed point P = 1 − exp(−qP) (vrabel2024, App. C and D), with q as printed and as the
lattice has it; the share outside beside Eq. 23 as printed and corrected; and Lemma D.1 on a trained
network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.ndimage import label
from tqdm import tqdm

from mcjax.figures import line
from mcjax.theory import (
    cell_side,
    infinite_cluster,
    lipschitz_bound,
    outside_infinite_cluster,
    percolate,
)

from ..figures import (
    AFTER,
    BEFORE,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    figure,
    finish,
    table,
)
from .endpoints import Endpoint, Trained, endpoint, folder_of

# Dimension → side, of a million sites or so each.
LATTICES = {2: 1000, 3: 100, 4: 32, 6: 10, 10: 4, 20: 2}
COLOURS = (SKY, BLUE, GREEN, ORANGE, PINK, RED)
DEGREES = (0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
CRITICAL = 0.592746  # of sites in two dimensions
NEAR = 0.1  # by how much outputs may differ in a cell


def lattice(dimension: int, side: int, degree: float, seeds: range) -> dict[str, Any]:
    """Shares of the largest cluster where a site has `degree` occupied neighbours on average."""
    p = degree / (2 * dimension * (1 - 1 / side))
    found = [percolate(dimension, side, p, seed=s) for s in seeds]
    return {
        "dimension": dimension, "side": side, "p": p, "degree": degree, "printed": p * dimension,
        "largest": [f.largest for f in found], "joined": [f.joined for f in found],
    }  # fmt: skip


def growing(p: float, dimensions: range, seeds: range) -> list[dict[str, Any]]:
    """The same at one p on lattices of side 2, as the dimension grows."""
    return [lattice(d, 2, p * d, seeds) for d in tqdm(dimensions, "dimensions", leave=False)]


def picture(axes: Any, side: int, seed: int) -> None:
    """Clusters in two dimensions at the critical probability (Fig. 8)."""
    occupied = np.random.default_rng(seed).random((side, side)) < CRITICAL
    clusters, count = label(occupied)
    largest = np.bincount(clusters.ravel())[1:].argmax() + 1
    shades = np.random.default_rng(0).uniform(0.55, 0.9, count + 1)
    image = np.repeat(shades[clusters][..., None], 3, -1)
    image[~occupied] = 1.0
    image[clusters == largest] = [0.0, 0.45, 0.7]
    axes.imshow(image, interpolation="nearest")
    axes.set(title=f"(a) two dimensions, p = {CRITICAL:.3f}", xticks=[], yticks=[])
    axes.grid(visible=False)


def shares(axes: Any, rows: list[dict[str, Any]], x: str) -> None:
    """Shares of the largest cluster over q as `x` has it, and the fixed point."""
    q = np.linspace(0, 6, 301)
    axes.plot(q, infinite_cluster(q), color="black", lw=1.2, label="P = 1 − exp(−qP)")
    dimensions = dict.fromkeys(r["dimension"] for r in rows)
    for dimension, colour in zip(dimensions, COLOURS, strict=False):
        mine = [r for r in rows if r["dimension"] == dimension]
        line(axes, [r[x] for r in mine], [np.mean(r["largest"]) for r in mine], colour, lw=1.2,
             marker="o", ms=4, label=f"{dimension} dimensions")  # fmt: skip
    axes.set(ylabel="share in the largest cluster", xlim=(0, 6.1))


def outside(axes: Any, rows: list[dict[str, Any]], q: np.ndarray) -> None:
    """The share of sites outside the infinite cluster over q."""
    axes.plot(q, 1 - infinite_cluster(q), color="black", lw=1.2, label="1 − P, fixed point")
    axes.plot(q, outside_infinite_cluster(q), "--", color=AFTER, label="Eq. 23, corrected")
    axes.plot(q, printed(q), ":", color=BEFORE, label="Eq. 24 as printed")
    mine = [r for r in rows if r["dimension"] == max(r["dimension"] for r in rows)]
    mine = [r for r in mine if r["degree"] > 1]
    axes.plot([r["degree"] for r in mine], [1 - np.mean(r["largest"]) for r in mine], "o",
              ms=4.5, color=GREY, label=f"{mine[0]['dimension']} dimensions")  # fmt: skip
    axes.set(title="(d) share outside", xlabel="q", ylim=(1e-6, 1), yscale="log")
    axes.legend(loc="lower left")


def printed(q: Any) -> Any:
    """Eq. 24 as it stands in the paper."""
    return np.exp(-q) / (1 + q * np.exp(q))


def draw(record: Mapping[str, Any], file: Path) -> None:
    """A lattice, shares of the largest cluster, what is outside, and growing dimensions."""
    rows, grown = record["lattices"], record["growing"]
    side = 24 if max(r["side"] for r in rows) < 100 else 200
    with figure(file, 15.5, 8.0) as drawn:
        panels = drawn.subplots(2, 3).ravel()
        picture(panels[0], side, record["seed"])
        shares(panels[1], rows, "degree")
        panels[1].set(title="(b) q: occupied neighbours of a site", xlabel="q = 2 p d (1 − 1/side)")
        shares(panels[2], rows, "printed")
        panels[2].set(title="(c) q as printed (Eq. 21)", xlabel="q = p d")
        outside(panels[3], rows, np.linspace(1.2, 6, 200))
        dimensions = [r["dimension"] for r in grown]
        line(panels[4], dimensions, [1 - np.mean(r["joined"]) for r in grown], AFTER, lw=1.2,
             marker="o", ms=4, label="two occupied sites are not joined")  # fmt: skip
        d = np.arange(5.5, max(dimensions) + 0.5, 0.25)
        panels[4].plot(d, 1 - infinite_cluster(grown[0]["p"] * d) ** 2, color="black", lw=1.2,
                       label="1 − P², fixed point")  # fmt: skip
        panels[4].set(title="(e) p = 0.2, side 2, as the dimension grows", xlabel="dimension",
                      ylabel="share of pairs", yscale="log")  # fmt: skip
        panels[4].legend(loc="lower left")
        panels[5].axis("off")  # the names of (b) and (c)
        panels[5].legend(*panels[1].get_legend_handles_labels(), loc="upper left",
                         title="(b) and (c)", alignment="left")  # fmt: skip


def before_limit(p: float, neighbours: float) -> float:
    """P of 1 − P = (1 − pP)^n, Eq. 21 before (1 − pP)^n ≈ exp(−npP)."""
    share = 1.0
    for _ in range(10_000):
        share = 1 - (1 - p * share) ** neighbours
    return share


def matrices_of(net: Endpoint) -> list[np.ndarray]:
    """The network's linear maps, (in, out): convolutions on images of its size, the dense layer."""
    params, found = net.params["params"], []
    shape = net.data.x_test.shape[1:]
    for k in range(len(net.model.channels)):
        kernel = jnp.asarray(params[f"Conv_{k}"]["kernel"])
        every = jnp.eye(int(np.prod(shape))).reshape(-1, *shape)
        out = jax.lax.conv_general_dilated(
            every, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        found.append(np.asarray(out).reshape(len(every), -1))
        pooled = jax.eval_shape(lambda x: nn.max_pool(x, (3, 3), (2, 2)), out[:1])
        shape = pooled.shape[1:]
    return [*found, np.asarray(params["Dense_0"]["kernel"])]


def cells(net: Endpoint, images: int) -> dict[str, Any]:
    """Lemma D.1 on a trained network whose outputs are probabilities; gradients that are seen.

    An entry stands in four windows of the overlapping pooling at most, a factor of √4.
    """

    def jacobian(params: Any, x: Any) -> Any:
        of = jax.jacrev(lambda v: jax.nn.softmax(net.apply(params, v[None])[0]))(x)
        return jnp.linalg.norm(of.reshape(len(of), -1), 2)

    x = jnp.asarray(net.data.x_test[:images])
    slopes = np.asarray(jax.jit(jax.vmap(jacobian, (None, 0)))(net.params, x))
    bound, dimension = lipschitz_bound(matrices_of(net), 2.0, 0.5), int(x[0].size)
    return {
        "data": net.name, "accuracy": net.accuracy, "dimension": dimension, "bound": bound,
        "images": len(x), "median slope": float(np.median(slopes)), "steepest": float(slopes.max()),
        "cell": cell_side(bound, dimension, NEAR),
        "cell at the steepest": cell_side(float(slopes.max()), dimension, NEAR),
    }  # fmt: skip


def cells_table(found: dict[str, Any]) -> str:
    """Lemma D.1 beside what is seen."""
    return table(
        f"Lemma D.1 on the CNN of {found['data']} ({found['accuracy']:.1f} %), its outputs "
        f"probabilities: M bounds the slope everywhere; seen: ‖∂f/∂x‖₂ at {found['images']} test "
        f"images. A cell is a cube in which outputs differ by {NEAR} at most, in pixels of [0, 1].",
        ("dimension", "M", "largest slope seen", "median", "side of a cell by M",
         "by the largest slope"),
        [[found["dimension"], f"{found['bound']:.4g}", f"{found['steepest']:.3g}",
          f"{found['median slope']:.2g}", f"{found['cell']:.2g}",
          f"{found['cell at the steepest']:.2g}"]],
    )  # fmt: skip


def tables_of(rows: list[dict[str, Any]]) -> list[str]:
    """P of the simulation and of the fixed points; Q of Eq. 23 and 24."""
    close = [
        [r["dimension"], r["side"], f"{r['p']:.4f}", f"{r['printed']:.2f}", f"{r['degree']:g}",
         f"{np.mean(r['largest']):.4f} ± {np.std(r['largest']):.4f}",
         f"{infinite_cluster(r['printed']):.4f}", f"{infinite_cluster(r['degree']):.4f}",
         f"{before_limit(r['p'], r['degree'] / r['p']):.4f}"]
        for r in rows if r["degree"] in (2.0, 3.0)
    ]  # fmt: skip
    outside = [
        [f"{q:g}", f"{1 - infinite_cluster(q):.4f}", f"{outside_infinite_cluster(q):.4f}",
         f"{printed(q):.4f}"] for q in (2.0, 3.0, 4.0, 6.0)
    ]  # fmt: skip
    return [
        table("Share P of the occupied sites in the largest cluster, and the fixed points of "
              "P = 1 − exp(−qP) and of 1 − P = (1 − pP)^n, n neighbours.",
              ("dimension", "side", "p", "q = p d", "q of the lattice", "P, simulated",
               "P at q = p d", "P at the lattice's q", "P, (1 − pP)^n"), close),
        table("Share Q outside the infinite cluster.",
              ("q", "1 − P", "e^−q / (1 − q e^−q)", "as printed, e^−q / (1 + q e^q)"), outside),
    ]  # fmt: skip


def main(options: Trained) -> None:
    folder = folder_of(options, "figure_percolation")
    seeds = range(options.seed, options.seed + (1 if options.smoke else 2 if options.quick else 3))
    lattices = {2: 24, 6: 3, 10: 2} if options.smoke else LATTICES
    if options.quick:
        lattices = {2: 200, 3: 32, 4: 14, 6: 6, 10: 3, 16: 2}
    degrees = (0.5, 2.0, 4.0) if options.smoke else DEGREES
    work = [(d, s, q) for d, s in lattices.items() for q in degrees
            if q <= 2 * d * (1 - 1 / s)]  # fmt: skip
    rows = [lattice(d, s, q, seeds) for d, s, q in tqdm(work, "lattices", leave=False)]
    grown = growing(0.2, range(5, max(lattices) + 1), seeds)
    lipschitz = cells(endpoint(options), 20 if options.smoke else 200)
    tables = [*tables_of(rows), cells_table(lipschitz)]
    record = {"lattices": rows, "growing": grown, "cells": lipschitz}
    finish(options, folder, "figure_percolation", record, tables, draw)


if __name__ == "__main__":
    main(tyro.cli(Trained, description=__doc__))
