"""Losses and metrics between inputs, for many pairs at once (vrabel2024, Sec. 4 and B.2.2)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path as File
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled
from .._static import unpack
from .._survivors import begun
from .._types import ApplyFn, Params
from ..network import Network
from ..path import Linear, Path
from ..path._base import time
from ..tasks import CLASSIFICATION, Task, require
from .pairs import checked_grid, checked_labels, checked_model, checked_pairs


@dataclasses.dataclass(frozen=True, eq=False)
class Interpolation:
    """Metrics along paths between inputs: the result of `mcjax.inputs.interpolate`.

    - `t`: (T,) points, rising from 0 to 1
    - `values`: metric name → (pairs, T), float32
    - `task`: says which of them is the loss
    - `metadata`: `"pairs"`, `"path"`, `"task"`

    A NaN of the loss makes the height and the gap of its pair NaN.

        >>> import numpy as np, mcjax
        >>> found = mcjax.inputs.Interpolation(
        ...     np.array([0, 0.5, 1]), {"loss": np.array([[1.0, 4.0, 2.0]])})
        >>> found.height.tolist(), found.gap.tolist(), found.summit.tolist()
        ([4.0], [2.0], [0.5])
    """

    t: np.ndarray
    values: Mapping[str, np.ndarray]
    task: Task = CLASSIFICATION
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        pairs, points = self.loss.shape
        return f"Interpolation({pairs} pairs, {points} points; {', '.join(self.values)})"

    @property
    def loss(self) -> np.ndarray:
        """(pairs, T): the task's loss."""
        return self.values[self.task.loss]

    @property
    def height(self) -> np.ndarray:
        """(pairs,): max_t ℓ(t)."""
        return self.loss.max(1)

    @property
    def gap(self) -> np.ndarray:
        """(pairs,): max_t ℓ(t) − max(ℓ(0), ℓ(1)), 0 where the maximum is an end point."""
        return self.height - np.maximum(self.loss[:, 0], self.loss[:, -1])

    @property
    def summit(self) -> np.ndarray:
        """(pairs,): the first t of the highest loss (of a NaN, if there is one)."""
        return self.t[self.loss.argmax(1)]

    def barriers(self, delta: float) -> list[np.ndarray]:
        """For each pair, the t at the tops of its barriers above δ.

        A barrier is a run of neighbouring points with losses that are not ≤ δ; one whose highest
        point is an end of the path is none, as no way leads around an end.

        **Raises:** `ValueError` for a δ that is negative or no number.
        """
        if not delta >= 0:
            raise ValueError(f"delta must be a loss ≥ 0, got {delta}")
        return [self.t[_tops(loss, delta)] for loss in self.loss]

    def summary(self) -> str:
        """Heights, gaps and where the summits are, in a few lines."""
        pairs, points = self.loss.shape
        whole = np.isfinite(self.height)
        lines = [f"{pairs:,} pairs, {points} points each; {self.task.name}"]
        for name, found in (("height", self.height[whole]), ("gap", self.gap[whole])):
            if found.size:
                lines.append(f"{name:>8}: mean {found.mean():.4f}, median {np.median(found):.4f}")
        ends = int((self.gap[whole] == 0).sum())
        lines.append(f"    ends: {ends:,} pairs are highest at an end")
        if not whole.all():
            lines.append(f"  broken: {int((~whole).sum()):,} pairs have losses that are not finite")
        return "\n".join(lines)

    def plot(self, path: str | File | None = None, *, ax: Any = None) -> Any:
        """Draw the loss: every pair's where there are few, the median and the quartiles.

        **Arguments:**
        - `path`: picture file; default: none is written
        - `ax`: matplotlib axes; default: those of a new figure

        **Returns:** the axes.
        """
        from ..figures.bands import draw_bands

        return draw_bands(self.t, self.loss, path, ax=ax, ylabel=self.task.axis(self.task.loss))


def _tops(loss: np.ndarray, delta: float) -> list[int]:
    above = ~(loss <= delta)
    edges = np.flatnonzero(np.diff(np.r_[False, above, False].astype(int)))
    tops = [s + int(np.argmax(loss[s:e])) for s, e in zip(edges[::2], edges[1::2], strict=True)]
    return [k for k in tops if 0 < k < len(loss) - 1]


