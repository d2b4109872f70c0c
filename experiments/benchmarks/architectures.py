"""Published architectures at their sizes, in plain JAX with random weights.

ResNet50 (He et al. 2016), ViT-B/16 (Dosovitskiy et al. 2021), GPT-2 small (Radford et al. 2019) and
a decoder of 0.5 B in bfloat16 as Llama's are built (Touvron et al. 2023): RMSNorm, rotary
positions, grouped queries, gated units; its shape is Qwen2's of 0.5 B (Yang et al. 2024), without
biases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A model: shapes of its leaves, what it computes, inputs and labels.

    - `shapes()`: pytree of shapes
    - `apply(params, x)`: logits
    - `inputs(n)`, `labels(n)`: of n examples
    """

    shapes: Callable[[], Any]
    apply: Callable[[Any, Any], jax.Array]
    inputs: Callable[[int], np.ndarray]
    labels: Callable[[int], np.ndarray]
    dtype: Any = jnp.float32

    def init(self, seed: int) -> Any:
        """Random parameters of about the scale at which a network starts."""
        rng = np.random.default_rng(seed)

        def values(path: Any, shape: tuple[int, ...]) -> jax.Array:
            name = path[-1].key
            if name in ("scale", "var"):
                noise = 1 + 0.1 * rng.random(shape, np.float32)
            elif name in ("shift", "b", "mean"):
                noise = 0.1 * rng.standard_normal(shape, np.float32)
            else:
                of = shape[1:-1] if name.startswith("layers_") else shape[:-1]
                noise = rng.standard_normal(shape, np.float32)
                noise *= np.float32(0.1 if name in ("table", "position") else math.prod(of) ** -0.5)
            return jnp.asarray(noise, self.dtype)

        def is_shape(v: Any) -> bool:
            return isinstance(v, tuple)

        return jax.tree_util.tree_map_with_path(values, self.shapes(), is_leaf=is_shape)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 224, 224, 3), np.float32)


def classes(n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 1000, n)


def tokens(vocabulary: int, length: int = 64) -> Callable[[int], np.ndarray]:
    def draw(n: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, vocabulary, (n, length)).astype(np.int32)

    return draw


# -- ResNet50 ------------------------------------------------------------------------------

_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


def _bn(n: int) -> dict:
    return dict.fromkeys(("scale", "shift", "mean", "var"), (n,))


def _resnet_shapes() -> Any:
    def unit(size: int, inside: int, width: int) -> dict:
        return {"w": (size, size, inside, width), "bn": _bn(width)}

    blocks, inside = [], 64
    for width, depth in _STAGES:
        for i in range(depth):
            block = {"1": unit(1, inside, width), "2": unit(3, width, width),
                     "3": unit(1, width, 4 * width)}  # fmt: skip
            if i == 0:
                block["shortcut"] = unit(1, inside, 4 * width)
            blocks.append(block)
            inside = 4 * width
    head = {"w": (inside, 1000), "b": (1000,)}
    return {"stem": unit(7, 3, 64), "blocks": blocks, "head": head}


def _conv(p: Any, h: jax.Array, stride: int = 1) -> jax.Array:
    dims = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(h, p["w"], (stride,) * 2, "SAME", dimension_numbers=dims)
    bn = p["bn"]
    return (h - bn["mean"]) * jax.lax.rsqrt(bn["var"] + 1e-5) * bn["scale"] + bn["shift"]


def _resnet(p: Any, x: jax.Array) -> jax.Array:
    h = jax.nn.relu(_conv(p["stem"], x, 2))
    h = jax.lax.reduce_window(
        h, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
    )  # fmt: skip
    for i, block in enumerate(p["blocks"]):
        stride = 2 if i and "shortcut" in block else 1
        y = jax.nn.relu(_conv(block["1"], h))
        y = _conv(block["3"], jax.nn.relu(_conv(block["2"], y, stride)))
        h = jax.nn.relu(y + (_conv(block["shortcut"], h, stride) if "shortcut" in block else h))
    return h.mean((1, 2)) @ p["head"]["w"] + p["head"]["b"]


# -- ViT-B/16 and GPT-2 small --------------------------------------------------------------


def _norm(n: int) -> dict:
    return {"scale": (n,), "shift": (n,)}


def _dense_shapes(n: int, m: int) -> dict:
    return {"w": (n, m), "b": (m,)}


def _block_shapes(n: int) -> dict:
    return {"first": _norm(n), "qkv": _dense_shapes(n, 3 * n), "out": _dense_shapes(n, n),
            "second": _norm(n), "up": _dense_shapes(n, 4 * n),
            "down": _dense_shapes(4 * n, n)}  # fmt: skip


