"""Tasks: what a model's outputs are for, how they are scored, what labels go with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._check import is_concrete
from ._task import Task, require
from ._tree import at_least_single, named_leaves

# Labels of this value are no tokens: they count in no metric of next-token prediction.
IGNORED = -100
# How far from 1 the probabilities of an example may sum to.
_SUM_TOLERANCE = 1e-2


# -- classification ------------------------------------------------------------------------


def cross_entropy(logits: Any, labels: Any) -> Any:
    """−log softmax(logits)[label] per example; labels are integer classes or probabilities.

    **Arguments:**
    - `logits`: (…, classes); `labels`: (…,) integers or (…, classes) probabilities

    NaN for an integer that is no class.
    """
    logits = _wide(logits)
    if _are_classes(labels):
        return _of_classes(logits, labels)
    return -jnp.sum(labels * jax.nn.log_softmax(logits, -1), -1)


def _of_classes(logits: Any, labels: Any) -> Any:
    """log Σ exp − the label's logit: the normaliser is subtracted from no other."""
    own = jnp.take_along_axis(logits, jnp.expand_dims(labels, -1), -1)[..., 0]
    return jnp.where(_in_range(logits, labels), jax.nn.logsumexp(logits, -1) - own, jnp.nan)


def _in_range(logits: Any, labels: Any) -> Any:
    """Which labels are classes: under `jit` no check sees them, and −1 would be the last."""
    return (labels >= 0) & (labels < logits.shape[-1])


def accuracy(logits: Any, labels: Any) -> Any:
    """1 where the largest logit is the label's, else 0, per example.

    NaN where a logit is, and for a label that is no class.
    """
    if not _are_classes(labels):
        labels = jnp.argmax(labels, -1)
    right = (jnp.argmax(logits, -1) == labels).astype(jnp.float32)
    known = _in_range(logits, labels) & ~jnp.isnan(logits).any(-1)
    return jnp.where(known, right, jnp.nan)


def _are_classes(labels: Any) -> bool:
    dtype = getattr(labels, "dtype", None) or jnp.result_type(labels)
    return jnp.issubdtype(dtype, jnp.integer)


def _wide(values: Any) -> Any:
    """In float32 at least: sums of 16-bit numbers lose what is small."""
    return jnp.asarray(values, at_least_single(jnp.result_type(values)))


def _check_classification(logits: Any, y: Any) -> None:
    one_array(logits, "CLASSIFICATION")
    shape = np.shape(logits)
    if len(shape) != 2 or shape[-1] < 2 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"the outputs are {logits.dtype} of shape {shape}, and classification needs logits, "
            "floats of shape (examples, classes) with two classes or more. For numbers to be "
            "predicted pass task=mcjax.tasks.REGRESSION, for logits at every position of a "
            "sequence task=mcjax.tasks.NEXT_TOKEN; a single logit for two classes can be read as "
            "task=mcjax.tasks.CLASSIFICATION.reading(lambda z: "
            "jnp.concatenate([0 * z, z], -1)) with z of shape (examples, 1)"
        )
    _check_classes(y, shape, "classification")


def _check_classes(y: Any, shape: tuple[int, ...], task: str, ignored: int | None = None) -> None:
    """Raise unless labels are integer classes, or rows of probabilities, for logits of a shape."""
    if not hasattr(y, "dtype"):
        raise ValueError(f"y: {task} needs labels that are one array, got a {type(y).__name__}")
    classes = shape[-1]
    if _are_classes(y):
        if np.shape(y) != shape[:-1]:
            hint = "; for rows of probabilities pass floats, y.astype(float)"
            raise ValueError(
                f"y: integer labels of shape {np.shape(y)} for logits of shape {shape}; expected "
                f"shape {shape[:-1]}{hint if np.shape(y) == shape else ''}"
            )
        values = _at_hand(y)
        if values is not None and values.size:
            counted = values[values != ignored] if ignored is not None else values
            low, high = (counted.min(), counted.max()) if counted.size else (0, 0)
            if low < 0 or high >= classes:
                raise ValueError(
                    f"y: labels lie in [{low}, {high}], expected classes from 0 to {classes - 1}, "
                    f"as the logits have {classes}"
                )
        return
    if np.shape(y) != shape or not jnp.issubdtype(y.dtype, jnp.floating):
        hint = ""
        if np.shape(y) == shape[:-1]:
            hint = "; if these are classes, cast them to integers, y.astype(int)"
        raise ValueError(
            f"y: {task} takes integer classes of shape {shape[:-1]}, or probabilities of the "
            f"classes of shape {shape}; got {y.dtype} of shape {np.shape(y)}{hint}. For numbers to "
            "be predicted pass task=mcjax.tasks.REGRESSION"
        )
    values = _at_hand(y)
    if values is not None and values.size:
        values = values.astype(np.float64)
        off = float(np.max(np.abs(values.sum(-1) - 1)))
        if not (values.min() >= 0 and off <= _SUM_TOLERANCE):
            raise ValueError(
                "y: rows of probabilities must be ≥ 0 and sum to 1; the least value is "
                f"{float(values.min()):.4g} and a sum is off by {off:.4g}. For numbers to be "
                "predicted pass task=mcjax.tasks.REGRESSION"
            )


