"""Models whose weights are computed, and units that no layer reads or writes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mcjax.testing.models.cases import Case, by_hand, sequences, vectors


def two_layers(first: Callable, shapes: dict) -> Case:
    """tanh(x W + b) V with W = first(p) of 7 units."""

    def apply_fn(p, x):
        return jnp.tanh(x @ first(p) + p["b"]) @ p["o"]

    return by_hand(apply_fn, {**shapes, "b": (7,), "o": (7, 3)}, vectors(), [(7,)])


def low_rank() -> Case:
    """LoRA, merged: the ranks stand on no activation."""
    shapes = {"w": (6, 7), "down": (6, 2), "up": (2, 7)}
    case = two_layers(lambda p: p["w"] + p["down"] @ p["up"], shapes)
    case.shapes[(2,)] += 1
    return case


def low_rank_applied() -> Case:
    """LoRA, not merged: x A B, the ranks are activations."""

    def apply_fn(p, x):
        return jnp.tanh(x @ p["w"] + (x @ p["down"]) @ p["up"]) @ p["o"]

    shapes = {"w": (6, 7), "down": (6, 2), "up": (2, 7), "o": (7, 3)}
    return by_hand(apply_fn, shapes, vectors(), [(7,), (2,)])


def standardised(p):
    w = p["w"] - p["w"].mean(0)
    return w / jnp.sqrt((w**2).mean(0) + 1e-4)


def normed(p):
    return p["w"] * p["g"] / jnp.linalg.norm(p["w"], axis=0)


def spectral(p):
    """The largest singular value by power iteration from ones, in a loop."""

    def step(_, u):
        v = p["w"] @ u
        u = p["w"].T @ (v / jnp.linalg.norm(v))
        return u / jnp.linalg.norm(u)

    u = jax.lax.fori_loop(0, 5, step, jnp.ones(7))
    return p["w"] / jnp.linalg.norm(p["w"] @ u)


def quantised(p):
    scale = jnp.abs(p["w"]).max(0) / 127
    codes = jnp.round(p["w"] / scale).astype(jnp.int8)
    return codes.astype(jnp.float32) * scale


def cast(p):
    return p["w"].astype(jnp.bfloat16).astype(jnp.float32)


def rows_of_two(p):
    return jnp.concatenate([p["first"], p["second"]])


def state_space() -> Case:
    """S4D: in each of 5 features a diagonal recurrence of 4 complex states."""

    def apply_fn(p, x):
        h = x @ p["in"]
        a = jnp.exp(-jnp.exp(p["real"]) + 1j * p["imaginary"])

        def step(state, u):
            state = a * state + p["b"] * u[..., None]
            return state, (p["c"] * state).sum(-1).real

        start = jnp.zeros((len(x), 5, 4), jnp.complex64)
        y = jax.lax.scan(step, start, h.swapaxes(0, 1))[1].swapaxes(0, 1)
        return jax.nn.gelu(y + h * p["d"]).mean(1) @ p["out"]

    inner = dict.fromkeys(("real", "imaginary", "b", "c"), (5, 4))
    shapes = {"in": (6, 5), "d": (5,), "out": (5, 3), **inner}
    return by_hand(apply_fn, shapes, sequences(6), [(5,), (5, 4)])


def state_space_kernel() -> Case:
    """S4D as a convolution: the states are summed before they meet the data."""

    def apply_fn(p, x):
        h = x @ p["in"]
        length = x.shape[1]
        powers = jnp.exp(-jnp.exp(p["real"])[..., None] * jnp.arange(length))
        kernel = jnp.einsum("hn,hnl->hl", p["b"] * p["c"], powers)
        transformed = (jnp.fft.rfft(v, 2 * length, -1) for v in (h.swapaxes(1, 2), kernel))
        product = next(transformed) * next(transformed)
        y = jnp.fft.irfft(product, 2 * length, -1)[..., :length].swapaxes(1, 2)
        return jax.nn.gelu(y + h * p["d"]).mean(1) @ p["out"]

    inner = dict.fromkeys(("real", "b", "c"), (5, 4))
    shapes = {"in": (6, 5), "d": (5,), "out": (5, 3), **inner}
    return by_hand(apply_fn, shapes, sequences(6), [(5,), (5, 4)])


def bilinear() -> Case:
    """What is read holds the units on two axes; what is written holds them once."""

    def apply_fn(p, x):
        h = jnp.tanh(x @ p["w"])
        return jnp.einsum("bi,bj->bij", h, h).reshape(len(x), -1) @ p["o"].reshape(25, 2)

    return by_hand(apply_fn, {"w": (6, 5), "o": (5, 5, 2)}, vectors(), [(5,)])


def elementwise() -> Case:
    """Units of each input alone, without a contraction."""

    def apply_fn(p, x):
        return (jnp.tanh(x[:, :, None] * p["w"] + p["b"]) * p["v"]).sum(-1)

    return by_hand(apply_fn, dict.fromkeys("wbv", (6, 5)), vectors(), [(6, 5)])


def beside_positions() -> Case:
    """Units of each position (h) beside units that the first has, or the others (a, b)."""

    def apply_fn(p, x):
        h = jnp.tanh(jnp.einsum("bti,tih->bth", x, p["h"]))
        g = jnp.concatenate([jnp.tanh(x[:, :1] @ p["a"]), jnp.tanh(x[:, 1:] @ p["b"])], 1)
        return jnp.einsum("bthg,thgo->bo", h[..., None] * g[:, :, None], p["v"])

    shapes = {"h": (3, 5, 3), "a": (5, 4), "b": (5, 4), "v": (3, 3, 4, 2)}
    return by_hand(apply_fn, shapes, sequences(length=3), [(3, 3), (4,), (4,)])


def inside_while() -> Case:
    """Units that stand in the body of a loop alone."""

    def apply_fn(p, x):
        def body(carry):
            h, i = carry
            return jnp.tanh(jnp.tanh(h @ p["w"]) @ p["v"]), i + 1

        h, _ = jax.lax.while_loop(lambda carry: carry[1] < 3, body, (x @ p["in"], 0))
        return h @ p["o"]

    shapes = {"in": (6, 5), "w": (5, 7), "v": (7, 5), "o": (5, 2)}
    return by_hand(apply_fn, shapes, vectors(), [(5,), (7,)])


# Name → (model, shapes of the groups that no data show).
MODELS: dict[str, tuple[Callable[[], Case], list[tuple[int, ...]]]] = {
    "low-rank": (low_rank, [(2,)]),
    "low-rank-applied": (low_rank_applied, []),
    "standardised": (lambda: two_layers(standardised, {"w": (6, 7)}), []),
    "weight-norm": (lambda: two_layers(normed, {"w": (6, 7), "g": (7,)}), []),
    "spectral-norm": (lambda: two_layers(spectral, {"w": (6, 7)}), []),
    "quantised": (lambda: two_layers(quantised, {"w": (6, 7)}), []),
    "cast": (lambda: two_layers(cast, {"w": (6, 7)}), []),
    "concatenated": (
        lambda: two_layers(rows_of_two, {"first": (2, 7), "second": (4, 7)}), []
    ),
    "state-space": (state_space, []),
    "state-space-kernel": (state_space_kernel, [(5, 4)]),
    "bilinear": (bilinear, []),
    "elementwise": (elementwise, []),
    "beside-positions": (beside_positions, []),
    "inside-while": (inside_while, [(7,)]),
}  # fmt: skip
