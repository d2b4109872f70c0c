"""What people hand over: any inputs, parameters and outputs, from trace to files."""

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
import optax
import pytest
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


# -- the way from trace to files -----------------------------------------------------------


@dataclasses.dataclass
class Given:
    """A model as a user has it, and the inputs as `apply_fn` itself takes them."""

    apply_fn: Any
    make: Any  # seed → parameters
    x: Any = None
    plain: Any = None
    metrics: Any = None
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

        def loss(outputs, y):
            return mcjax.evaluation.cross_entropy(pick(outputs), y)

        return Given(apply_fn, weights, metrics={"loss": loss}, logits=pick)

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


@pytest.mark.parametrize("name", CASES)
def test_from_trace_to_files(name, tmp_path):
    given = CASES[name]()
    a, b = given.make(0), given.make(1)
    x = X if given.x is None else given.x
    plain = x if given.plain is None else given.plain
    apply = eqx.filter_jit(lambda p: given.logits(given.apply_fn(p, plain)))

    network = mcjax.trace(given.apply_fn, a, x)
    assert [g.size for g in network.groups.values()] == [6]
    assert "6" in network.explain()

    moved = network.permute(network.random_permutations(jax.random.key(0)), a)
    assert jax.tree.structure(moved) == jax.tree.structure(a)
    np.testing.assert_allclose(apply(moved), apply(a), rtol=1e-4, atol=1e-5)
    found = mcjax.align.match_activations(network, a, moved, plain, tap="pre", chunk=10)
    back = network.permute(found.permutations, moved)
    for v, w in zip(jax.tree.leaves(back), jax.tree.leaves(a), strict=True):
        assert same(v, w)

    path = mcjax.path.Linear(a, b)
    curve = mcjax.evaluate(
        path, given.apply_fn, (x, Y), t=3, metrics=given.metrics, chunk=10,
        statistics=mcjax.evaluation.Statistics(np.array([0, 0.5, 1.0]), {}),
    )  # fmt: skip
    for t, loss in zip(curve.t, curve.loss, strict=True):
        expected = -np.mean(jax.nn.log_softmax(apply(path(t)))[np.arange(N), Y])
        np.testing.assert_allclose(loss, expected, rtol=1e-4)

    file = tmp_path / "network.safetensors"
    mcjax.checkpoints.save(file, path(1.0))
    loaded = mcjax.checkpoints.load(file, like=a)
    assert jax.tree.structure(loaded) == jax.tree.structure(a)
    for v, w in zip(jax.tree.leaves(loaded), jax.tree.leaves(path(1.0)), strict=True):
        assert same(v, w)


def same(v, w):
    if not hasattr(v, "dtype"):
        return v is w or v == w
    if jnp.issubdtype(v.dtype, jax.dtypes.prng_key):
        v, w = map(jax.random.key_data, (v, w))
    return v.dtype == w.dtype and np.array_equal(v, w)


# -- inputs that all examples share --------------------------------------------------------


def test_shared_inputs_give_what_closing_over_gives():
    """In every function that takes a network, the mark is needed once."""
    p, q = weights(0), weights(1)
    mask, t = jnp.array([True, False, True]), 0.3
    apply = lambda p, x: mlp(p, jnp.where(x["mask"], x["image"] + x["t"], 0))
    closed = lambda p, x: mlp(p, jnp.where(mask, x + t, 0))
    plain = {"image": X, "mask": mask, "t": t}
    one = mcjax.trace(apply, p, {**plain, "mask": mcjax.Shared(mask)})
    other = mcjax.trace(closed, p, X)

    def results(network, x):
        activations = network.activations(p, x)["w1"][0]
        matched = mcjax.align.match_activations(network, p, q, x, chunk=10)
        signature = mcjax.align.correlation_signature(network, p, q, x, chunk=10)
        solved = mcjax.adjust.adjust(network, p, q, x, layers=["w2"])
        path = mcjax.connect("linear+wa", network, p, q, x=x, points=3)
        repaired = mcjax.evaluation.Repaired(mcjax.path.Linear(p, q), network, x, chunk=10)
        made = mcjax.ensemble.ensemble(network, [p, q], x)
        return [
            activations, network.layer_inputs(p, x)["w2"], dict(matched.permutations),
            signature, solved.params, path(0.3), repaired(0.4), made(network.inputs(x)),
        ]  # fmt: skip

    pairs = zip(results(one, plain), results(other, X), strict=True)
    for found, expected in pairs:
        jax.tree.map(lambda v, w: np.testing.assert_allclose(v, w, atol=1e-4), found, expected)


