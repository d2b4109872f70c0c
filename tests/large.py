"""CLIP (Radford et al. 2021) at its published size or smaller, in plain JAX.

`python -m tests.large` traces CLIP-B/32, matches a permuted copy by activations and prints what it
took: peak memory is a matter of a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Tower:
    width: int
    heads: int
    layers: int


@dataclasses.dataclass(frozen=True)
class Clip:
    """A contrastive model of images and texts; the defaults are CLIP-B/32."""

    vision: Tower = Tower(768, 12, 12)
    text: Tower = Tower(512, 8, 12)
    image: int = 224
    patch: int = 32
    tokens: int = 77
    vocabulary: int = 49_408
    joint: int = 512

    def shapes(self) -> Any:
        v, t = self.vision, self.text
        return {
            "vision": {
                "patches": (self.patch, self.patch, 3, v.width),
                "class": (v.width,),
                "position": ((self.image // self.patch) ** 2 + 1, v.width),
                "before": _norm(v.width),
                "blocks": [_block(v.width) for _ in range(v.layers)],
                "after": _norm(v.width),
                "projection": (v.width, self.joint),
            },
            "text": {
                "table": (self.vocabulary, t.width),
                "position": (self.tokens, t.width),
                "blocks": [_block(t.width) for _ in range(t.layers)],
                "after": _norm(t.width),
                "projection": (t.width, self.joint),
            },
            "temperature": (),
        }

    def init(self, seed: int) -> Any:
        """Generic parameters of about the scale at which a network starts."""
        rng = np.random.default_rng(seed)

        def values(path, shape):
            noise = rng.standard_normal(shape, np.float32)
            name = path[-1].key if isinstance(path[-1], jax.tree_util.DictKey) else ""
            if name == "scale":
                return 1 + 0.1 * noise
            if len(shape) < 2 or name in ("table", "position"):
                return np.float32(0.3) * noise
            return noise / np.float32(np.sqrt(np.prod(shape[:-1])))

        shapes = self.shapes()
        is_shape = lambda s: isinstance(s, tuple)
        return jax.tree_util.tree_map_with_path(
            lambda path, shape: jnp.asarray(values(path, shape)), shapes, is_leaf=is_shape
        )

    def inputs(self, n: int, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        text = rng.integers(1, self.vocabulary - 1, (n, self.tokens))
        last = rng.integers(2, self.tokens, n)
        text[np.arange(self.tokens) > last[:, None]] = 0
        text[np.arange(n), last] = self.vocabulary - 1  # the greatest token ends the text
        images = rng.standard_normal((n, self.image, self.image, 3), np.float32)
        return {"image": images, "text": text.astype(np.int32)}

    def __call__(self, p: Any, x: Any) -> jax.Array:
        """Logits of the images (rows) against the texts of the batch."""
        image, text = self.embed_images(p["vision"], x["image"]), self.embed_texts(p, x["text"])
        image, text = (v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in (image, text))
        return jnp.exp(p["temperature"]) * image @ text.T

    def embed_images(self, p: Any, x: jax.Array) -> jax.Array:
        h = jax.lax.conv_general_dilated(
            x, p["patches"], (self.patch,) * 2, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        h = h.reshape(h.shape[0], -1, h.shape[-1])
        first = jnp.broadcast_to(p["class"], (len(h), 1, h.shape[-1]))
        h = _normalise(p["before"], jnp.concatenate([first, h], 1) + p["position"])
        for block in p["blocks"]:
            h = _apply(block, h, self.vision.heads, None)
        return _normalise(p["after"], h[:, 0]) @ p["projection"]

    def embed_texts(self, p: Any, x: jax.Array) -> jax.Array:
        p = p["text"]
        h = p["table"][x] + p["position"]
        mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
        for block in p["blocks"]:
            h = _apply(block, h, self.text.heads, mask)
        h = _normalise(p["after"], h)
        return h[jnp.arange(len(x)), x.argmax(-1)] @ p["projection"]

    def groups(self) -> list[tuple[int, ...]]:
        """The shapes of the groups, by hand: a stream, and heads, keys, values, hidden units."""
        out = [(self.joint,)]
        for tower in (self.vision, self.text):
            inner = (tower.heads, tower.width // tower.heads)
            block = [(tower.heads,), inner, inner, (4 * tower.width,)]
            out += [(tower.width,), *block * tower.layers]
        return out


def _norm(n: int) -> dict:
    return {"scale": (n,), "shift": (n,)}


def _block(n: int) -> dict:
    return {
        "first": _norm(n),
        "qkv": {"w": (n, 3 * n), "b": (3 * n,)},
        "out": {"w": (n, n), "b": (n,)},
        "second": _norm(n),
        "up": {"w": (n, 4 * n), "b": (4 * n,)},
        "down": {"w": (4 * n, n), "b": (n,)},
    }


def _normalise(p: Any, h: jax.Array) -> jax.Array:
    h = h - h.mean(-1, keepdims=True)
    return h * jax.lax.rsqrt((h**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["shift"]


def _dense(p: Any, h: jax.Array) -> jax.Array:
    return h @ p["w"] + p["b"]


def _apply(p: Any, h: jax.Array, heads: int, mask: jax.Array | None) -> jax.Array:
    """A block that normalises first, with quick GELUs."""
    fused = _dense(p["qkv"], _normalise(p["first"], h))
    q, k, v = (a.reshape(*h.shape[:2], heads, -1) for a in jnp.split(fused, 3, -1))
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
    h = h + _dense(p["out"], mixed.reshape(h.shape))
    hidden = _dense(p["up"], _normalise(p["second"], h))
    return h + _dense(p["down"], hidden * jax.nn.sigmoid(1.702 * hidden))


SMALL = Clip(Tower(8, 2, 1), Tower(12, 3, 1), image=8, patch=4, tokens=6, vocabulary=20, joint=5)


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(n: int = 4) -> dict[str, float]:
    """CLIP-B/32 traced and matched with a permuted copy on n inputs."""
    import mcjax

    model = Clip()
    a, x = model.init(0), model.inputs(n)
    start = time.perf_counter()
    network = mcjax.trace(model.__call__, a, x, check=False)
    traced = time.perf_counter()
    p = network.random_permutations(jax.random.key(1))
    b = network.permute(p, a)
    before, begun = peak_bytes(), time.perf_counter()
    matching = mcjax.align.match_activations(network, a, b, x, chunk=n)
    done = time.perf_counter()
    inverse = mcjax.Action.of(network, p).inverse().permutations
    wrong = sum(int((matching.permutations[k] != np.asarray(inverse[k])).sum()) for k in inverse)
    return {
        "trace seconds": traced - start,
        "matching seconds": done - begun,
        "bytes before": before,
        "peak bytes": peak_bytes(),
        "parameter bytes": 2 * sum(v.nbytes for v in jax.tree.leaves(a)),
        "groups": len(network.groups),
        "wrong": wrong,
        "unmatched": len(matching.unmatched),
        "status": matching.status,
    }


if __name__ == "__main__":
    json.dump(measure(*map(int, sys.argv[1:])), sys.stdout)
