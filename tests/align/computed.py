"""Models whose weights are computed, and units that no layer reads or writes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..cases import Case, by_hand, sequences, vectors


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
}  # fmt: skip
