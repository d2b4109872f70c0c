"""Fuzz the tracer: `python -m tests.fuzz 5000` traces random programs and runs each found group.

Every group, alone and jointly, must leave the outputs unchanged in float64.
"""

from __future__ import annotations

import sys

import jax
import numpy as np

import mcjax

from .programs import Builder

_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def wrong_groups(seed: int, steps: int = 9) -> tuple[int, str | None]:
    """(number of groups found, what is wrong with them)."""
    with jax.enable_x64(True):
        builder = Builder(seed, steps)
        apply_fn = builder.function()
        params = [jax.numpy.asarray(p) for p in builder.params]
        x = jax.numpy.asarray(builder.x)
        if not params:
            return 0, None
        network = mcjax.trace(apply_fn, params, x, check=False)
        run = jax.jit(apply_fn).lower(params, x).compile(compiler_options=_QUICK)
        expected = run(params, x)
        rng = np.random.default_rng(seed)
        identity = network.identity_permutations()
        names = list(network.groups)
        for chosen in ([names] if names else []) + [[n] for n in names]:
            permutations = {n: rng.permuted(identity[n], axis=-1) for n in chosen}
            actual = run(network.permute(permutations, params), x)
            for y, z in zip(expected, actual, strict=True):
                if not np.allclose(
                    y, z, rtol=1e-7, atol=1e-7 * (1 + np.abs(y).max()), equal_nan=True
                ):
                    return len(names), f"{chosen}\n{network.explain()}"
        return len(names), None


def main(count: int, first: int = 0) -> int:
    failures, groups = [], 0
    for seed in range(first, first + count):
        try:
            n, wrong = wrong_groups(seed)
        except Exception as error:  # a crash of the tracer is a finding too
            n, wrong = 0, f"{type(error).__name__}: {error}"
        groups += n
        if wrong:
            failures.append(seed)
            print(f"seed {seed}: {wrong}", flush=True)
        if seed % 500 == 499:
            print(
                f"{seed + 1 - first} programs, {groups} groups, {len(failures)} wrong", flush=True
            )
            jax.clear_caches()
    print(f"{count} programs, {groups} groups, {len(failures)} wrong or crashed {failures[:20]}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