def _normalise(p: Any, h: jax.Array) -> jax.Array:
    h = h - h.mean(-1, keepdims=True)
    return h * jax.lax.rsqrt((h**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["shift"]


def _dense(p: Any, h: jax.Array) -> jax.Array:
    return h @ p["w"] + p["b"]


def _block(p: Any, h: jax.Array, heads: int, mask: jax.Array | None = None) -> jax.Array:
    fused = _dense(p["qkv"], _normalise(p["first"], h))
    q, k, v = (a.reshape(*h.shape[:2], heads, -1) for a in jnp.split(fused, 3, -1))
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
    h = h + _dense(p["out"], mixed.reshape(h.shape))
    return h + _dense(p["down"], jax.nn.gelu(_dense(p["up"], _normalise(p["second"], h))))


def _vit_shapes(n: int = 768) -> Any:
    return {"patches": {"w": (16, 16, 3, n), "b": (n,)}, "class": {"table": (n,)},
            "position": (197, n), "blocks": [_block_shapes(n) for _ in range(12)],
            "norm": _norm(n), "head": _dense_shapes(n, 1000)}  # fmt: skip


def _vit(p: Any, x: jax.Array) -> jax.Array:
    dims = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(
        x, p["patches"]["w"], (16, 16), "VALID", dimension_numbers=dims
    )
    h = (h + p["patches"]["b"]).reshape(len(x), -1, h.shape[-1])
    first = jnp.broadcast_to(p["class"]["table"], (len(h), 1, h.shape[-1]))
    h = jnp.concatenate([first, h], 1) + p["position"]
    for block in p["blocks"]:
        h = _block(block, h, 12)
    return _dense(p["head"], _normalise(p["norm"], h)[:, 0])


def _gpt2_shapes(n: int = 768) -> Any:
    return {"table": (50_257, n), "position": (1024, n),
            "blocks": [_block_shapes(n) for _ in range(12)], "norm": _norm(n)}  # fmt: skip


def _gpt2(p: Any, x: jax.Array) -> jax.Array:
    h = p["table"][x] + p["position"][: x.shape[1]]
    mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
    for block in p["blocks"]:
        h = _block(block, h, 12, mask)
    return _normalise(p["norm"], h) @ p["table"].T


# -- A decoder of 0.5 B --------------------------------------------------------------------

_DEPTH, _WIDTH, _HIDDEN, _HEADS, _KEYS, _HEAD = 24, 896, 4864, 14, 2, 64


def _decoder_shapes() -> Any:
    n, d = _WIDTH, _HEAD
    layers = {"scale": (n,), "layers_q": (n, _HEADS * d), "layers_k": (n, _KEYS * d),
              "layers_v": (n, _KEYS * d), "layers_o": (_HEADS * d, n),
              "layers_gate": (n, _HIDDEN), "layers_up": (n, _HIDDEN),
              "layers_down": (_HIDDEN, n)}  # fmt: skip
    layers = {k: (_DEPTH, *shape) for k, shape in layers.items()}
    layers["second"] = {"scale": layers["scale"]}  # type: ignore[assignment]
    return {"table": (151_936, n), "layers": layers, "scale": (n,)}


def _rms(scale: jax.Array, h: jax.Array) -> jax.Array:
    wide = h.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    return scale * wide.astype(h.dtype)


def _rotate(h: jax.Array) -> jax.Array:
    """Rotary positions of (batch, position, heads, d)."""
    half = h.shape[-1] // 2
    angles = np.arange(h.shape[1])[:, None] / 10_000 ** (np.arange(half) / half)
    cos, sin = (jnp.asarray(f(angles), h.dtype)[:, None] for f in (np.cos, np.sin))
    first, second = jnp.split(h, 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def _decoder(p: Any, x: jax.Array) -> jax.Array:
    n, length = x.shape
    mask = jnp.tril(jnp.ones((length, length), bool))

    def layer(h: jax.Array, p: Any) -> tuple[jax.Array, None]:
        y = _rms(p["scale"], h)
        q = _rotate((y @ p["layers_q"]).reshape(n, length, _HEADS, _HEAD))
        k = _rotate((y @ p["layers_k"]).reshape(n, length, _KEYS, _HEAD))
        v = (y @ p["layers_v"]).reshape(n, length, _KEYS, _HEAD)
        q = q.reshape(n, length, _KEYS, _HEADS // _KEYS, _HEAD)
        scores = jnp.einsum("btkgd,bskd->bkgts", q, k) / math.sqrt(_HEAD)
        weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf).astype(jnp.float32))
        mixed = jnp.einsum("bkgts,bskd->btkgd", weights.astype(h.dtype), v)
        h = h + mixed.reshape(n, length, -1) @ p["layers_o"]
        y = _rms(p["second"]["scale"], h)
        gated = jax.nn.silu(y @ p["layers_gate"]) * (y @ p["layers_up"])
        return h + gated @ p["layers_down"], None

    h, _ = jax.lax.scan(layer, p["table"][x], p["layers"])
    return _rms(p["scale"], h) @ p["table"].T


def _text(shapes: Callable, apply: Callable, vocabulary: int, dtype: Any) -> Architecture:
    draw = tokens(vocabulary)
    return Architecture(shapes, apply, draw, draw, dtype)


ARCHITECTURES = {
    "resnet50": Architecture(_resnet_shapes, _resnet, images, classes),
    "vit-b16": Architecture(_vit_shapes, _vit, images, classes),
    "gpt2-small": _text(_gpt2_shapes, _gpt2, 50_257, jnp.float32),
    "decoder-0.5b": _text(_decoder_shapes, _decoder, 151_936, jnp.bfloat16),
}
