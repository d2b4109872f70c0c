"""One model of the table.

What is asked of every model: it is traced; its groups are those expected; a random permutation of
all groups keeps its function; weight matching finds the permutation again; a curve is evaluated.
"""

from __future__ import annotations

import fnmatch
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mcjax
from mcjax.network.axes import atoms

from ..common import peak_memory
from .row import Model, Row

POINTS = 5
# Why whole leaves may stay without a word in their row.
EXPECTED = {"an output of the model", "a parameter that the function does not use"}
ROUNDING = 1e-3  # of the largest output, in float32 and through a hundred layers


def randomised(params: Any, seed: int = 0) -> Any:
    """Parameters away from where they start (zeros, ones): every leaf is seen in the outputs.

    Signs stay, as variances must: v (1 + n / 10) + |n| / 50 for v ≥ 0 and Gaussian n.
    """
    rng = np.random.default_rng(seed)

    def moved(leaf: Any) -> Any:
        if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            return leaf
        value = np.asarray(leaf, np.float32)
        noise = rng.normal(size=value.shape).astype(np.float32).clip(-5, 5)
        value = value * (1 + 0.1 * noise) + np.where(value == 0, 0.02 * noise, 0)
        return jnp.asarray(value, leaf.dtype)

    return jax.tree.map(moved, params)


def measure(row: Row) -> dict[str, Any]:
    """What came of a model: figures, and `failures`, in words, that are empty if all holds."""
    seconds: dict[str, float] = {}
    with timed(seconds, "build"):
        apply_fn, params, x = row.build()
        params = randomised(params)
    start = peak_memory()
    with timed(seconds, "trace"):
        network = mcjax.trace(apply_fn, params, x)
    shapes = Counter(g.shape for g in network.groups.values())
    record: dict[str, Any] = {
        "parameters": sum(int(np.prod(t.shape)) for t in network.leaf_types),
        "groups": {"×".join(map(str, s)): n for s, n in sorted(shapes.items())},
        "group count": len(network.groups),
        "units": sum(int(np.prod(g.shape)) for g in network.groups.values()),
        "layers": len(network.layers),
        "unknown primitives": list(network.analysis.unknown),
        "verified": str(network.verification),
        "fixed": reasons(network),
    }
    failures = wrong_groups(row, shapes) + unmoved(row, network)
    record |= planted(network, (apply_fn, params, x), seconds, failures)
    peak = peak_memory()
    return record | {
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "peak GB": round(peak, 2),
        "GB before": round(start, 2),
        "failures": failures,
    }


def planted(
    network: mcjax.Network, model: Model, seconds: dict[str, float], failures: list[str]
) -> dict[str, Any]:
    """A random permutation of all groups: the function, the way back, and a curve to it."""
    apply_fn, params, x = model
    if not network.groups:
        failures.append("no groups")
        return {}
    permutations = network.random_permutations(jax.random.key(1))
    with timed(seconds, "permute"):
        moved = network.permute(permutations, params)
    with timed(seconds, "run"):
        before, after = outputs_of(apply_fn, (params, moved), x)
    scale = float(np.abs(before).max())
    change = float(np.abs(after - before).max() / scale)
    if not change <= ROUNDING:
        failures.append(f"permuted, outputs change by {change:.1e} of the largest")
    with timed(seconds, "match"):
        matching = mcjax.align.match_weights(network, params, moved, key=jax.random.key(2))
    back = matching.action(network)(moved)
    away = sum(
        not np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(network.flatten(params, "a"), network.flatten(back, "b"), strict=True)
    )
    if away:
        failures.append(f"weight matching leaves {away} leaves elsewhere ({matching.status})")
    with timed(seconds, "curve"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whose statistics of normalisations, does not matter here
        curve = mcjax.evaluate(
            mcjax.path.Linear(params, moved),
            lambda p, x: one_array(apply_fn(p, x)),
            (x, jnp.asarray(before / scale, jnp.float32) * np.float32(scale)),
            t=np.linspace(0, 1, POINTS),
            task=mcjax.tasks.REGRESSION,
        )
    loss = np.asarray(curve.values["loss"], np.float64) / scale**2
    if not (np.isfinite(loss).all() and loss[[0, -1]].max() <= ROUNDING**2 < loss[1:-1].max()):
        failures.append(f"losses along the segment: {', '.join(f'{v:.1e}' for v in loss)}")
    return {
        "change": change,
        "recovered": not away,
        "status": matching.status,
        "sweeps": matching.sweeps,
        "loss": [float(v) for v in loss],
    }


def outputs_of(apply_fn: Any, networks: tuple[Any, ...], x: Any) -> list[np.ndarray]:
    """Outputs of networks whose leaves that are no arrays (flags of equinox) are the same."""
    leaves, structure = jax.tree.flatten(networks[0])
    arrays = [i for i, v in enumerate(leaves) if hasattr(v, "dtype")]

    @jax.jit
    def run(given: list[Any], x: Any) -> jax.Array:
        whole = dict(enumerate(leaves)) | dict(zip(arrays, given))
        return one_array(apply_fn(jax.tree.unflatten(structure, list(whole.values())), x))

    flat = (jax.tree.leaves(n) for n in networks)
    return [np.asarray(run([v[i] for i in arrays], x), np.float64) for v in flat]


def one_array(outputs: Any) -> jax.Array:
    """The first floating-point array of the outputs, a row an example."""
    found = [v for v in jax.tree.leaves(outputs) if jnp.issubdtype(v.dtype, jnp.floating)]
    return found[0].astype(jnp.float32)


def wrong_groups(row: Row, shapes: Counter[tuple[int, ...]]) -> list[str]:
    """Where groups are not those that were counted by hand."""
    if row.groups is None:
        return []
    counted = row.groups() if callable(row.groups) else row.groups
    expected = Counter({s: n for s, n in counted.items() if n})
    return [
        f"groups of shape {s}: {shapes[s]} instead of {expected[s]}"
        for s in sorted({*shapes, *expected})
        if shapes[s] != expected[s]
    ]


def unmoved(row: Row, network: mcjax.Network) -> list[str]:
    """Leaves that no group stands in, and that nobody expects to stay (biases of outputs may)."""
    inside = {p.leaf for g in network.groups.values() for p in g.places}
    still = [
        n for n, axes, t in zip(
            network.leaf_names, network.leaf_axes, network.leaf_types, strict=True
        )
        if n not in inside and jnp.issubdtype(t.dtype, jnp.inexact)
        and set(_reasons(axes, t)) - EXPECTED
    ]  # fmt: skip
    wrong = [n for n in still if not any(fnmatch.fnmatch(n, p) for p in row.still)]
    if not wrong:
        return []
    return [f"{len(wrong)} leaves are not permuted: {', '.join(wrong[:4])}"]


def reasons(network: mcjax.Network) -> dict[str, int]:
    """Why axes of float leaves are fixed → how many."""
    found: Counter[str] = Counter()
    for axes, kind in zip(network.leaf_axes, network.leaf_types, strict=True):
        if jnp.issubdtype(kind.dtype, jnp.inexact):
            found.update(_reasons(axes, kind))
    return dict(found.most_common())


def _reasons(axes: Any, kind: Any) -> list[str]:
    """Why the axes of a leaf are fixed, those of size 1 left out."""
    return [
        why for expr, size in zip(axes, kind.shape, strict=True) if size > 1
        for why in {f.why or "" for f in atoms(expr) if f.fixed}
    ]  # fmt: skip


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """CPU time of this process, of all its threads."""
    start = time.process_time()
    yield
    seconds[what] = time.process_time() - start