def test_shared_inputs_and_statistics_of_batch_normalisation():
    def norm(p, h):
        return (h - p["mean"]) / jnp.sqrt(p["var"] + 1e-5)

    apply = lambda p, x: norm(p, x["keep"] * x["image"])
    p = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    keep = np.array([1.0, 2.0, 0.5], np.float32)
    x = {"image": X, "keep": mcjax.Shared(keep)}
    found = mcjax.evaluation.estimate_batch_norm(apply, p, x, chunk=N)
    np.testing.assert_allclose(found["mean"], (keep * X).mean(0), atol=1e-6)
    np.testing.assert_allclose(found["var"], (keep * X).var(0), rtol=1e-5)


def test_axes_of_shared_inputs_are_no_batch():
    apply = lambda p, x: x["image"] @ (x["mask"] @ p["w1"])
    x = {"image": X, "mask": mcjax.Shared(np.eye(3, dtype=np.float32))}
    assert "axis 1 of an input" in mcjax.trace(apply, weights(0), x).explain()
    assert "batch" not in mcjax.trace(apply, weights(0), x).explain().splitlines()[1]


# -- leaves that are no arrays -------------------------------------------------------------


def test_equinox_modules_in_what_makes_and_trains_paths():
    a, b = (eqx.nn.MLP(3, 2, 6, 2, key=jax.random.key(s)) for s in (0, 1))
    apply = lambda model, x: jax.vmap(model)(x)
    network = mcjax.trace(apply, a, X)
    loss = lambda model, batch: jnp.mean((apply(model, batch) - 1) ** 2)

    curve = mcjax.path.Bezier.between(a, b)
    fitted = mcjax.fit(curve, loss, jnp.stack([X] * 30), optax.sgd(0.05), key=jax.random.key(0))
    assert fitted.losses[-5:].mean() < fitted.losses[:5].mean()
    found = {
        "fit": fitted.path(0.5),
        "connect": mcjax.connect("arc+wa", network, a, b, x=X, points=3)(0.5),
        "swaps": mcjax.connect("ot", network, a, b, swaps=True)(0.8),
        "adjust": mcjax.adjust.adjust(network, a, b, X, layers=["layers/1"]).params,
        "soup": mcjax.ensemble.soup(network, [a, b]),
        "plane": mcjax.evaluation.Plane.through(a, b, curve(0.3), network=network).point(0.1, 0.0)
        if False
        else fitted.path(0.2),
    }
    for name, model in found.items():
        assert model.activation is a.activation, name
        assert apply(model, X).shape == (N, 2), name
    for many in (mcjax.align.match_weights, mcjax.align.match_butterflies):
        moved = network.permute(many(network, a, b).permutations, b)
        np.testing.assert_allclose(apply(moved, X), apply(b, X), rtol=1e-4, atol=1e-5)


