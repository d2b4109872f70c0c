"""Tasks: what a model's outputs are for, how they are scored, what labels go with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._tree import named_leaves
from ._types import Metric

# Labels of this value are no tokens: they count in no metric of next-token prediction.
IGNORED = -100
# How far from 1 the probabilities of an example may sum to.
_SUM_TOLERANCE = 1e-2


def _anything(outputs: Any, y: Any) -> None:
    """No check."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What the outputs of a model are for: metrics, the one to minimise, the labels it takes.

    Every function of mcjax that scores, trains, attacks or draws takes the same object.

    - `name`: as a table shows it
    - `metrics`: name → function (outputs, y) → one value for each example
    - `worse`: name → whether `"high"` or `"low"` values are the bad ones
    - `loss`: the metric that training minimises and attacks maximise
    - `check`: (outputs, y) → None; raises `ValueError` if outputs or labels are not of the task.
      It is given types for outputs, and values for labels where they are at hand
    - `axes`: name → what an axis of a figure is called (default: the name); a percentage where it
      ends in `(%)`
    - `read`: the part of what `apply_fn` returns that metrics and check are given

    Tasks with the same parts are equal, so nothing is compiled twice for them.

    **Raises:** `ValueError` for no metrics, or a metric without a direction.

        >>> import jax.numpy as jnp, mcjax
        >>> error = lambda outputs, y: jnp.max(jnp.abs(outputs - y), -1)
        >>> task = mcjax.Task("worst coordinate", {"loss": error}, {"loss": "high"})
        >>> task.worst("loss", jnp.array([0.5, 2.0]))
        2.0
    """

    name: str
    metrics: Mapping[str, Metric]
    worse: Mapping[str, str]
    loss: str = "loss"
    check: Callable[[Any, Any], None] = _anything
    axes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.loss not in self.metrics:
            raise ValueError(
                f"loss: {self.loss!r} is none of the metrics, {', '.join(self.metrics) or 'none'}"
            )
        for name in self.metrics:
            if self.worse.get(name) not in ("high", "low"):
                raise ValueError(
                    f"worse[{name!r}] must be 'high' or 'low' (which values of the metric are the "
                    f"bad ones), got {self.worse.get(name)!r}"
                )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        parts = (tuple(v.items()) for v in (self.metrics, self.worse, self.axes))
        return (self.name, self.loss, self.check, self.read, *parts)

    def reading(self, read: Callable[[Any], Any]) -> Task:
        """The same task on a part of what `apply_fn` returns, as `lambda out: out["logits"]`."""
        return dataclasses.replace(self, read=read)

    def adding(self, name: str, metric: Metric, *, worse: str) -> Task:
        """The task with one more metric."""
        return dataclasses.replace(
            self, metrics={**self.metrics, name: metric}, worse={**self.worse, name: worse}
        )

    def outputs(self, outputs: Any) -> Any:
        """The part of what `apply_fn` returns that counts."""
        return outputs if self.read is None else self.read(outputs)

    def values(self, outputs: Any, y: Any) -> dict[str, Any]:
        """Metric name → one value for each example."""
        outputs = self.outputs(outputs)
        return {name: metric(outputs, y) for name, metric in self.metrics.items()}

    def losses(self, outputs: Any, y: Any) -> Any:
        """The loss of each example."""
        return self.metrics[self.loss](self.outputs(outputs), y)

    def worst(self, name: str, values: Any) -> float:
        """The worst of some values of a metric; NaN if one is."""
        return float(np.max(values) if self.worse[name] == "high" else np.min(values))

    def axis(self, name: str) -> str:
        """What an axis of a figure is called."""
        return self.axes.get(name, name)

    def scale(self, name: str) -> float:
        """What values are multiplied by to be shown: 100 for percentages."""
        return 100.0 if self.axis(name).endswith("(%)") else 1.0


# -- classification ------------------------------------------------------------------------


def cross_entropy(logits: Any, labels: Any) -> Any:
    """−log softmax(logits)[label] per example; labels are integer classes or probabilities.

    **Arguments:**
    - `logits`: (…, classes); `labels`: (…,) integers or (…, classes) probabilities
    """
    if _are_classes(labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return optax.softmax_cross_entropy(logits, labels)


def accuracy(logits: Any, labels: Any) -> Any:
    """1 where the largest logit is the label's, else 0, per example; NaN where a logit is."""
    if not _are_classes(labels):
        labels = jnp.argmax(labels, -1)
    right = (jnp.argmax(logits, -1) == labels).astype(jnp.float32)
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, right)


