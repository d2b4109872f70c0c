"""Fuzz the tracer: `python -m tests.fuzz 5000` traces random programs and runs each found group.

Every group, alone and jointly, must leave the outputs unchanged in float64, its units permuted, and
moved by random elements of its other factors. Where they change, a program that decides by rounding
(a threshold at a sum that vanishes) is told apart by its outputs under parameters that differ by
10⁻¹³: it says nothing about the groups, and is counted.

With `--planted` the programs are compositions of idioms whose symmetries are known
(`programs/planted.py`): how many groups have all of them is counted, and a factor that changes the
outputs (which `trace` finds by running random elements in float64) is a failure.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

import mcjax
from mcjax.network.elements import Key, apply, factors
from mcjax.network.symmetry.act import random_element
from mcjax.network.symmetry.factors import Factor
from mcjax.symmetry.matrices import CONDITION

from .programs import Builder
from .programs.planted import planted

# What takes the time is to compile: four times less of it this way.
_QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
if version("jaxlib").startswith("0.10."):  # XLA refuses an option it does not know
    _QUICK |= {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
_TOLERANCE = 1e-7
ROUNDING = "decides by rounding"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many groups were found, how many factors beside permutations, and what is wrong."""

    groups: int = 0
    factors: int = 0
    wrong: str | None = None


def outcome_of(seed: int, steps: int = 9) -> Outcome:
    """A random program traced, and what was found run."""
    with jax.enable_x64(True):
        builder = Builder(seed, steps)
        apply_fn = builder.function()
        params = [jax.numpy.asarray(p) for p in builder.params]
        inputs = [jax.numpy.asarray(v) for v in builder.inputs]
        if not params:
            return Outcome()
        network = mcjax.trace(apply_fn, params, inputs, check=False)
        if not network.groups:
            return Outcome()
        run = _compiled(apply_fn, params, inputs)
        if run is None:
            return Outcome()
        every = [(key, f) for g in network.groups.values() for key, f in factors(g)]
        rng = np.random.default_rng(seed)
        wrong = _changes(network, run, params, rng) or _moved(network, run, params, every, rng)
        if wrong and _rounding_decides(run, params):
            wrong = ROUNDING
        said = wrong and f"{wrong}\n{network.explain()}"
        return Outcome(len(network.groups), len(every), said)


def _compiled(apply_fn: Callable, params: list, inputs: list) -> Callable | None:
    """The function of the parameters; None where jax itself cannot compile it."""
    try:
        run = jax.jit(apply_fn).lower(params, inputs).compile(compiler_options=_QUICK)
    except Exception:  # an operation that XLA has not
        return None
    return lambda p: [np.asarray(v) for v in run(p, inputs)]


def _changes(network: mcjax.Network, run: Callable, params: list, rng) -> str | None:
    """The groups, all together or one by one, that change the outputs."""
    expected = run(params)
    names = list(network.groups)
    for chosen in [names, *([n] for n in names)]:
        for _ in range(2):
            permutations = {n: _permutation(network.groups[n].shape, rng) for n in chosen}
            if not _same(expected, run(network.permute(permutations, params))):
                return str(chosen)
    return None


def _moved(
    network: mcjax.Network, run: Callable, params: list, every: list[tuple[Key, Factor]], rng
) -> str | None:
    """The factors, all together or one by one, of which random elements change the outputs."""
    expected = run(params)
    for chosen in [every, *([one] for one in every)] if every else []:
        elements = {
            key: random_element(f.kind, network.groups[key[0]].shape, rng) for key, f in chosen
        }
        allowed = CONDITION if any(f.kind == "general linear" for _, f in chosen) else 1
        if not _same(expected, run(apply(network, elements, params)), allowed):
            return str([(name, f.kind) for (name, _), f in chosen])
    return None


