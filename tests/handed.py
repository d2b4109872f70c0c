"""What people hand over: inputs, parameters and outputs of every kind, each on a small model."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from functools import partial
from typing import Any

import equinox as eqx
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import mcjax

N = 23  # examples, in chunks of 10


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X, Y = draw(0, N, 3), np.arange(N) % 2


def weights(seed, width=6):
    return {
        "b1": draw([seed, 1], width),
        "w1": draw([seed, 0], 3, width),
        "w2": draw([seed, 2], width, 2),
    }


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]


@dataclasses.dataclass
class Given:
    """A model as a user has it, and the inputs as `apply_fn` itself takes them."""

    apply_fn: Any
    make: Any  # seed → parameters
    x: Any = None
    plain: Any = None
    task: mcjax.Task = mcjax.tasks.CLASSIFICATION
    logits: Any = lambda outputs: outputs


def linen_with_statistics():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x))
            return nn.Dense(2)(nn.relu(h))

    def make(seed):
        variables = Model().init(jax.random.key(seed), X)
        return jax.tree.map(lambda v: v + 0.1 * jnp.abs(draw(seed, *v.shape)), variables)

    return Model(), make


def linen():
    model, make = linen_with_statistics()
    return Given(model.apply, make)  # a bound method


def frozen_dict():
    model, make = linen_with_statistics()
    return Given(model.apply, lambda seed: flax.core.freeze(make(seed)))


def haiku():
    """Haiku's `apply(params, state, rng, x) -> (outputs, state)`; its names hold slashes."""

    def transformed(params, state, rng, x):
        h = x @ params["net/~/linear"]["w"] - state["net/~/norm"]["mean"]
        return jax.nn.relu(h) @ params["net/~/linear_1"]["w"], state

    def make(seed):
        p = weights(seed)
        params = {"net/~/linear": {"w": p["w1"]}, "net/~/linear_1": {"w": p["w2"]}}
        return params, {"net/~/norm": {"mean": p["b1"], "counter": jnp.int32(3)}}

    return Given(lambda p, x: transformed(*p, None, x)[0], make)


def nnx_split():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(3, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)
            self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

        def __call__(self, x):
            return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))

    return Given(
        lambda params, x: nnx.merge(*params)(x), lambda seed: nnx.split(Model(nnx.Rngs(seed)))
    )


def nnx_module():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(3, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.first(x)))

    return Given(lambda model, x: model(x), lambda seed: Model(nnx.Rngs(seed)))


def equinox_mlp():
    def make(seed):
        key = jax.random.key(seed)
        # A lambda of its own for each network.
        return eqx.nn.MLP(3, 2, 6, 1, activation=lambda v: jax.nn.relu(v), key=key)

    return Given(lambda model, x: jax.vmap(model)(x), make)


class Stateful(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear
    name: str
    scale: float

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(3, 6, key=one), eqx.nn.Linear(6, 2, key=two)
        self.norm = eqx.nn.BatchNorm(6, "batch", mode="ema", inference=True)
        self.dropout = eqx.nn.Dropout(0.3, inference=True)
        self.name, self.scale = "mine", 2.0

    def __call__(self, x, state):
        h, state = self.norm(self.first(x), state)
        return self.scale * self.last(self.dropout(jax.nn.relu(h))), state


def equinox_with_state():
    def apply_fn(params, x):
        return jax.vmap(params[0], in_axes=(0, None), out_axes=(0, None))(x, params[1])[0]

    return Given(apply_fn, lambda seed: eqx.nn.make_with_state(Stateful)(jax.random.key(seed)))


Pair = namedtuple("Pair", ["logits", "state"])


@flax.struct.dataclass
class Output:
    logits: Any
    hidden: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Parameters:
    w1: Any
    rest: Any
    keys: Any
    nothing: None = None


def mixed_leaves():
    """Integers, booleans, keys old and new, None and scalars among the parameters."""

    def make(seed):
        p = weights(seed)
        keys = (jax.random.key(seed), jax.random.PRNGKey(seed))
        rest = [p["w2"], jnp.float32(1.5 + seed), np.arange(3), np.array([True, False])]
        return Parameters(p["w1"], rest, keys)

    def apply_fn(p, x):
        return jax.nn.relu(x @ p.w1) @ p.rest[0] * p.rest[1] + p.rest[2].sum()

    return Given(apply_fn, make)


def outputs_in(wrap, pick):
    def make():
        def apply_fn(p, x):
            h = jax.nn.relu(x @ p["w1"] + p["b1"])
            return wrap(h @ p["w2"], h.mean(-1))

        task = mcjax.tasks.CLASSIFICATION.reading(pick)
        return Given(apply_fn, weights, task=task, logits=pick)

    return make


def shared_inputs():
    """A scalar, a mask and random keys beside what is batched."""

    def apply_fn(p, x):
        noise = jax.random.normal(x["key"], (3,)) + jax.random.normal(x["old"], (3,))
        h = jnp.where(x["mask"], x["image"] + x["t"] * noise, 0) + x["empty"].get("none", 0)
        return mlp(p, h)

    x = {
        "image": np.asarray(X, np.float64),
        "t": 0.5,
        "key": jax.random.key(0),
        "mask": np.array([True, False, True]),
        "old": jax.random.PRNGKey(1),
        "empty": {},
        "none": None,
    }
    marked = {**x, "mask": mcjax.Shared(x["mask"]), "old": mcjax.Shared(x["old"])}
    return Given(apply_fn, weights, x=marked, plain={**x, "image": X})


def list_of_arrays():
    return Given(lambda p, x: mlp(p, x[0] + x[1]), weights, x=[X, np.ones((N, 1))])


def integer_tokens():
    def make(seed):
        return {"embedding": draw([seed, 3], 7, 6), **weights(seed)}

    tokens = np.arange(2 * N).reshape(N, 2) % 7
    f = lambda p, x: jax.nn.relu(p["embedding"][x].sum(1) + p["b1"]) @ p["w2"]
    return Given(f, make, x=tokens)


def partial_with_array():
    return Given(partial(lambda shift, p, x: mlp(p, x + shift), jnp.ones(3)), weights)


def default_with_array():
    def apply_fn(p, x, shift=jnp.ones(3)):
        return mlp(p, x + shift)

    return Given(jax.jit(apply_fn), weights)


CASES = {
    "linen": linen,
    "FrozenDict": frozen_dict,
    "haiku": haiku,
    "nnx split": nnx_split,
    "nnx module": nnx_module,
    "equinox": equinox_mlp,
    "equinox with state": equinox_with_state,
    "mixed leaves": mixed_leaves,
    "dict": outputs_in(lambda y, h: {"logits": y, "h": h}, lambda o: o["logits"]),
    "tuple": outputs_in(lambda y, h: (y, {"h": h}), lambda o: o[0]),
    "namedtuple": outputs_in(Pair, lambda o: o.logits),
    "dataclass": outputs_in(Output, lambda o: o.logits),
    "shared inputs": shared_inputs,
    "list of arrays": list_of_arrays,
    "tokens": integer_tokens,
    "partial": partial_with_array,
    "default": default_with_array,
}
