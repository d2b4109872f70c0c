"""Metrics of a classifier: one value for each example."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from . import _check


def cross_entropy(logits: Any, labels: Any) -> Any:
    """−log softmax(logits)[label] per example; labels are integer classes or probabilities.

    **Raises:** `ValueError` for outputs that are not one array.
    """
    _check.one_array(logits, "cross_entropy")
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return optax.softmax_cross_entropy(logits, labels)


def accuracy(logits: Any, labels: Any) -> Any:
    """1 where the largest logit is the label's, else 0, per example.

    **Raises:** `ValueError` for outputs that are not one array.
    """
    _check.one_array(logits, "accuracy")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        labels = jnp.argmax(labels, -1)
    return (jnp.argmax(logits, -1) == labels).astype(jnp.float32)
