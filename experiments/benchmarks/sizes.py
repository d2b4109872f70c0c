"""Published architectures at their sizes: traced, permuted, matched, and the segment evaluated.

Each work runs in a process of its own, so that its peak of memory is its own. Times are CPU time,
which others on the machine may double; ratios are of two works in one process, in turn.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import linecache
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import scipy.optimize
from threadpoolctl import threadpool_limits

import mcjax
from mcjax.align import match_activations, match_weights
from mcjax.path import Linear
from mcjax.tasks import CLASSIFICATION, NEXT_TOKEN

from .architectures import ARCHITECTURES
from .machine import in_a_process, row

EXAMPLES, POINTS = 8, 5


def memory(what: str) -> int:
    """Bytes that this process holds (`VmRSS`), or the most that it has held (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {what}: these benchmarks run on Linux")


@contextlib.contextmanager
def measured() -> Iterator[dict[str, float]]:
    """CPU and wall-clock seconds of a block, and the memory that it adds at its peak."""
    found: dict[str, float] = {}
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was let go before must not hide what is taken now
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, cpu, wall = memory("VmRSS"), time.process_time(), time.perf_counter()
    yield found
    found["cpu"], found["wall"] = time.process_time() - cpu, time.perf_counter() - wall
    found["added"] = memory("VmHWM") - before
    found["peak"] = memory("VmHWM")


def held(params: Any) -> int:
    return sum(v.nbytes for v in jax.tree.leaves(params))


def size(name: str) -> dict[str, float]:
    """How many parameters, and the bytes they take."""
    leaves = jax.tree.leaves(_types(name))
    count = sum(v.size for v in leaves)
    return {"parameters": count, "bytes": sum(v.size * v.dtype.itemsize for v in leaves)}


def _types(name: str) -> Any:
    model = ARCHITECTURES[name]

    def is_shape(v: Any) -> bool:
        return isinstance(v, tuple)

    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s, model.dtype), model.shapes(), is_leaf=is_shape
    )


def _network(name: str) -> mcjax.Network:
    """The trace from types alone: no parameters, no verification."""
    model = ARCHITECTURES[name]
    return mcjax.trace(model.apply, _types(name), model.inputs(2), check=False)


def _pair(name: str, network: mcjax.Network) -> tuple[Any, Any]:
    """Two networks, one a permuted copy of the other with as much noise, as trained ones are alike:
    √½ (a + c) of independent a and c, permuted."""
    model = ARCHITECTURES[name]
    a, c = (model.init(seed) for seed in (0, 1))

    def both(u: Any, v: Any) -> np.ndarray:  # in NumPy: compiling would take memory
        wide = (np.asarray(w, np.float32) for w in (u, v))
        return (np.float32(0.5**0.5) * sum(wide)).astype(u.dtype)

    b = jax.tree.map(both, a, c)
    return a, network.permute(network.random_permutations(jax.random.key(0)), b)


def trace(name: str) -> dict[str, float]:
    """The trace, verified by execution."""
    model = ARCHITECTURES[name]
    a, x = model.init(0), model.inputs(2)
    with measured() as found:
        network = mcjax.trace(model.apply, a, x)
    return {**found, "groups": len(network.groups), "added": found["added"] / held(a)}


def permute(name: str, repeats: int = 9) -> dict[str, float]:
    """All groups permuted, against a copy of every leaf right after it: the shortest of each."""
    network = _network(name)
    a = ARCHITECTURES[name].init(0)
    permutations = jax.tree.map(np.asarray, network.random_permutations(jax.random.key(0)))
    host = jax.tree.map(np.asarray, a)
    times = np.empty((repeats, 2))
    for k in range(-1, repeats):
        for i, work in enumerate(
            (lambda: network.permute(permutations, a), lambda: jax.tree.map(np.copy, host))
        ):
            gc.collect()
            start = time.process_time()
            jax.block_until_ready(work())
            times[max(k, 0), i] = time.process_time() - start
    with measured() as found:
        jax.block_until_ready(network.permute(permutations, a))
    seconds, copy = map(float, times.min(0))
    added = found["added"] / held(a)
    return {**found, "cpu": seconds, "copy": copy, "ratio": seconds / copy, "added": added}


@contextlib.contextmanager
def _assignments() -> Iterator[dict[str, float]]:
    """Seconds of this thread in SciPy's assignments."""
    spent, assign = {"scipy": 0.0}, scipy.optimize.linear_sum_assignment

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.thread_time()
        result = assign(*arguments, **options)
        spent["scipy"] += time.thread_time() - start
        return result

    with mock.patch.object(scipy.optimize, "linear_sum_assignment", timed):
        yield spent


