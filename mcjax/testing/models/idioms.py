"""Ways of writing a model that tracers stumble over, with the groups a person would expect."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from .cases import Case, by_hand, images, linen, sequences, vectors


def last_token() -> Case:
    """The last token of each sequence, its index repeated for each unit."""

    def apply_fn(p, x):
        h = jnp.tanh(x @ p["in"])
        last = jnp.sum(jnp.abs(x).sum(-1) > 0, -1) - 1
        h = jnp.take_along_axis(h, jnp.repeat(last[:, None, None], h.shape[-1], 2), 1)
        return h[:, 0] @ p["out"]

    return by_hand(apply_fn, {"in": (5, 7), "out": (7, 3)}, sequences(), [(7,)])


def attention_sink() -> Case:
    """A learned score that no key has: beside the others in the softmax, then cut off."""

    def attend(p, h):
        q, k, v = (jnp.einsum("btd,dhe->bhte", h, p[n]) for n in "qkv")
        s = jnp.einsum("bhte,bhse->bhts", q, k)
        sink = jnp.broadcast_to(p["sink"][None, :, None, None], (*s.shape[:3], 1))
        s = jax.nn.softmax(jnp.concatenate([s, sink], -1))[..., :-1]
        return h + jnp.einsum("bhts,bhse,hed->btd", s, v, p["o"])

    def apply_fn(p, x):
        return attend(p["b"], attend(p["a"], x @ p["in"])).mean(1) @ p["out"]

    layer = {"q": (8, 2, 4), "k": (8, 2, 4), "v": (8, 2, 4), "o": (2, 4, 8), "sink": (2,)}
    shapes = {"in": (5, 8), "a": layer, "b": layer, "out": (8, 3)}
    return by_hand(apply_fn, shapes, sequences(), [(8,), *[(2,), (2, 4), (2, 4)] * 2])


def concatenating_lstm() -> Case:
    """Input and state beside each other, a state that starts at zero (haiku's LSTM)."""

    def apply_fn(p, x):
        def step(carry, xt):
            h, c = carry
            gates = jnp.concatenate([xt, h], -1) @ p["w"] + p["b"]
            i, g, f, o = jnp.split(gates, 4, -1)
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((x.shape[0], 6), x.dtype)
        (h, _), _ = jax.lax.scan(step, (zero, zero), jnp.moveaxis(x, 1, 0))
        return h @ p["out"]

    shapes = {"w": (11, 24), "b": (24,), "out": (6, 3)}
    return by_hand(apply_fn, shapes, sequences(), [(6,)])


def convolutional_gru() -> Case:
    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def apply_fn(p, x):
        def step(h, xt):
            z, r = jnp.split(
                jax.nn.sigmoid(convolve(jnp.concatenate([xt, h], -1), p["gates"])), 2, -1
            )
            q = jnp.tanh(convolve(jnp.concatenate([xt, r * h], -1), p["candidate"]))
            return (1 - z) * h + z * q, None

        h = jnp.zeros((*x.shape[:3], 6), x.dtype)
        h, _ = jax.lax.scan(step, h, jnp.stack([x, 0.5 * x, -x]))
        return h.mean((1, 2)) @ p["out"]

    shapes = {"gates": (3, 3, 9, 12), "candidate": (3, 3, 9, 6), "out": (6, 3)}
    return by_hand(apply_fn, shapes, images(), [(6,)])


def routed_experts() -> Case:
    """The two best of four experts, by one-hot vectors of their indices."""

    def apply_fn(p, x):
        h = x @ p["in"]
        gate, which = jax.lax.top_k(jax.nn.softmax(h @ p["gate"]), 2)
        weights = (jax.nn.one_hot(which, 4, dtype=h.dtype) * gate[..., None]).sum(-2)
        y = jax.nn.relu(jnp.einsum("bd,edh->beh", h, p["up"]))
        y = jnp.einsum("beh,ehd->bed", y, p["down"])
        return (h + jnp.einsum("be,bed->bd", weights, y)) @ p["out"]

    shapes = {"in": (6, 7), "gate": (7, 4), "up": (4, 7, 5), "down": (4, 5, 7), "out": (7, 3)}
    return by_hand(apply_fn, shapes, vectors(), [(7,), (4,), (4, 5)])


def interleaved_gates() -> Case:
    """Gate and value of each unit one after the other in one weight."""

    def apply_fn(p, x):
        h = x @ p["w"] + p["b"]
        return (jax.nn.silu(h[..., ::2]) * h[..., 1::2]) @ p["out"]

    return by_hand(apply_fn, {"w": (6, 14), "b": (14,), "out": (7, 3)}, vectors(), [(7,)])


def interleaved_branches() -> Case:
    """Two layers' units one after the other in one weight: each has its own order."""

    def apply_fn(p, x):
        h = x @ p["w"] + p["b"]
        return jnp.tanh(h[..., ::2]) @ p["first"] + jax.nn.relu(h[..., 1::2]) @ p["second"]

    shapes = {"w": (6, 14), "b": (14,), "first": (7, 3), "second": (7, 3)}
    return by_hand(apply_fn, shapes, vectors(), [(7,), (7,)])


def masked_tokens() -> Case:
    """One token of each example is set to zero."""

    def apply_fn(p, x):
        h = jnp.tanh(x @ p["in"])
        h = jax.vmap(lambda tokens, i: tokens.at[i].set(0.0))(h, (x[:, 0, 0] > 0).astype(int))
        return h.mean(1) @ p["out"]

    return by_hand(apply_fn, {"in": (5, 7), "out": (7, 3)}, sequences(), [(7,)])


class UNet(nn.Module):
    """The residual stream comes back beside the upsampled one, under one group normalisation."""

    inner: int = 8
    groups: int = 4  # of the concatenation
    own: tuple[int, int] = (4, 4)  # of the outer stream, of the inner one

    @nn.compact
    def __call__(self, x):
        skip = nn.Conv(8, (3, 3))(x)
        h = nn.relu(nn.GroupNorm(self.own[0])(skip))
        h = nn.Conv(self.inner, (3, 3), strides=2)(h)
        h = h + nn.Conv(self.inner, (3, 3))(nn.relu(nn.GroupNorm(self.own[1])(h)))
        h = jnp.repeat(jnp.repeat(h, 2, 1), 2, 2)
        h = nn.GroupNorm(self.groups)(jnp.concatenate([skip, h], -1))
        return nn.Dense(3)(nn.relu(nn.Conv(6, (3, 3))(nn.relu(h))).mean((1, 2)))


def beside_itself() -> Case:
    """A normalised stream beside itself, normalised again: groups of groups."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.GroupNorm(2)(nn.Conv(16, (3, 3))(x))
            h = nn.GroupNorm(8)(jnp.concatenate([h, h], -1))
            return nn.Dense(3)(nn.relu(h).mean((1, 2)))

    return linen(Model(), images(), [(2,), (2, 2), (2, 2, 4)])


IDIOMS: dict[str, Callable[[], Case]] = {
    "last-token": last_token,
    "attention-sink": attention_sink,
    "concatenating-lstm": concatenating_lstm,
    "convolutional-gru": convolutional_gru,
    "routed-experts": routed_experts,
    "interleaved-gates": interleaved_gates,
    "interleaved-branches": interleaved_branches,
    "masked-tokens": masked_tokens,
    # Blocks of two units in each stream, two of them in each block of the concatenation.
    "unet-groupnorm": lambda: linen(
        UNet(), images(), [*[(2,), (2, 2), (2, 2, 2)] * 2, (6,)]
    ),
    # Blocks of 6 over streams of four blocks of 2 and two blocks of 8: cut at 6, 4, 10.
    "unet-straddling": lambda: linen(
        UNet(inner=16, own=(4, 2)), images(),
        [(3,), (3, 2), (2,), (4,), (4,), (2,), (6,), (6,)],
    ),
    "stream-beside-itself": beside_itself,
}  # fmt: skip
