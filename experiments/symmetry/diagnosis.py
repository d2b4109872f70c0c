"""`python -m experiments.symmetry.diagnosis`: what is left between two GPTs, and where.

For each way to the whole group: the barrier on held-out and on training text, the barrier when one
part of the network alone is half-way, and how far A and gB compute the same at each normalisation,
beside the most that one rotation of the stream, and one at each place, can make of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import tyro

import mcjax
from mcjax.path import Linear
from mcjax.study import machine

from ..common import done, write
from .gpt import GPTOptions, study_of
from .rows import ROWS
from .study import Study

# Examples that streams are compared on.
_SAMPLE = 200


@dataclasses.dataclass
class Diagnosis(GPTOptions):
    """Where the barrier between two small GPTs is, for each way to the whole group."""

    rows: tuple[str, ...] = ("full", "learned-full", "activations-full", "learned-activations-full")
    """Ways from one network to the other (names of the table's rows)."""


def streams(model: nn.Module, params: Any, x: Any) -> dict[str, np.ndarray]:
    """What each LayerNorm gives: place → (tokens, width), in float64."""

    def run(params: Any, x: Any) -> Any:
        kept = lambda module, _: isinstance(module, nn.LayerNorm)  # noqa: E731
        return model.apply(params, x, capture_intermediates=kept)[1]["intermediates"]

    found = jax.tree_util.tree_leaves_with_path(jax.jit(run)(params, x))
    return {
        "/".join(k.key for k in path if getattr(k, "key", "__call__") != "__call__"): np.asarray(
            z, float
        ).reshape(-1, z.shape[-1])
        for path, z in found
    }


def cosine(za: np.ndarray, zb: np.ndarray) -> float:
    """Σ ⟨z_A, z_B⟩ over the norms, all tokens together."""
    return float((za * zb).sum() / np.sqrt((za**2).sum() * (zb**2).sum()))


def products(za: np.ndarray, zb: np.ndarray) -> np.ndarray:
    return za.T @ zb / np.sqrt((za**2).sum() * (zb**2).sum())


def most(za: Mapping[str, np.ndarray], zb: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Cosines under the best rotation of all places together, and of each place by itself."""
    together = {p: products(za[p], zb[p]) for p in za}
    u, _, v = np.linalg.svd(sum(together.values()))
    return {
        "one rotation": {p: float((c * (u @ v)).sum()) for p, c in together.items()},
        "one for each place": {
            p: float(np.linalg.svd(c, compute_uv=False).sum()) for p, c in together.items()
        },
    }


def part_of(leaf: str) -> str:
    """The part of the network that a leaf is of."""
    _, module, *below = leaf.split("/")
    if not module.startswith("Block"):
        return "embedding" if module in ("Embed_0", "positions") else "output"
    attention = below[0] in ("LayerNorm_0", "MultiHeadDotProductAttention_0")
    return f"{module} {'attention' if attention else 'MLP'}"


def halfway(a: Any, b: Any) -> dict[str, Any]:
    """Part → A's parameters with that part alone half-way to B's."""
    leaves = jax.tree_util.tree_leaves_with_path(a)
    parts = [part_of(jax.tree_util.keystr(k, simple=True, separator="/")) for k, _ in leaves]
    middle = jax.tree.map(lambda u, v: (u + v) / 2, a, b)

    def of(part: str) -> Any:
        chosen = jax.tree.unflatten(jax.tree.structure(a), [p == part for p in parts])
        return jax.tree.map(lambda take, u, m: m if take else u, chosen, a, middle)

    return {part: of(part) for part in dict.fromkeys(parts)}


def measure(study: Study, a: Any, b: Any) -> dict[str, Any]:
    """Barriers and cosines between A and gB."""
    p = study.problem
    few = tuple(v[: len(study.test[0])] for v in p.train)

    def loss(path: Any, data: Any, points: Any) -> np.ndarray:
        return mcjax.evaluate(path, p.model.apply, data, points, task=p.task).loss

    def barrier(data: Any) -> float:
        first, middle, last = loss(Linear(a, b), data, 3)
        return float(middle - (first + last) / 2)

    alone = {
        part: float(np.diff(loss(Linear(a, m), study.test, 2))[0])
        for part, m in halfway(a, b).items()
    }
    x = study.test[0][:_SAMPLE]
    za, zb = (streams(p.model, v, x) for v in (a, b))
    return {
        "at ½, held out": barrier(study.test),
        "at ½, training text": barrier(few),
        "one part alone at ½": alone,
        "cosines": {place: cosine(za[place], zb[place]) for place in za},
        "most": most(za, zb),
    }


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a column a way, and the bounds that all of them share."""
    names = {row.name: row.label for row in ROWS}
    found = list(records.values())
    bounds = found[0]["most"]
    columns = [*(names[n] for n in records), *(f"most: {b}" for b in bounds)]
    lines = [
        f"| | {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(found) + len(bounds))}",
    ]

    def line(name: str, values: Sequence[float], more: Sequence[str] = ("", "")) -> None:
        lines.append(f"| {name} | {' | '.join([*(f'{v:.3f}' for v in values), *more])} |")

    for key in ("at ½, held out", "at ½, training text"):
        line(f"loss above mean of ends {key}", [r[key] for r in found])
    for part in found[0]["one part alone at ½"]:
        line(f"{part} alone at ½", [r["one part alone at ½"][part] for r in found])
    for place in found[0]["cosines"]:
        more = [f"{b[place]:.3f}" for b in bounds.values()]
        line(f"cosine at {place}", [r["cosines"][place] for r in found], more)
    return "\n".join(lines) + "\n"


def main(options: Diagnosis) -> None:
    study = study_of(options)
    pair = study.pair.absorbed
    find = {row.name: row.find for row in ROWS if row.absorbed}
    records = {}
    for name in options.rows:
        path, _ = find[name](pair)
        records[name] = measure(study, path(0.0), path(1.0))
    stem = study.out / f"{study.problem.name}-diagnosis"
    files = stem.with_suffix(".json"), stem.with_suffix(".md")
    write(files[0], {"machine": machine(), "seeds": options.seeds, "results": records})
    write(files[1], table(records))
    print(table(records))
    done(*files)


if __name__ == "__main__":
    main(tyro.cli(Diagnosis))