# -- regression ----------------------------------------------------------------------------


def squared_error(outputs: Any, y: Any) -> Any:
    """(f − y)², the mean over all axes but the first."""
    return _mean_per_example((_wide(outputs) - y) ** 2)


def absolute_error(outputs: Any, y: Any) -> Any:
    """|f − y|, the mean over all axes but the first."""
    return _mean_per_example(jnp.abs(_wide(outputs) - y))


def _mean_per_example(values: Any) -> Any:
    return jnp.mean(values.reshape(values.shape[0], -1), 1)


def _check_regression(outputs: Any, y: Any) -> None:
    one_array(outputs, "REGRESSION")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"the outputs are {outputs.dtype}, and regression needs floats")
    if not hasattr(y, "dtype"):
        raise ValueError(f"y: regression needs targets that are one array, got a {_kind(y)}")
    shape, wanted = np.shape(y), np.shape(outputs)
    if shape != wanted:
        same = np.prod(shape) == np.prod(wanted) and shape[:1] == wanted[:1]
        hint = f"; reshape one of them, as y.reshape({wanted})" if same else ""
        raise ValueError(
            f"y: regression needs targets of the outputs' shape {wanted}, got shape {shape}{hint}"
        )
    if not _is_real(y.dtype):
        raise ValueError(f"y: regression needs targets that are numbers, got {y.dtype}")
    values = _at_hand(y)
    if values is not None and not np.isfinite(values.astype(np.float64)).all():
        raise ValueError("y: the targets hold NaN or infinite values")


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _kind(value: Any) -> str:
    return type(value).__name__


# -- next-token prediction -------------------------------------------------------------------


def token_cross_entropy(logits: Any, tokens: Any) -> Any:
    """The mean of −log softmax(logits)[token] over the positions of each example that count."""
    counted = _counted(tokens)
    tokens = jnp.where(counted, tokens, 0)
    losses = _of_classes(_wide(logits), tokens)
    return _mean_where(losses, counted)


def token_accuracy(logits: Any, tokens: Any) -> Any:
    """The share of positions that count where the largest logit is the token's."""
    counted = _counted(tokens)
    return _mean_where(accuracy(logits, jnp.where(counted, tokens, 0)), counted)


def _counted(tokens: Any) -> Any:
    """Which tokens count; all of those that cannot be negative."""
    if jnp.issubdtype(tokens.dtype, jnp.unsignedinteger):
        return jnp.ones(jnp.shape(tokens), bool)
    return tokens != IGNORED


def _mean_where(values: Any, counted: Any) -> Any:
    """The mean over all axes but the first, 0 where nothing counts."""
    axes = tuple(range(1, values.ndim))
    total = jnp.sum(jnp.where(counted, values, 0), axes)
    return total / jnp.maximum(jnp.sum(counted, axes), 1)


