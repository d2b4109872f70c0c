"""Models every part of mcjax is tested on, with the groups a person would expect.

`MODELS[name]()` returns a `Case`; `shapes` is the multiset of group shapes, written down by
hand from the architecture (never from what the code found).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from .cases import Case, by_hand, drawn, images, linen, tokens, vectors
from .idioms import IDIOMS


def norm():
    return nn.BatchNorm(use_running_average=True)


class MLP(nn.Module):
    widths: tuple[int, ...] = (8, 9)
    outputs: int = 4

    @nn.compact
    def __call__(self, x):
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.outputs)(x)


class ConvNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.Conv(6, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Conv(7, (3, 3))(x))
        x = nn.relu(nn.Dense(9)(x.reshape(x.shape[0], -1)))
        return nn.Dense(4)(x)


class VGG(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (4, "M", 6, "M"):
            if width == "M":
                x = nn.max_pool(x, (2, 2), (2, 2))
            else:
                x = nn.relu(norm()(nn.Conv(width, (3, 3))(x)))
        return nn.Dense(4)(nn.relu(nn.Dense(8)(x.reshape(x.shape[0], -1))))


class Block(nn.Module):
    width: int
    stride: int = 1
    shortcut: str = "projection"

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(self.width, (3, 3), strides=self.stride, use_bias=False)(x)
        y = norm()(nn.Conv(self.width, (3, 3), use_bias=False)(nn.relu(norm()(y))))
        if self.stride != 1 or x.shape[-1] != self.width:
            if self.shortcut == "pad":
                extra = (self.width - x.shape[-1]) // 2
                x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (extra, extra)))
            else:
                x = nn.Conv(self.width, (1, 1), strides=self.stride, use_bias=False)(x)
                x = norm()(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    widths: tuple[int, ...] = (16, 32, 64)
    shortcut: str = "projection"
    blocks: int = 2

    @nn.compact
    def __call__(self, x):
        x = nn.relu(norm()(nn.Conv(self.widths[0], (3, 3), use_bias=False)(x)))
        for i, width in enumerate(self.widths):
            for j in range(self.blocks):
                x = Block(width, 2 if i and not j else 1, self.shortcut)(x)
        return nn.Dense(10)(x.mean((1, 2)))


class Inception(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        branches = [
            nn.relu(nn.Conv(3, (1, 1))(x)),
            nn.relu(nn.Conv(4, (3, 3))(nn.relu(nn.Conv(5, (1, 1))(x)))),
            nn.Conv(2, (1, 1))(nn.max_pool(x, (3, 3), (1, 1), "SAME")),
        ]
        x = nn.relu(norm()(jnp.concatenate(branches, -1)))
        return nn.Dense(4)(nn.relu(nn.Conv(7, (3, 3))(x)).mean((1, 2)))


class DenseNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3))(x)
        for growth in (3, 4, 5):
            y = nn.Conv(growth, (3, 3))(nn.relu(norm()(x)))
            x = jnp.concatenate([x, y], -1)
        return nn.Dense(4)(nn.relu(norm()(x)).mean((1, 2)))


class Separable(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        x = nn.relu(norm()(nn.Conv(6, (3, 3), feature_group_count=6)(x)))
        x = nn.relu(nn.Conv(8, (1, 1))(x))
        return nn.Dense(4)(x.mean((1, 2)))


class Grouped(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        x = nn.relu(nn.Conv(9, (3, 3), feature_group_count=3)(x))
        return nn.Dense(4)(x.mean((1, 2)))


class GroupNormNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(num_groups=2)(nn.Conv(8, (3, 3))(x)))
        x = x + nn.relu(nn.GroupNorm(num_groups=2)(nn.Conv(8, (3, 3))(x)))
        return nn.Dense(4)(x.reshape(x.shape[0], -1))


class Norms(nn.Module):
    norm: Any

    @nn.compact
    def __call__(self, x):
        for width in (8, 9):
            x = nn.relu(self.norm()(nn.Dense(width)(x)))
        return nn.Dense(4)(x)


class Transformer(nn.Module):
    layers: int = 2
    width: int = 8
    heads: int = 2
    vocabulary: int = 20

    @nn.compact
    def __call__(self, x):
        x = nn.Embed(self.vocabulary, self.width)(x)
        x = x + self.param("position", nn.initializers.normal(0.1), x.shape[1:])
        for _ in range(self.layers):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(self.heads)(y)
            y = nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width)(y)
        return nn.Dense(4)(nn.LayerNorm()(x).mean(1))


class SqueezeExcite(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        gate = nn.sigmoid(nn.Dense(6)(nn.relu(nn.Dense(3)(x.mean((1, 2))))))
        x = nn.relu(nn.Conv(5, (3, 3))(x * gate[:, None, None, :]))
        return nn.Dense(4)(x.mean((1, 2)))


class Recurrent(nn.Module):
    cell: Any

    @nn.compact
    def __call__(self, x):
        states: Any = nn.RNN(self.cell(6))(x)
        return nn.Dense(4)(states[:, -1])


class ScanBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(6)(nn.relu(nn.Dense(5)(x))), None


class ScanNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6)(x)
        scan = nn.scan(ScanBlock, {"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scan()(x, None)
        return nn.Dense(4)(x)


def transformer_shapes(layers=2, width=8, heads=2):
    inner = [(heads,), (heads, width // heads), (heads, width // heads), (2 * width,)]
    return [(width,), *inner * layers]


def equinox_mlp() -> Case:
    model = eqx.nn.MLP(6, 4, 8, 2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_array)

    def apply_fn(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    return Case(apply_fn, params, vectors(), Counter([(8,), (8,)]))


def nnx_mlp() -> Case:
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(6, 8, rngs=rngs)
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.last = nnx.Linear(8, 4, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.norm(self.first(x))))

    graph, state = nnx.split(Model(nnx.Rngs(0)))

    def apply_fn(params, x):
        return nnx.merge(graph, params)(x)

    return Case(apply_fn, state, vectors(), Counter([(8,)]))


def fused_attention(how: str) -> Case:
    """12-wide residual stream, 4 heads of 6: q and k share units, v has its own."""

    def apply_fn(p, x):
        h = x @ p["in"]
        fused = h @ p["qkv"]
        if how == "reshape":
            q, k, v = jnp.moveaxis(fused.reshape(*h.shape[:2], 3, 4, 6), 2, 0)
        elif how == "split":
            q, k, v = (a.reshape(*h.shape[:2], 4, 6) for a in jnp.split(fused, 3, -1))
        else:  # heads first, q k v inside each head
            q, k, v = jnp.split(fused.reshape(*h.shape[:2], 4, 18), 3, -1)
        s = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
        h = h + jnp.einsum("bhts,bshd->bthd", s, v).reshape(*h.shape[:2], -1) @ p["o"]
        return jnp.mean(h, 1) @ p["out"]

    shapes = {"in": (5, 12), "qkv": (12, 72), "o": (24, 12), "out": (12, 3)}
    return by_hand(
        apply_fn, shapes, drawn((3, 6, 5)),
        [(12,), (4,), (4, 6), (4, 6)],
    )  # fmt: skip


def grouped_query() -> Case:
    """2 key-value heads, 3 query heads each, 4 units a head."""

    def apply_fn(p, x):
        h = x @ p["in"]
        q = (h @ p["q"]).reshape(*h.shape[:2], 2, 3, 4)
        k = (h @ p["k"]).reshape(*h.shape[:2], 2, 4)
        v = (h @ p["v"]).reshape(*h.shape[:2], 2, 4)
        s = jax.nn.softmax(jnp.einsum("btkgd,bskd->bkgts", q, k))
        return jnp.einsum("bkgts,bskd->btkgd", s, v).reshape(*h.shape[:2], -1) @ p["o"]

    shapes = {"in": (5, 12), "q": (12, 24), "k": (12, 8), "v": (12, 8), "o": (24, 3)}
    x = drawn((3, 6, 5))
    return by_hand(apply_fn, shapes, x, [(12,), (2,), (2, 3), (2, 4), (2, 4)])


def experts() -> Case:
    """4 experts with 5 hidden units each; the experts themselves are interchangeable."""

    def apply_fn(p, x):
        h = x @ p["in"]
        gate = jax.nn.softmax(h @ p["gate"])
        y = jnp.einsum("beh,ehd->bed", jax.nn.relu(jnp.einsum("bd,edh->beh", h, p["up"])),
                       p["down"])  # fmt: skip
        return (h + jnp.einsum("be,bed->bd", gate, y)) @ p["out"]

    shapes = {"in": (6, 7), "gate": (7, 4), "up": (4, 7, 5), "down": (4, 5, 7), "out": (7, 3)}
    return by_hand(apply_fn, shapes, vectors(), [(7,), (4,), (4, 5)])


def scanned() -> Case:
    def apply_fn(p, x):
        def step(h, w):
            return h + jnp.tanh(h @ w["a"]) @ w["b"], None

        h, _ = jax.lax.scan(step, x @ p["in"], {"a": p["a"], "b": p["b"]})
        return h @ p["out"]

    shapes = {"in": (6, 7), "a": (3, 7, 5), "b": (3, 5, 7), "out": (7, 3)}
    return by_hand(apply_fn, shapes, vectors(), [(7,), (3, 5)])


def stacked_layers() -> Case:
    """Layers stacked in one array and indexed in a Python loop."""

    def apply_fn(p, x):
        h = x @ p["in"]
        for i in range(3):
            h = h + jax.nn.relu(h @ p["a"][i]) @ p["b"][i]
        return h @ p["out"]

    shapes = {"in": (6, 7), "a": (3, 7, 5), "b": (3, 5, 7), "out": (7, 3)}
    return by_hand(apply_fn, shapes, vectors(), [(7,), (5,), (5,), (5,)])


def remat_and_tied() -> Case:
    @jax.checkpoint
    def block(p, h):
        return h + jax.jit(jax.nn.gelu)(h @ p["a"]) @ p["b"]

    def apply_fn(p, x):
        return block(p, p["table"][x]) @ p["table"].T

    shapes = {"table": (20, 6), "a": (6, 9), "b": (9, 6)}
    return by_hand(apply_fn, shapes, tokens(), [(6,), (9,)])


MODELS: dict[str, Callable[[], Case]] = {
    "mlp": lambda: linen(MLP(), vectors(), [(8,), (9,)]),
    "convnet": lambda: linen(ConvNet(), images(), [(6,), (7,), (9,)]),
    "vgg-bn": lambda: linen(VGG(), images(), [(4,), (6,), (8,)]),
    "resnet-projection": lambda: linen(ResNet(), images(), [(16,)] * 3 + [(32,)] * 3 + [(64,)] * 3),
    "resnet-pad": lambda: linen(
        ResNet(shortcut="pad"),
        images(),
        [(16,)] * 3 + [(32,)] * 2 + [(8,)] * 2 + [(64,)] * 2 + [(16,)] * 2,
    ),
    "inception": lambda: linen(Inception(), images(), [(6,), (3,), (4,), (5,), (2,), (7,)]),
    "densenet": lambda: linen(DenseNet(), images(), [(6,), (3,), (4,), (5,)]),
    "separable": lambda: linen(Separable(), images(), [(6,), (8,)]),
    "grouped-convolution": lambda: linen(Grouped(), images(), [(3,), (3, 2), (3, 3)]),
    "groupnorm": lambda: linen(GroupNormNet(), images(), [(2,), (2, 4)]),
    "layernorm": lambda: linen(Norms(nn.LayerNorm), vectors(), [(8,), (9,)]),
    "rmsnorm": lambda: linen(Norms(nn.RMSNorm), vectors(), [(8,), (9,)]),
    "transformer": lambda: linen(Transformer(), tokens(), transformer_shapes()),
    "squeeze-excitation": lambda: linen(SqueezeExcite(), images(), [(6,), (3,), (5,)]),
    "equinox-mlp": equinox_mlp,
    "nnx-mlp": nnx_mlp,
    "scan": scanned,
    "linen-scan": lambda: linen(ScanNet(), vectors(), [(6,), (3, 5)]),
    "gru": lambda: linen(Recurrent(nn.GRUCell), drawn((3, 5, 4)), [(6,)]),
    "lstm": lambda: linen(Recurrent(nn.OptimizedLSTMCell), drawn((3, 5, 4)), [(6,)]),
    "attention-fused-reshape": lambda: fused_attention("reshape"),
    "attention-fused-split": lambda: fused_attention("split"),
    "attention-fused-heads-first": lambda: fused_attention("heads"),
    "attention-grouped-query": grouped_query,
    "experts": experts,
    "stacked-layers": stacked_layers,
    "remat-tied-embedding": remat_and_tied,
    **IDIOMS,
}

# Models that differ from another one in how they are written, not in what mcjax does with them:
# outside the tracer's tests they are tried in slow runs only.
NEAR_TWINS = (
    "resnet-pad", "equinox-mlp", "linen-scan", "attention-fused-split",
    "attention-fused-heads-first", *(name for name in IDIOMS if name != "unet-groupnorm"),
)  # fmt: skip