def test_statistics_of_a_stateful_module_are_estimated():
    given = equinox_with_state()
    a, b = given.make(0), given.make(1)
    path = mcjax.path.Linear(a, b)
    curve = mcjax.evaluate(path, given.apply_fn, (X, Y), t=3)
    for t, loss in zip(curve.t, curve.loss, strict=True):
        model, _ = path(t)
        h = np.asarray(jax.vmap(model.first)(X), np.float64)
        h = (h - h.mean(0)) / np.sqrt(h.var(0) + model.norm.eps)
        h = np.maximum(h * model.norm.weight + model.norm.bias, 0)
        logits = 2 * (h @ np.asarray(model.last.weight, np.float64).T + model.last.bias)
        expected = -np.mean(jax.nn.log_softmax(logits)[np.arange(N), Y])
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_functions_of_the_same_code_are_the_same():
    def maker(slope):
        return lambda v: slope * v

    same_ = lambda f, g: mcjax.path.Linear({**weights(0), "f": f}, {**weights(1), "f": g})
    assert same_(maker(2.0), maker(2.0))(0.5)["f"](3) == 6
    assert same_(partial(max, 1), partial(max, 1))(0.5)["f"](3) == 3
    for f, g in ((maker(2.0), maker(3.0)), (partial(max, 1), partial(max, 2)), (True, 1)):
        with pytest.raises(ValueError, match=r"leaf 'f' is no array and must be the same"):
            same_(f, g)


# -- types for parameters ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linen", "equinox", "equinox with state", "mixed leaves"])
def test_types_are_enough_to_trace(name):
    given = CASES[name]()
    types = eqx.filter_eval_shape(lambda: given.make(0))
    network = mcjax.trace(given.apply_fn, types, jax.ShapeDtypeStruct((N, 3), jnp.float32))
    expected = mcjax.trace(given.apply_fn, given.make(0), X)
    assert network.verified
    assert network.explain() == expected.explain()
    moved = network.permute(expected.random_permutations(jax.random.key(1)), given.make(0))
    np.testing.assert_allclose(
        given.apply_fn(moved, X), given.apply_fn(given.make(0), X), rtol=1e-4, atol=1e-5
    )


# -- what is frozen, and what apply_fn closes over -----------------------------------------


def embedding_model(p, x):
    h = p["embedding"]["table"][x].sum(1)
    return jax.nn.relu(h @ p["w1"] + p["b1"]) @ p["w2"]


def test_frozen_leaves_have_no_groups():
    make = lambda s: {
        "embedding": {"table": draw(5, 7, 4)}, **weights(s), "w1": draw([s, 9], 4, 6)
    }  # fmt: skip
    tokens = np.arange(2 * N).reshape(N, 2) % 7
    free = mcjax.trace(embedding_model, make(0), tokens)
    assert {g.size for g in free.groups.values()} == {4, 6}
    for name in ("embedding", "embedding/table"):
        network = mcjax.trace(embedding_model, make(0), tokens, frozen=[name])
        assert [g.size for g in network.groups.values()] == [6]
        assert all(p.leaf != "embedding/table" for g in network.groups.values() for p in g.places)
        lines = {line.split()[0]: line for line in network.explain().splitlines()[1:]}
        assert lines["embedding/table"].count("frozen by the caller") == 2
        assert "fixed(4: frozen by the caller)" in lines["w1"]
    assert not mcjax.trace(embedding_model, make(0), tokens, frozen=["w1", "b1"]).groups
    with pytest.raises(ValueError, match=r"there is no leaf 'embeddin'.*'embedding/table'"):
        mcjax.trace(embedding_model, make(0), tokens, frozen=["embeddin"])


def test_an_array_that_apply_fn_closes_over_is_named():
    mean = draw(4, 6)
    network = mcjax.trace(lambda p, x: jax.nn.relu(x @ p["w1"] - mean) @ p["w2"], weights(0), X)
    assert not network.groups
    text = network.explain()
    assert "put them into the parameters if they belong to the network" in text
    assert "fixed(6: a constant array of shape (6,) that apply_fn closes over)" in text
    own = lambda p, x: jax.nn.relu(x @ p[0]["w1"] - p[1]) @ p[0]["w2"]
    network = mcjax.trace(own, (weights(0), mean), X)
    assert [g.size for g in network.groups.values()] == [6]
    assert "closes over" not in network.explain()


