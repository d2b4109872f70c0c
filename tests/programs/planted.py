"""Random compositions of idioms whose symmetries a person can name: models with planted symmetries.

A model is a residual stream, or a chain, of a few blocks. Each block adds parameters, and says for
each of its groups where the units stand and which factors there are: (kind, leaves that it moves).
What a block does to the stream (a norm, an activation of the stream itself) narrows the stream's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# activation → (function, kinds of factors)
ACTIVATIONS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "tanh": (jnp.tanh, ("sign",)),
    "sin": (jnp.sin, ("sign",)),
    "relu": (jax.nn.relu, ("positive",)),
    "leaky": (jax.nn.leaky_relu, ("positive",)),
    "relu2": (lambda h: jax.nn.relu(h) ** 2, ("positive",)),
    "abs": (jnp.abs, ("positive", "sign")),
    "xabs": (lambda h: h * jnp.abs(h), ("positive", "sign")),
    "gelu": (jax.nn.gelu, ()),
    "silu": (jax.nn.silu, ()),
    "softplus": (jax.nn.softplus, ()),
    "linear": (lambda h: h, ("general linear",)),
}
# gate → (function, kinds of factors, those of what it multiplies among them)
GATES: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "glu": (jax.nn.sigmoid, ("positive", "sign")),
    "swiglu": (jax.nn.silu, ("positive", "sign")),
    "geglu": (jax.nn.gelu, ("positive", "sign")),
    "reglu": (jax.nn.relu, ("positive", "positive", "sign")),
    "tanh": (jnp.tanh, ("positive", "sign", "sign")),
    "bilinear": (lambda h: h, ("positive", "positive", "sign", "sign")),
}
# What is left of the stream's general linear group, largest first.
STREAMS = ("general linear", "orthogonal", "orthogonal fixing ones", "permutation")


@dataclasses.dataclass
class Planted:
    """A model and what it was made to admit.

    - `groups`: (a leaf and the axis on which its units stand, the kinds of factors, sorted)
    - `idioms`: what it was made of
    """

    params: dict[str, np.ndarray]
    steps: list[Callable[[dict, Any], Any]]
    x: np.ndarray
    groups: list[tuple[tuple[str, int], tuple[str, ...]]]
    idioms: list[str]

    def __call__(self, params: dict, x: Any) -> Any:
        for step in self.steps:
            x = step(params, x)
        return x


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.width = int(self.rng.choice([4, 5]))
        self.model = Planted({}, [], self.rng.normal(size=(2, 3, 3)), [], [])
        self.stream = 0  # into STREAMS: what is left
        self.scales = 0  # of norms: each has signs of its own against its reader,
        self.scalings = 0  # and scalings, unless the reader is divided by its length
        self.count = 0

    def param(self, *shape: int) -> str:
        name = f"p{self.count:02d}"
        self.count += 1
        self.model.params[name] = self.rng.normal(size=shape) / max(shape[0], 1) ** 0.5
        return name

    def choose(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def group(self, leaf: str, axis: int, kinds: tuple[str, ...]) -> None:
        self.model.groups.append(((leaf, axis), tuple(sorted(kinds))))

    def narrow(self, to: int) -> None:
        self.stream = max(self.stream, to)

    # -- blocks: functions of (parameters, normalised stream) → what is added -----------------

    def mlp(self) -> Callable:
        name, n = self.choose(list(ACTIVATIONS)), int(self.rng.choice([2, 3]))
        act, kinds = ACTIVATIONS[name]
        self.model.idioms.append(name)
        w, o = self.param(self.width, n), self.param(n, self.width)
        b = self.param(n) if self.chance(0.5) else None
        self.group(w, 1, kinds)
        return lambda p, h: act(h @ p[w] + (p[b] if b else 0.0)) @ p[o]

    def gated(self) -> Callable:
        name, n = self.choose(list(GATES)), int(self.rng.choice([2, 3]))
        act, kinds = GATES[name]
        self.model.idioms.append(name)
        o = self.param(n, self.width)
        if self.chance(0.5):
            w = self.param(self.width, 2 * n)

            def fused(p, h):
                u, g = jnp.split(h @ p[w], 2, -1)
                return (u * act(g)) @ p[o]

            self.group(o, 0, kinds)
            return fused
        u, g = self.param(self.width, n), self.param(self.width, n)
        self.group(o, 0, kinds)
        return lambda p, h: (h @ p[u] * act(h @ p[g])) @ p[o]

    def low_rank(self) -> Callable:
        """tanh(h (W + A B)) O: matrices between A and B, signs between W, B and O."""
        n = 3
        w, o = self.param(self.width, n), self.param(n, self.width)
        a, b = self.param(self.width, 2), self.param(2, n)
        self.model.idioms.append("low rank")
        self.group(w, 1, ("sign",))
        self.group(b, 0, ("general linear",))
        return lambda p, h: jnp.tanh(h @ (p[w] + p[a] @ p[b])) @ p[o]

    def weight_norm(self) -> Callable:
        v, g, o = self.param(self.width, 3), self.param(3), self.param(3, self.width)
        self.model.idioms.append("weight norm")
        self.group(g, 0, ("positive", "positive", "sign"))
        # the norm of a column mixes the stream's units, but keeps their lengths
        self.narrow(1)
        self.divided = True
        return lambda p, h: jax.nn.relu(h @ (p[g] * p[v] / jnp.linalg.norm(p[v], axis=0))) @ p[o]

    def attention(self) -> Callable:
        """Heads of two units; queries and keys normalised or not; keys and values shared or not."""
        m, e, heads = self.width, 2, 2
        normed, shared = self.chance(0.3), self.chance(0.3)
        of = (m, e) if shared else (m, heads, e)
        q, k, v, o = (self.param(*s) for s in ((m, heads, e), of, of, (heads, e, m)))
        bias = self.param(heads, e) if self.chance(0.4) else None
        self.model.idioms.append("attention" + " normed" * normed + " shared" * shared)
        axis = 1 if shared else 2
        self.group(k, axis, ("orthogonal",) if normed else ("general linear",))
        self.group(v, axis, ("general linear",))
        turn = _normed if normed else lambda h: h
        key = "e" if shared else "he"

        def f(p, h):
            queries = jnp.einsum("btd,dhe->bthe", h, p[q]) + (p[bias] if bias else 0.0)
            keys, values = (jnp.einsum(f"btd,d{key}->bt{key}", h, p[n]) for n in (k, v))
            scores = jnp.einsum(f"bthe,bs{key}->bhts", turn(queries), turn(keys))
            mixed = jnp.einsum(f"bhts,bs{key}->bthe", jax.nn.softmax(scores), values)
            return jnp.einsum("bthe,hed->btd", mixed, p[o])

        return f

    # -- the stream ---------------------------------------------------------------------------

    def norm(self) -> Callable:
        kind = self.choose(["none", "none", "rms", "rms", "scaled", "layer", "layer scaled"])
        self.model.idioms.append(f"norm {kind}")
        scale = self.param(self.width) if "scaled" in kind else None
        layer = kind.startswith("layer")
        if kind == "none":
            return lambda p, h: h
        if scale:
            self.scales += 1
        self.narrow(3 if scale else 2 if layer else 1)
        self.centred |= layer
        return lambda p, h: (
            _normed(h - h.mean(-1, keepdims=True) if layer else h) * (p[scale] if scale else 1.0)
        )

    centred = divided = False

    def make(self) -> Planted:
        first = self.param(3, self.width)
        self.model.steps.append(lambda p, x: x @ p[first])
        blocks = [self.mlp, self.mlp, self.gated, self.attention, self.low_rank, self.weight_norm]
        for _ in range(int(self.rng.integers(1, 4))):
            before, self.divided = self.scales, False
            norm, block = self.norm(), self.choose(blocks)()
            self.scalings += 0 if self.divided else self.scales - before
            self.model.steps.append(lambda p, h, n=norm, b=block: h + b(p, n(p, h)))
        last = self.param(self.width, 2)
        self.model.steps.append(lambda p, h: h @ p[last])
        self.group(first, 1, self._of_stream())
        return self.model

    def _of_stream(self) -> tuple[str, ...]:
        own = ("positive",) * self.scalings + ("sign",) * self.scales
        signed = () if self.centred else ("sign",)
        kinds = STREAMS[self.stream]
        if kinds == "permutation":
            return own + signed
        return (kinds,)


def _normed(h):
    return h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 0.1)


def planted(seed: int) -> Planted:
    """The seed's model."""
    return _Maker(seed).make()


__all__ = ["Planted", "planted"]
