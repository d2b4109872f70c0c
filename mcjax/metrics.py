"""Metrics of a classifier: one value for each example."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from . import _check


def cross_entropy(logits: Any, labels: Any) -> Any:
    """−log softmax(logits)[label] per example; labels are integer classes or probabilities.

    **Raises:** `ValueError` for outputs that are not one array, or labels of another shape.
    """
    if _are_classes(logits, labels, "cross_entropy"):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return optax.softmax_cross_entropy(logits, labels)


def accuracy(logits: Any, labels: Any) -> Any:
    """1 where the largest logit is the label's, else 0, per example.

    **Raises:** `ValueError` for outputs that are not one array, or labels of another shape.
    """
    if not _are_classes(logits, labels, "accuracy"):
        labels = jnp.argmax(labels, -1)
    return (jnp.argmax(logits, -1) == labels).astype(jnp.float32)


def _are_classes(logits: Any, labels: Any, metric: str) -> bool:
    """Whether labels are classes, not probabilities; raise unless they are either."""
    _check.one_array(logits, metric)
    shape, dtype = np.shape(labels), jnp.result_type(labels)
    classes = jnp.issubdtype(dtype, jnp.integer)
    expected = np.shape(logits)[:-1] if classes else np.shape(logits)
    if shape != expected:
        kind = "classes" if classes else "probabilities of the classes"
        raise ValueError(
            f"y: the metric {metric} takes {dtype} labels for {kind} and expects them in shape "
            f"{expected}, as the logits are; got shape {shape}"
        )
    return classes
