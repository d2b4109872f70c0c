"""Haiku's networks, its recurrent cores and its attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .row import Groups, Model, Row, attention, resnet, times, together

FRAMEWORK = "haiku"


def row(name: str, forward: Callable[..., Any], shape: tuple[int, ...], groups: Groups | None,
        **more: Any) -> Row:  # fmt: skip
    """`forward(x)`: the outputs, as Haiku transforms it, with state."""

    def build() -> Model:
        import haiku as hk

        f = hk.transform_with_state(forward)
        # Haiku makes moving averages in training mode alone, and after a step they are some: of
        # several images, since two may have next to no variance.
        x = np.random.default_rng(0).normal(size=(16, *shape)).astype("f4")
        mode = {"training": True} if "training" in forward.__code__.co_varnames else {}

        @jax.jit
        def start(key: Any) -> Any:
            params, state = f.init(key, x, **mode)
            return params, f.apply(params, state, None, x, **mode)[1]

        return lambda p, x: f.apply(*p, None, x)[0], start(jax.random.key(0)), x[:2]

    return Row(name, FRAMEWORK, build, groups, **more)


def net(name: str, **options: Any) -> Callable[..., Any]:
    def forward(x: Any, training: bool = False) -> Any:
        import haiku as hk

        return getattr(hk.nets, name)(num_classes=10, **options)(x, is_training=training)

    return forward


def mlp(x: Any) -> Any:
    import haiku as hk

    return hk.nets.MLP((48, 32, 16, 5))(x)


def recurrent(core: str, *args: Any, **options: Any) -> Callable[[Any], Any]:
    def forward(x: Any) -> Any:
        import haiku as hk

        cell = getattr(hk, core)(*args, **options)
        out, _ = hk.dynamic_unroll(cell, x, cell.initial_state(x.shape[0]), time_major=False)
        return hk.Linear(5)(out[:, -1].reshape(len(x), -1))

    return forward


def transformer(x: Any) -> Any:
    import haiku as hk

    def norm() -> Any:
        return hk.LayerNorm(-1, create_scale=True, create_offset=True)

    h = hk.Linear(32)(x)
    for _ in range(2):
        z = norm()(h)
        h = h + hk.MultiHeadAttention(4, 8, model_size=32, w_init_scale=1.0)(z, z, z)
        h = h + hk.nets.MLP((64, 32), activation=jax.nn.gelu)(norm()(h))
    return hk.Linear(5)(norm()(h).mean(1))


def quantized(x: Any) -> Any:
    """A VQ-VAE: vectors are replaced by the nearest of a code book."""
    import haiku as hk

    h = hk.nets.MLP((24, 16))(x)
    h = hk.nets.VectorQuantizer(16, 12, 0.25)(h, is_training=False)["quantize"]
    return hk.nets.MLP((24, 5))(h)


ROWS = [
    row("nets.MLP", mlp, (12,), {(48,): 1, (32,): 1, (16,): 1}),
    row("nets.ResNet18", net("ResNet18"), (32, 32, 3), resnet((2, 2, 2, 2), False)),
    row("nets.ResNet18 v2", net("ResNet18", resnet_v2=True), (32, 32, 3),
        resnet((2, 2, 2, 2), False)),
    row("nets.ResNet34", net("ResNet34"), (32, 32, 3), resnet((3, 4, 6, 3), False)),
    row("nets.ResNet50", net("ResNet50"), (32, 32, 3), resnet((3, 4, 6, 3), True)),
    row("nets.MobileNetV1", net("MobileNetV1"), (32, 32, 3),
        {(32,): 1, (64,): 1, (128,): 2, (256,): 2, (512,): 6, (1024,): 2}),
    row("VanillaRNN", recurrent("VanillaRNN", 24), (6, 8), {(24,): 1}),
    row("LSTM", recurrent("LSTM", 24), (6, 8), {(24,): 1}),
    row("GRU", recurrent("GRU", 24), (6, 8), {(24,): 1}),
    row("Conv1DLSTM", recurrent("Conv1DLSTM", (9,), 12, 3), (4, 9, 2), {(12,): 1}),
    row("MultiHeadAttention (a pre-norm transformer)", transformer, (7, 8),
        together({(32,): 1}, times(2, together(attention(4, 8), {(64,): 1})))),
    row("nets.VectorQuantizer (VQ-VAE)", quantized, (12,),
        {(24,): 2, (16,): 1, (12,): 1}),  # the 12 codes are chosen from by their distances
]  # fmt: skip
