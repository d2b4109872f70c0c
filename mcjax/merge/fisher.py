"""Means weighted by the diagonal of the Fisher information (Matena and Raffel 2022)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._compiled import compiled_for
from .._inputs import length, per_example, unmark
from .._static import unpack
from .._stream import Stream
from .._tree import at_least_single, is_inexact
from .._types import Params
from ..network import chunks
from ..network.network import Network
from ..tasks import IGNORED, Task, cross_entropy, squared_error, token_cross_entropy
from .problem import Method, Problem, weighted_sum

LABELS = ("model", "given")
_BYTES = 128 << 20  # of gradients at a time


@dataclasses.dataclass(frozen=True)
class Fisher(Method):
    """Σ_i w_i F_i θ_i / Σ_i w_i F_i, entry by entry; the mean Σ_i w_i θ_i where all F_i are 0.

    F_i = E_x E_{y ~ p(y | x, θ_i)} (∂ log p(y | x, θ_i) / ∂θ)², each example differentiated by
    itself. Give every network its own inputs by `Each`, as the paper does.

    - `labels`: `"model"`: y as the network itself predicts them, for mcjax's tasks: all classes,
      each with its probability; for next-token prediction a token drawn for each position (its
      gradients' squares are right in expectation); for regression numbers around the outputs, of
      variance 1. `"given"`: the labels y, and any task's loss for −log p (the empirical Fisher)
    - `examples`: the first so many of x are looked at
    """

    labels: str = "model"
    examples: int = 1024

    label = "Fisher"
    source = "Matena and Raffel 2022, Sec. 3"
    needs_inputs = True

    def __post_init__(self) -> None:
        _check.one_of(self.labels, LABELS, "labels")
        _check.positive(self.examples, "examples")

    @property
    def needs_labels(self) -> bool:
        return self.labels == "given"

    def __call__(self, problem: Problem) -> Params:
        found = [
            fisher_diagonal(
                problem.network, params, *(self._some(v) for v in problem.data(i)),
                task=problem.task, labels=self.labels, key=jax.random.fold_in(problem.key, i),
            )
            for i, params in enumerate(problem.networks)
        ]  # fmt: skip

        def merged(number, theta, base):
            shares = np.stack([w * f[number] for w, f in zip(problem.weights, found, strict=True)])
            total = shares.sum(0)
            equal = np.reshape(problem.weights, (-1, *[1] * (theta.ndim - 1)))
            shares = np.where(total > 0, shares / np.where(total > 0, total, 1), equal)
            return weighted_sum(shares.astype(theta.real.dtype), theta)

        return problem.leafwise(merged)

    def _some(self, values: Any) -> Any:
        return per_example(lambda v: v[: self.examples], values)


def fisher_diagonal(
    network: Network,
    params: Params,
    x: Any,
    y: Any = None,
    *,
    task: Task,
    labels: str = "model",
    key: jax.Array,
) -> dict[int, np.ndarray]:
    """Number of each floating-point leaf → the diagonal of its Fisher information, in float64.

    **Arguments:** `labels` as in `Fisher`; tokens of y that do not count (−100) do not here either.

    **Raises:** `ValueError` for labels of the model's own where the task is none of mcjax's, and
    gradients that are not finite.
    """
    (params,), kind = network.check_parameters(params=params), _kind(task, labels)
    x = network.inputs(x)
    n = length(x)
    if y is None:
        y = np.zeros(n, bool)
        kind = kind if kind != "tokens" else "all tokens"
    scores = jax.eval_shape(
        lambda p, one, label: _scores(network, task, kind, p, one, label, jax.random.key(0))[0],
        params, *(jax.tree.map(jnp.asarray, chunks.take(v, 0, 1)) for v in (x, y)),
    )  # fmt: skip
    floats = [i for i, t in enumerate(network.leaf_types) if is_inexact(t)]
    size = sum(network.leaf_types[i].size for i in floats)
    chunk = int(np.clip(_BYTES // (4 * size * scores.shape[0]), 1, n))
    total: Any = 0.0
    for block in Stream((x, y), chunk).blocks():
        data = jax.tree.map(jnp.asarray, block.data)
        some = _squares(network, task, kind, chunk, params, *data, block.weights, key, block.start)
        some = [np.asarray(v, np.float64) for v in jax.device_get(some)]
        total = some if isinstance(total, float) else [a + b for a, b in zip(total, some)]
    for i, v in zip(floats, total, strict=True):
        if not np.isfinite(v).all():
            raise ValueError(
                f"x: squared gradients of leaf {network.leaf_names[i]!r} are NaN or infinite on "
                f"some example, at {np.count_nonzero(~np.isfinite(v))} of {v.size} entries"
            )
    return {i: v / n for i, v in zip(floats, total, strict=True)}


def _kind(task: Task, labels: str) -> str:
    """What is differentiated."""
    kinds = {cross_entropy: "classes", squared_error: "numbers", token_cross_entropy: "tokens"}
    if labels == "given":
        return "loss"
    if task.metrics[task.loss] not in kinds:
        raise ValueError(
            f"labels='model' needs to know which labels a network predicts, and the loss of the "
            f"task {task.name!r} does not tell; labels='given' takes y"
        )
    return kinds[task.metrics[task.loss]]


@compiled_for("network", "task", "kind", "chunk")
def _squares(
    network: Network, task: Task, kind: str, chunk: int, params: Params, x: Any, y: Any,
    weights: Any, key: jax.Array, start: Any,
) -> list[jax.Array]:  # fmt: skip
    """Σ over examples of Σ_k p_k (∂s_k / ∂θ)², for each floating-point leaf."""
    leaves, treedef = jax.tree.flatten(params)
    where = [i for i, v in enumerate(leaves) if is_inexact(v)]
    n = length(x)

    def of(floats: list[Any], i: Any) -> Any:
        some = list(leaves)
        for j, v in zip(where, floats, strict=True):
            some[j] = v
        tree, draw = jax.tree.unflatten(treedef, some), jax.random.fold_in(key, start + i)
        one, label = (chunks.take(v, i, 1) for v in (x, y))
        return _scores(network, task, kind, tree, one, label, draw)

    def squares(i: Any) -> list[jax.Array]:
        i, counts = jnp.minimum(i, n - 1), jnp.where(i < n, weights[jnp.minimum(i, n - 1)], 0)
        scores, back, shares = jax.vjp(lambda f: of(f, i), [leaves[j] for j in where], has_aux=True)
        (each,) = jax.vmap(back)(jnp.eye(len(scores), dtype=scores.dtype))
        wide = [v.astype(at_least_single(v.dtype)) for v in each]
        return [jnp.tensordot(counts * shares, (v * v.conj()).real, 1) for v in wide]

    def step(sums: list[jax.Array], first: Any) -> Any:
        new = jax.vmap(squares)(first + jnp.arange(chunk))
        return [s + v.sum(0) for s, v in zip(sums, new, strict=True)], None

    zero = [jnp.zeros(v.shape, v.dtype) for v in jax.eval_shape(squares, 0)]
    return jax.lax.scan(step, zero, jnp.arange(0, n, chunk))[0]


def _scores(
    network: Network, task: Task, kind: str, params: Params, x: Any, y: Any, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(s, p) of one example: its Fisher information is Σ_k p_k (∂s_k / ∂θ)²."""
    returned = network.apply_fn(unpack(params), unmark(x))
    if kind == "loss":
        values = task.losses(returned, y)
        return values, jnp.ones_like(values)
    outputs = task.outputs(returned)
    outputs = outputs.astype(at_least_single(outputs.dtype))[0]
    if kind == "numbers":
        return outputs.ravel(), jnp.ones(outputs.size, outputs.dtype)
    scores = jax.nn.log_softmax(outputs)
    if kind == "classes":
        return scores, jax.lax.stop_gradient(jnp.exp(scores))
    drawn = jax.random.categorical(key, jax.lax.stop_gradient(outputs))
    taken = jnp.take_along_axis(scores, drawn[..., None], -1)[..., 0]
    if kind == "tokens":
        taken = jnp.where(y[0] != IGNORED, taken, 0)
    return taken.sum(keepdims=True), jnp.ones(1, taken.dtype)


__all__ = ["LABELS", "Fisher", "fisher_diagonal"]
