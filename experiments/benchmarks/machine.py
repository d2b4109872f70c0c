"""What the machine can do, and the networks the benchmarks run on."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize


def processor() -> str:
    """The processor's or accelerator's name."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':')[1].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def matrix_rate(clock: Callable[[], float] = time.perf_counter) -> float:
    """Best measured rate of a float32 matrix product over several sizes, in FLOP/s by a clock."""
    sizes = (768, 1024, 1536, 2048, 3000) if jax.default_backend() == "cpu" else (8192, 16384)
    product = jax.jit(lambda a: a @ a)
    return max(_rate(product, n, clock) for n in sizes)


def _rate(product: Callable[[Any], Any], n: int, clock: Callable[[], float]) -> float:
    a = jnp.ones((n, n), jnp.float32)
    return 2 * n**3 / best_of(lambda: product(a), 5, clock)


def best_of(
    function: Callable[[], Any], repeats: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Shortest time of a call, its result waited for; one call before to warm up."""
    jax.block_until_ready(function())
    return min(once(function, clock) for _ in range(repeats))


def once(function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Wall-clock time of one call as it comes, cold if it is the first."""
    start = clock()
    jax.block_until_ready(function())
    return clock() - start


def in_turn(
    function: Callable[[], Any],
    other: Callable[[], Any],
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median time of a call, and the median of its ratios to the other's right after it.

    For works of about one length: against the shortest of short calls a long one looks slow, as no
    machine holds its best rate for so long. One call of each before to warm up. `time.process_time`
    as a clock is CPU time, of all threads, which says less of what else the machine is doing.
    """
    times = np.empty((repeats, 2))
    for k in range(-1, repeats):
        for i, call in enumerate((function, other)):
            times[max(k, 0), i] = once(call, clock)
    return float(np.median(times[:, 0])), float(np.median(times[:, 0] / times[:, 1]))


def mlp(params, x):
    """A plain multilayer perceptron on a list of layers."""
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def random_mlp(sizes: tuple[int, ...], seed: int):
    rng = np.random.default_rng(seed)
    return [
        {
            "w": jnp.asarray(rng.normal(size=(m, n)) * (2 / m) ** 0.5, jnp.float32),
            "b": jnp.asarray(rng.normal(size=n) * 0.1, jnp.float32),
        }
        for m, n in itertools.pairwise(sizes)
    ]


def multiply_adds(sizes: tuple[int, ...]) -> int:
    """Of one forward pass of one example."""
    return sum(m * n for m, n in itertools.pairwise(sizes))


def images(n: int) -> tuple[jax.Array, jax.Array]:
    """Random inputs of MNIST's size."""
    rng = np.random.default_rng(0)
    x = rng.random((n, 784), np.float32)
    return jnp.asarray(x), jnp.asarray(rng.integers(0, 10, n))


def scipy_share(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """(shortest CPU time, median share of it that SciPy's assignment takes) of a matching."""
    spent = [0.0]
    assign = scipy.optimize.linear_sum_assignment

    def timed(*arguments, **options):
        start = time.process_time()
        result = assign(*arguments, **options)
        spent[0] += time.process_time() - start
        return result

    function()
    totals, shares = [], []
    with mock.patch.object(scipy.optimize, "linear_sum_assignment", timed):
        for _ in range(repeats):
            spent[0], start = 0.0, time.process_time()
            function()
            totals.append(time.process_time() - start)
            shares.append(spent[0] / totals[-1])
    return min(totals), float(np.median(shares))


def in_a_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m module arguments` and read the JSON on its last line.

    A process of its own gives a cold start and a peak of memory that is the work's alone.
    """
    command = [sys.executable, "-m", module, *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    if out.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{out.stderr[-2000:]}")
    return json.loads(out.stdout.strip().splitlines()[-1])


def peak_memory() -> float:
    """Peak resident memory of this process so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def row(
    r: dict[str, float], work: str, measured: str, target: str, note: str = ""
) -> tuple[str, ...]:
    """A row of the table: work, measured, target, floor, rate of products, note, machine."""
    floor = f"{r['floor']:.2f} s" if "floor" in r else ""
    rate = f"{r['rate'] / 1e9:.0f}" if "rate" in r else "–"
    return work, measured, target, floor, rate, note, str(r["on"])
