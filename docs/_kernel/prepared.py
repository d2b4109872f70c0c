"""What `docs/index.md` says that every page starts from; it is imported before the page runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import shown  # noqa: F401

import mcjax

data = mcjax.data.load("digits").flat()
x, y = data.x_train, data.y_train
test = data.x_test, data.y_test
model = mcjax.models.MLP((32, 32))
apply_fn = model.apply
a, b, c = mcjax.training.train_networks(
    apply_fn,
    lambda key: model.init(key, x[:1]),
    (x, y),
    seeds=(0, 1, 2),
    protocol=mcjax.training.Protocol(epochs=20, batch=32, learning_rate=0.02),
)
protocol = mcjax.training.Protocol(epochs=2, batch=32, learning_rate=0.02)
network = mcjax.trace(apply_fn, a, x[:2])
key = jax.random.key(0)
matching = mcjax.align.match_activations(network, a, b, x)
aligned_b = matching.action(network)(b)

__all__ = [
    "a", "aligned_b", "apply_fn", "b", "c", "jax", "jnp", "key", "matching", "mcjax", "model",
    "network", "protocol", "test", "x", "y",
]  # fmt: skip