@contextlib.contextmanager
def _products() -> Iterator[dict[str, float]]:
    """Seconds of this thread on lines with a product of matrices, sampled.

    A signal comes each millisecond of CPU time, and is handled when what runs in C is done: on the
    line that has taken the time since the last one, or in the function that it calls next.
    """
    spent, last = {"blas": 0.0}, time.thread_time()

    def note(_: int, frame: types.FrameType | None) -> None:
        nonlocal last
        now = time.thread_time()
        frames = [f for f in (frame, frame and frame.f_back) if f is not None]
        lines = [linecache.getline(f.f_code.co_filename, f.f_lineno or 0) for f in frames]
        spent["blas"] += now - last if any(" @ " in line for line in lines) else 0.0
        last = now

    before = signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, 1e-3, 1e-3)
    try:
        yield spent
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def weights(name: str) -> dict[str, float]:
    """Weight matching from one start, against one sweep of exact assignments at what it finds.

    BLAS has one thread, so that CPU time is that of the main thread.
    """
    network = _network(name)
    gc.collect()
    bare = memory("VmRSS")
    a, b = _pair(name, network)
    with threadpool_limits(1, "blas"):
        with measured() as found, _assignments() as scipy_, _products() as blas:
            start = time.thread_time()
            matching = match_weights(network, a, b)
            seconds = time.thread_time() - start
        with _assignments() as sweep, _products() as sweep_blas:
            start = time.thread_time()
            match_weights(network, a, b, init=matching)  # nothing moves: one sweep
            whole = time.thread_time() - start
    return {
        **found, "cpu": seconds, "sweep": sweep["scipy"], "ratio": seconds / sweep["scipy"],
        "scipy": scipy_["scipy"] / seconds, "blas": blas["blas"] / seconds,
        "sweep_blas": sweep_blas["blas"], "sweep_all": whole,
        "peak": (found["peak"] - bare) / held(a), "added": found["added"] / held(a),
    }  # fmt: skip


def activations(name: str) -> dict[str, float]:
    """Activation matching on a few inputs, compilation included."""
    network = _network(name)
    gc.collect()
    bare = memory("VmRSS")
    a, b = _pair(name, network)
    x = ARCHITECTURES[name].inputs(EXAMPLES)
    with measured() as found:
        match_activations(network, a, b, x, chunk=2)
    return {**found, "peak": (found["peak"] - bare) / held(a), "added": found["added"] / held(a)}


def segment(name: str) -> dict[str, float]:
    """Loss and accuracy on the segment between two networks, compilation included."""
    model = ARCHITECTURES[name]
    bare = memory("VmRSS")
    a, b = (model.init(seed) for seed in (0, 1))
    x, y = model.inputs(EXAMPLES), model.labels(EXAMPLES)
    task = NEXT_TOKEN if x.ndim == 2 else CLASSIFICATION
    with measured() as found:
        curve = mcjax.evaluate(Linear(a, b), model.apply, (x, y), POINTS, task=task, chunk=2)
    assert np.isfinite(curve.loss).all()
    return {**found, "peak": (found["peak"] - bare) / held(a), "added": found["added"] / held(a)}


WORKS = {"trace": trace, "permute": permute, "weights": weights, "activations": activations,
         "segment": segment}  # fmt: skip


def measure(name: str) -> dict[str, Any]:
    """Every work on an architecture, one process after the other."""
    here = __spec__.name if __spec__ else "experiments.benchmarks.sizes"
    return {**size(name), **{work: in_a_process(here, name, work) for work in WORKS}}


def rows_of_sizes(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [row for name in ARCHITECTURES for row in _rows(name, found[f"sizes {name}"])]


def _rows(name: str, r: dict[str, Any]) -> list[tuple[str, ...]]:
    """A work that has not been measured has no row."""
    what = f"{name}, {r['parameters'] / 1e6:.0f} M"
    rows = []

    def add(work: str, label: str, measured: str, target: str, note: str) -> None:
        of = {**r, **r[work]}
        note = f"CPU time; {of['wall']:.0f} s by the wall clock; {note}"
        rows.append(row(of, f"{label}, {what}", measured, target, note))

    if of := r.get("trace"):
        add("trace", "trace", f"{of['cpu']:.1f} s, {of['added']:.1f}× the parameters added",
            "≤ 15 s, ≤ 2.5×", f"{of['groups']} groups, verified")  # fmt: skip
    if of := r.get("permute"):
        add("permute", "permute", f"{of['ratio']:.1f}× a copy", "≤ 2×",
            f"{of['cpu']:.2f} s, a copy {of['copy']:.2f} s")  # fmt: skip
    if of := r.get("weights"):
        add(
            "weights", "weight matching",
            f"{of['ratio']:.1f}× a sweep's assignments, {100 * (of['scipy'] + of['blas']):.0f} % "
            f"in BLAS and SciPy, peak {of['peak']:.1f}× a network", "≤ 3×, ≥ 70 %, ≤ 5×",
            f"{of['cpu']:.1f} s, BLAS {100 * of['blas']:.0f} %, SciPy {100 * of['scipy']:.0f} %; "
            f"one sweep that moves nothing {of['sweep_all']:.1f} s, its products "
            f"{of['sweep_blas']:.2f} s, its assignments {of['sweep']:.2f} s",
        )  # fmt: skip
    for work, label in (("activations", "activation matching"), ("segment", f"{POINTS} t")):
        if of := r.get(work):
            add(work, f"{label}, {EXAMPLES} inputs", f"{of['cpu']:.0f} s, peak "
                f"{of['peak']:.1f}× a network", "–", "compilation included")  # fmt: skip
    return rows


if __name__ == "__main__":
    name, *work = sys.argv[1:]
    print(json.dumps(WORKS[work[0]](name) if work else measure(name)))