@_check.on_host
def interpolate(
    model: ApplyFn | Network,
    params: Params,
    pairs: tuple[Any, Any],
    y: Any,
    t: int | Any = 250,
    *,
    task: Task = CLASSIFICATION,
    path: Callable[[Any, Any], Path] = Linear,
    chunk: int = 1024,
) -> Interpolation:
    """Metrics of f(θ, x(t)) on paths x between inputs A and C: losses of shape (pairs, T).

    One program for all pairs: a batch is a block of pairs times a block of t, `chunk` inputs at
    most, and no more of them are on the device at a time. Batch normalisation must use its
    running statistics: an input's outputs must not depend on those beside it.

    **Arguments:**
    - `model`: (params, x) → outputs, or a `Network`
    - `params`: θ
    - `pairs`: (x_a, x_c), two arrays of floats of one shape (pairs, …), memory maps too; of one
      class, of two, real and adversarial: what they are is up to you
    - `y`: the label of each pair; or (y_a, y_c) for pairs of different classes, where at each t the
      better of the two labels counts (metric by metric), so that both ends can be low
    - `t`: number of even points, or an array that rises from 0 to 1
    - `task`: metrics and labels
    - `path`: (A, C) → `mcjax.path.Path` of one pair, a function or class of a module
    - `chunk`: inputs in a batch

    **Returns:** an `Interpolation`.

    **Raises:** `ValueError` for pairs that are no floats, not finite, of different shapes or of one
    and the same input; for labels that are not the task's; for a bad t or chunk.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.stack([0 * x[:, 0], x[:, 0]], 1) * p["w"]
        >>> a, c = jnp.array([[-1.0]]), jnp.array([[1.0]])
        >>> found = mcjax.inputs.interpolate(f, {"w": jnp.array(1.0)}, (a, c), jnp.array([0]), 5)
        >>> found.loss.shape, round(float(found.height[0]), 3), float(found.gap[0])
        ((1, 5), 1.313, 0.0)
    """
    task, chunk = require(task), _check.positive(chunk, "chunk")
    a, c = checked_pairs(pairs)
    labels, ts = checked_labels(y, len(a)), checked_grid(t)
    packed = checked_model(model, params, a, labels, task)
    values = swept(Sweep(model, task, path, chunk), packed, a, c, labels, ts)
    name = getattr(path, "__name__", type(path).__name__)
    metadata = {"pairs": len(a), "path": name, "task": task.name}
    return Interpolation(ts, values, task, metadata)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the losses between inputs are compiled for."""

    model: ApplyFn | Network
    task: Task
    path: Callable[[Any, Any], Path]
    chunk: int


def swept(
    plan: Sweep, params: Params, a: Any, c: Any, labels: tuple[Any, ...], ts: np.ndarray
) -> dict[str, np.ndarray]:
    """Metric name → (pairs, T), of pairs, labels and t that are checked."""
    pairs, points = len(a), len(ts)
    blocks = -(-points // plan.chunk)
    wide, tall = -(-points // blocks), min(max(plan.chunk // points, 1), len(begun(pairs)))
    program = compiled(_block, plan)
    values = {k: np.empty((pairs, points), np.float32) for k in plan.task.metrics}
    running = []
    for p in range(0, pairs, tall):
        # A block that is not full is filled by its last pair, or its last t.
        rows = np.minimum(np.arange(p, p + tall), pairs - 1)
        block = _rows((a, c, labels), rows)
        for s in range(0, points, wide):
            at = time(ts[np.minimum(np.arange(s, s + wide), points - 1)])
            running.append((p, s, program(params, at, *block)))
            if len(running) > 1:  # one block is prepared while another runs
                _store(values, *running.pop(0))
    for made in running:
        _store(values, *made)
    return values


def _rows(tree: Any, rows: np.ndarray) -> Any:
    whole = slice(int(rows[0]), int(rows[-1]) + 1)  # a view where no row is repeated
    contiguous = len(rows) == whole.stop - whole.start
    return jax.tree.map(lambda v: v[whole] if contiguous else v[rows], tree)


def _store(values: dict[str, np.ndarray], p: int, s: int, found: Mapping[str, Any]) -> None:
    for name, block in found.items():
        into = values[name][p : p + block.shape[0], s : s + block.shape[1]]
        into[...] = np.asarray(block)[: into.shape[0], : into.shape[1]]


def _block(plan: Sweep, params: Params, ts: jax.Array, a: Any, c: Any, labels: Any) -> Any:
    """Metric name → (pairs, T) of a block, in one batch of the model."""
    paths = jax.vmap(plan.path)(a, c)
    x = jax.vmap(lambda path: jax.vmap(path.at)(ts))(paths)
    shape = x.shape[:2]
    apply = _check_model.apply_fn_of(plan.model)
    outputs = apply(unpack(params), x.reshape(-1, *x.shape[2:]))
    found = []
    for y in labels:
        each = jax.tree.map(lambda v: jnp.repeat(v, shape[1], 0), y)
        found.append(plan.task.values(outputs, each))
    better = {k: jnp.minimum if w == "high" else jnp.maximum for k, w in plan.task.worse.items()}
    return {
        k: functools.reduce(better[k], [f[k] for f in found]).reshape(shape)
        for k in plan.task.metrics
    }


__all__ = ["Interpolation", "Sweep", "interpolate", "swept"]