def _are_classes(labels: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(labels), jnp.integer)


def _check_classification(logits: Any, y: Any) -> None:
    one_array(logits, "classification")
    shape = np.shape(logits)
    if len(shape) < 2 or shape[-1] < 2 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"the outputs are {logits.dtype} of shape {shape}, and classification needs logits, "
            "floats of shape (examples, classes) with two classes or more. For numbers to be "
            "predicted pass task=mcjax.tasks.REGRESSION; a single logit for two classes can be "
            "read as task=mcjax.tasks.CLASSIFICATION.reading(lambda z: "
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
            raise ValueError(
                f"y: integer labels of shape {np.shape(y)} for logits of shape {shape}; expected "
                f"shape {shape[:-1]}"
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
        off = float(np.max(np.abs(values.astype(np.float64).sum(-1) - 1)))
        if not (values.min() >= 0 and off <= _SUM_TOLERANCE):
            raise ValueError(
                "y: rows of probabilities must be ≥ 0 and sum to 1; the least value is "
                f"{float(values.min()):.4g} and a sum is off by {off:.4g}. For numbers to be "
                "predicted pass task=mcjax.tasks.REGRESSION"
            )


# -- regression ----------------------------------------------------------------------------


def squared_error(outputs: Any, y: Any) -> Any:
    """(f − y)², the mean over all axes but the first."""
    return _mean_per_example((outputs - y) ** 2)


def absolute_error(outputs: Any, y: Any) -> Any:
    """|f − y|, the mean over all axes but the first."""
    return _mean_per_example(jnp.abs(outputs - y))


def _mean_per_example(values: Any) -> Any:
    return jnp.mean(values.reshape(values.shape[0], -1), 1)


def _check_regression(outputs: Any, y: Any) -> None:
    one_array(outputs, "regression")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"the outputs are {outputs.dtype}, and regression needs floats")
    if not hasattr(y, "dtype") or np.shape(y) != np.shape(outputs):
        got = f"shape {np.shape(y)}" if hasattr(y, "dtype") else f"a {type(y).__name__}"
        raise ValueError(
            f"y: regression needs targets of the outputs' shape {np.shape(outputs)}, got {got}"
        )
    values = _at_hand(y)
    if values is not None and not np.isfinite(values.astype(np.float64)).all():
        raise ValueError("y: the targets hold NaN or infinite values")


# -- next-token prediction -------------------------------------------------------------------


def token_cross_entropy(logits: Any, tokens: Any) -> Any:
    """The mean of −log softmax(logits)[token] over the positions of each example that count."""
    counted = tokens != IGNORED
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counted, tokens, 0))
    return _mean_where(losses, counted)


def token_accuracy(logits: Any, tokens: Any) -> Any:
    """The share of positions that count where the largest logit is the token's."""
    right = accuracy(logits, jnp.where(tokens == IGNORED, 0, tokens))
    return _mean_where(right, tokens != IGNORED)


def _mean_where(values: Any, counted: Any) -> Any:
    """The mean over all axes but the first, 0 where nothing counts."""
    axes = tuple(range(1, values.ndim))
    total = jnp.sum(jnp.where(counted, values, 0), axes)
    return total / jnp.maximum(jnp.sum(counted, axes), 1)


def _check_next_token(logits: Any, tokens: Any) -> None:
    one_array(logits, "next-token prediction")
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


def _at_hand(y: Any) -> np.ndarray | None:
    """The values of labels, if they are on the host (a device array is not fetched for this)."""
    if isinstance(y, jax.core.Tracer | jax.ShapeDtypeStruct):
        return None
    return np.asarray(y)


def one_array(outputs: Any, task: str) -> None:
    """Raise unless outputs are one array."""
    if hasattr(outputs, "shape"):
        return
    inside = ", ".join(f"{n}: {np.shape(v)}" for n, v in named_leaves(outputs))
    raise ValueError(
        f"{task} needs outputs that are one array, and apply_fn returns a "
        f"{type(outputs).__name__} ({inside or 'no arrays'}). Say which part counts: "
        f"task=mcjax.tasks.CLASSIFICATION.reading(lambda out: out{_first_part(outputs)})"
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