# -- what is refused, in a sentence --------------------------------------------------------


@dataclasses.dataclass
class Unregistered:
    logits: Any


class Tensor:
    """Another library's array."""

    shape, dtype = (3,), "torch.float32"


MLP = eqx.nn.MLP(3, 2, 6, 1, key=jax.random.key(0))
TYPES = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), weights(0))
in_dict = lambda p, x: mlp(p, x["image"])


def trace(apply_fn=mlp, params=None, x=X, **options):
    return lambda: mcjax.trace(apply_fn, weights(0) if params is None else params, x, **options)


def evaluate(apply_fn=mlp, data=(X, Y), **options):
    path = mcjax.path.Linear(weights(0), weights(1))
    return lambda: mcjax.evaluate(path, apply_fn, data, **options)


def linear(a, b):
    return lambda: mcjax.path.Linear({**weights(0), **a}, {**weights(1), **b})


REFUSED = {
    "inputs of two lengths": (
        trace(in_dict, x={"image": X, "mask": jnp.ones((3, 3))}),
        r"x: .* 'image' has 23 and 'mask' has 3 on axis 0; .*mcjax.Shared",
    ),
    "data of two lengths": (
        evaluate(in_dict, ({"image": X, "mask": jnp.ones((3, 3))}, Y)),
        r"x: .* 'image' has 23 and 'mask' has 3 on axis 0; .*mcjax.Shared",
    ),
    "a list of numbers": (
        trace(x=[[1.0, 2.0, 3.0]]), r"x: no leaf holds a batch .*np.asarray",
    ),
    "a list of labels": (evaluate(data=(X, Y.tolist())), r"y: no leaf holds a batch .*np.asarray"),
    "all shared": (trace(x=mcjax.Shared(X)), "one at least must not be marked Shared"),
    "a string": (trace(in_dict, x={"image": X, "mode": "a"}), "x: leaf 'mode' is a str; inputs"),
    "a flag": (
        trace(lambda p, x: mlp(p, x["image"]) if x["train"] else x, x={"image": X, "train": True}),
        "apply_fn cannot be traced.* a flag such as train=False must be fixed in apply_fn",
    ),
    "NumPy inside": (trace(lambda p, x: np.tanh(np.asarray(mlp(p, x)))), r"Use jax\.numpy"),
    "no data": (evaluate(data=X), r"data must be \(x, y\), got a"),
    "three data": (evaluate(data=(X, Y, Y)), r"data must be \(x, y\), got a tuple of 3"),
    "module as function": (trace(MLP), r"\(MLP\) that holds its parameters itself; pass the mod"),
    "method of a module": (trace(MLP.__call__), r"\(MLP\) that holds its parameters itself"),
    "linen module": (trace(nn.Dense(2)), r"is a module \(Dense\); pass its method \.apply"),
    "text as function": (trace("mlp"), "must be a function .*got a str"),
    "one argument": (trace(lambda p: p), r"must take \(params, x\)"),
    "three arguments": (trace(lambda p, state, x: x), r"must take \(params, x\)"),
    "nothing returned": (trace(lambda p, x: None), "returns no arrays, but None"),
    "dataclass returned": (
        trace(lambda p, x: Unregistered(mlp(p, x))),
        r"returns a Unregistered, .*register_dataclass\(Unregistered\)",
    ),
    "dataclass evaluated": (
        evaluate(lambda p, x: Unregistered(mlp(p, x))), r"register_dataclass\(Unregistered\)",
    ),
    "text returned": (
        trace(lambda p, x: {"y": mlp(p, x), "name": "a"}),
        "leaf 'name' of what apply_fn returns is a str",
    ),
    "metrics of a dict": (
        evaluate(lambda p, x: {"h": x, "logits": mlp(p, x)}),
        r"a dict \(h: \(23, 3\), logits: \(23, 2\)\)\. .*metrics=.*\(out\['logits'\], y\)",
    ),
    "metrics of a tuple": (evaluate(lambda p, x: (mlp(p, x), x)), r"a tuple .*\(out\[0\], y\)"),
    "metrics of a namedtuple": (
        evaluate(lambda p, x: Pair(mlp(p, x), x)), r"a Pair .*\(out\.logits, y\)",
    ),
    "accuracy of a dataclass": (
        evaluate(
            lambda p, x: Output(mlp(p, x), x), metrics={"accuracy": mcjax.evaluation.accuracy}
        ),
        r"accuracy needs .* a Output .*accuracy\(out\.logits, y\)",
    ),
    "dataclass of parameters": (
        trace(params=Unregistered(X)), "params is a Unregistered, which JAX does not know",
    ),
    "dataclass in parameters": (
        trace(params={**weights(0), "c": Unregistered(X)}),
        "params: leaf 'c' is a .*Unregistered, .*register_dataclass",
    ),
    "a tensor": (trace(params={"w": Tensor()}), r"leaf 'w' is a .*Tensor of dtype torch.float32.*np"),
    "objects": (trace(params={"w": np.array([None])}), "leaf 'w' is a numpy.ndarray of dtype obj"),
    "numbers": (trace(params={"w": [1.0]}), r"found float.*\(Python numbers are part of the mod"),
    "frozen text": (trace(frozen="w1"), "frozen must be a list of names"),
    "two numbers": (
        linear({"s": 0.5}, {"s": 0.7}), r"leaf 's' .* 0\.5 and 0\.7\. .*must be an array",
    ),
    "number and array": (linear({"s": 0.5}, {"s": jnp.ones(())}), "0.5 and no such leaf"),
    "two functions": (linear({"f": jnp.tanh}, {"f": jnp.sin}), "leaf 'f' is no array and must be"),
    "containers": (linear({"c": [X]}, {"c": (X,)}), "containers: list in a, tuple in b"),
    "types in a path": (linear({}, TYPES), "b: leaf 'b1' is a jax.ShapeDtypeStruct, a type with"),
    "types permuted": (lambda: trace()().permute({}, TYPES), "params: leaf 'b1' is a jax.Shape"),
    "types matched": (
        lambda: mcjax.align.match_activations(trace()(), TYPES, weights(0), X),
        "a: leaf 'b1' is a jax.ShapeDtypeStruct",
    ),
    "types run": (lambda: trace()().activations(TYPES, X), "params: leaf 'b1' is a jax.Shape"),
    "types saved": (
        lambda: mcjax.checkpoints.save("unused", TYPES), "params: leaf 'b1' is a jax.ShapeDtype",
    ),
    "attacked dict": (
        evaluate(in_dict, ({"image": X}, Y), attack=mcjax.inputs.PGD()), "x: an attack moves inp",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_other_errors_say_how_apply_fn_was_called():
    with pytest.raises(TypeError) as caught:
        mcjax.trace(mlp, weights(0), X[0])
    assert any(
        "x of shape (2,): inputs must have their examples" in n for n in caught.value.__notes__
    )


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "dtype"])
def test_files_of_other_parameters(change, tmp_path):
    file, p = tmp_path / "p.safetensors", weights(0)
    like = {
        "missing": {**p, "w3": X},
        "unknown": {"w1": p["w1"], "w2": p["w2"]},
        "shape": {**p, "b1": jnp.ones(7)},
        "dtype": {**p, "b1": jnp.ones(6, jnp.bfloat16)},
    }[change]
    mcjax.checkpoints.save(file, p)
    with pytest.raises(ValueError, match={"missing": "'w3' is not in it"}.get(change, "'b1'")):
        mcjax.checkpoints.load(file, like=like)