def _permutation(shape: tuple[int, ...], rng) -> np.ndarray:
    """Never the identity; inside an outer axis never the same for all of its indices."""
    identity = np.broadcast_to(np.arange(shape[-1]), shape)
    while True:
        drawn = rng.permuted(identity, axis=-1)
        rows = drawn.reshape(-1, shape[-1])
        if (drawn != identity).any() and (len(rows) == 1 or (rows != rows[0]).any()):
            return drawn


def _same(expected: list[np.ndarray], actual: list[np.ndarray], allowed: float = 1) -> bool:
    rounding = allowed * _TOLERANCE
    for y, z in zip(expected, actual, strict=True):
        finite = np.isfinite(y)
        scale = 1 + (np.abs(y[finite]).max() if finite.any() else 0)
        if not np.allclose(y, z, rtol=rounding, atol=rounding * scale, equal_nan=True):
            return False
    return True


def _rounding_decides(run: Callable, params: list[Any]) -> bool:
    rng, expected = np.random.default_rng(0), run(params)
    return not all(
        _same(expected, run([p * (1 + 1e-13 * rng.normal(size=p.shape)) for p in params]))
        for _ in range(8)
    )


def main(count: int, first: int, steps: int) -> int:
    failures, groups, found, rounding = [], 0, 0, 0
    for seed in range(first, first + count):
        try:
            outcome = outcome_of(seed, steps)
        except Exception as error:  # a crash of the tracer is a finding too
            outcome = Outcome(wrong=f"{type(error).__name__}: {error}")
        groups, found = groups + outcome.groups, found + outcome.factors
        if outcome.wrong and outcome.wrong.startswith(ROUNDING):
            rounding += 1
            print(f"seed {seed}: {ROUNDING}", flush=True)
        elif outcome.wrong:
            failures.append(seed)
            print(f"seed {seed}: {outcome.wrong}", flush=True)
        done = seed + 1 - first
        if done % 250 == 0 or done == count:
            print(
                f"{done} programs of {steps} steps from {first}: {groups} groups, {found} factors "
                f"beside permutations, {len(failures)} wrong or crashed, {rounding} decided by "
                "rounding",
                flush=True,
            )
            jax.clear_caches()
    print(f"wrong or crashed: {failures}")
    return bool(failures)


def in_full(seed: int) -> tuple[int, list[str], bool]:
    """(groups planted, what is said of those found otherwise, whether a factor was unsound)."""
    model = planted(seed)
    params, x = jax.tree.map(lambda v: np.asarray(v, np.float32), (model.params, model.x))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        network = mcjax.trace(lambda p, x: model(p, x), params, x)
    missed = []
    for (leaf, axis), kinds in model.groups:
        found = [
            tuple(sorted(f.kind for f in g.structure.factors if f.kind != "permutation"))
            for g in network.groups.values()
            if any((p.leaf, p.axis) == (leaf, axis) for p in g.places)
        ]
        if kinds not in found:
            missed.append(f"seed {seed}: {leaf}, axis {axis}: {found}, expected {kinds} "
                          f"({', '.join(model.idioms)})")  # fmt: skip
    return len(model.groups), missed, any("found symmetries" in str(w.message) for w in said)


def main_planted(count: int, first: int) -> int:
    groups, missed, unsound = 0, 0, []
    for seed in range(first, first + count):
        n, said, wrong = in_full(seed)
        groups, missed = groups + n, missed + len(said)
        unsound += [seed] if wrong else []
        for line in said:
            print(line, flush=True)
        done = seed + 1 - first
        if done % 250 == 0 or done == count:
            print(f"{done} programs from {first}: {groups - missed} of {groups} planted groups "
                  f"found in full, {len(unsound)} programs unsound", flush=True)  # fmt: skip
            jax.clear_caches()
    print(f"unsound: {unsound}")
    return bool(missed or unsound)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--planted", action="store_true")
    arguments = parser.parse_args()
    if arguments.planted:
        sys.exit(main_planted(arguments.count, arguments.first))
    sys.exit(main(arguments.count, arguments.first, arguments.steps))