def _check_next_token(logits: Any, tokens: Any) -> None:
    one_array(logits, "NEXT_TOKEN")
    shape = np.shape(logits)
    floats = jnp.issubdtype(logits.dtype, jnp.floating)
    integers = hasattr(tokens, "dtype") and _are_classes(tokens)
    if len(shape) != 3 or not floats or not integers:
        got = f"{tokens.dtype} of shape {np.shape(tokens)}" if hasattr(tokens, "dtype") else "none"
        raise ValueError(
            "next-token prediction needs logits of shape (examples, positions, vocabulary) and y "
            "the token that each position should predict, integers of shape (examples, "
            f"positions); got outputs of shape {shape} and y {got}"
        )
    _check_classes(tokens, shape, "next-token prediction", IGNORED)
    values = _at_hand(tokens)
    if values is not None and values.size:
        none = np.flatnonzero((values == IGNORED).all(1))
        if none.size:
            raise ValueError(
                f"y: no token of example {none[0]} counts (all are {IGNORED}); leave such examples "
                f"out, {none.size} of {len(values)}"
            )


# -- what there is ---------------------------------------------------------------------------


CLASSIFICATION = Task(
    "classification",
    {"loss": cross_entropy, "accuracy": accuracy},
    {"loss": "high", "accuracy": "low"},
    check=_check_classification,
    axes={"loss": "cross-entropy", "accuracy": "accuracy (%)"},
)
"""Logits and integer classes, or rows of probabilities."""

REGRESSION = Task(
    "regression",
    {"loss": squared_error, "absolute_error": absolute_error},
    {"loss": "high", "absolute_error": "high"},
    check=_check_regression,
    axes={"loss": "mean squared error", "absolute_error": "mean absolute error"},
)
"""Floats and targets of the same shape."""

NEXT_TOKEN = Task(
    "next-token prediction",
    {"loss": token_cross_entropy, "accuracy": token_accuracy},
    {"loss": "high", "accuracy": "low"},
    check=_check_next_token,
    axes={"loss": "cross-entropy (nats a token)", "accuracy": "accuracy (%)"},
)
"""Logits for every position, y the token that each position should predict (−100: none)."""

TASKS: Mapping[str, Task] = {
    "classification": CLASSIFICATION,
    "regression": REGRESSION,
    "next-token": NEXT_TOKEN,
}


def from_dict(values: Mapping[str, Any]) -> Task:
    """The task that `Task.to_dict` describes: one of `TASKS`, or one that can only be shown.

    The metrics of the latter raise, as a file holds no functions.
    """
    for task in TASKS.values():
        if dict(values) == task.to_dict():
            return task
    metrics = dict.fromkeys(values["worse"], _not_in_a_file)
    return Task(values["name"], metrics, values["worse"], values["loss"], axes=values["axes"])


def _not_in_a_file(outputs: Any, y: Any) -> Any:
    raise ValueError("this task was read from a file of results, which holds no functions")


# -- checks that the tasks share -------------------------------------------------------------


def _at_hand(y: Any) -> np.ndarray | None:
    """The values of labels; None for types, under a transformation or where hosts share them."""
    if isinstance(y, jax.ShapeDtypeStruct) or not is_concrete(y):
        return None
    if isinstance(y, jax.Array) and not y.is_fully_addressable:
        return None
    return np.asarray(jax.device_get(y))


def one_array(outputs: Any, task: str) -> None:
    """Raise unless outputs are one array; `task`: the name of its constant."""
    if hasattr(outputs, "shape"):
        return
    inside = ", ".join(f"{n}: {np.shape(v)}" for n, v in named_leaves(outputs))
    raise ValueError(
        f"{task.lower().replace('_', '-')} needs outputs that are one array, and apply_fn returns "
        f"a {type(outputs).__name__} ({inside or 'no arrays'}). Say which part counts: "
        f"task=mcjax.tasks.{task}.reading(lambda out: out{_first_part(outputs)})"
    )


def _first_part(tree: Any) -> str:
    """How one writes the first part of a pytree (that called logits, if there is one)."""
    fields = [k.name for k in dataclasses.fields(tree)] if dataclasses.is_dataclass(tree) else ()
    fields = fields or getattr(tree, "_fields", ())
    if fields:
        return f".{'logits' if 'logits' in fields else fields[0]}"
    if isinstance(tree, dict):
        return "['logits']" if "logits" in tree or not tree else f"[{next(iter(tree))!r}]"
    return "[0]"


__all__ = [
    "CLASSIFICATION",
    "NEXT_TOKEN",
    "REGRESSION",
    "TASKS",
    "Task",
    "absolute_error",
    "accuracy",
    "cross_entropy",
    "from_dict",
    "one_array",
    "require",
    "squared_error",
    "token_accuracy",
    "token_cross_entropy",
]
