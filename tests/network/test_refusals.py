"""What is refused, in a sentence that says what to do."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax

from ..handed import Output, Pair, X, Y, mlp, weights


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
        r"a dict \(h: \(23, 3\), logits: \(23, 2\)\)\. .*reading\(lambda out: out\['logits'\]\)",
    ),
    "metrics of a tuple": (evaluate(lambda p, x: (mlp(p, x), x)), r"a tuple .*out\[0\]\)"),
    "metrics of a namedtuple": (
        evaluate(lambda p, x: Pair(mlp(p, x), x)), r"a Pair .*out\.logits\)",
    ),
    "accuracy of a dataclass": (
        evaluate(lambda p, x: Output(mlp(p, x), x)),
        r"classification needs .* a Output .*out\.logits\)",
    ),
    "labels in a column": (
        evaluate(data=(X, Y[:, None])),
        r"integer labels of shape \(23, 1\) .* expected shape \(23,\)",
    ),
    "labels of floats": (
        evaluate(data=(X, Y.astype(float))),
        r"got float64 of shape \(23,\); if these are classes, cast",
    ),
    "dataclass of parameters": (
        trace(params=Unregistered(X)), "params is a Unregistered, which JAX does not know",
    ),
    "dataclass in parameters": (
        trace(params={**weights(0), "c": Unregistered(X)}),
        "params: leaf 'c' is a .*Unregistered, .*register_dataclass",
    ),
    "a tensor": (trace(params={"w": Tensor()}), r"leaf 'w' is a .*Tensor of dtype torch.float32"),
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
        lambda: mcjax.save("unused", TYPES), "value: 'b1' is a jax.ShapeDtype",
    ),
    "attacked dict": (
        evaluate(in_dict, ({"image": X}, Y), attack=mcjax.attacks.PGD()), "x: an attack moves inp",
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
    mcjax.save(file, p)
    with pytest.raises(ValueError, match={"missing": "'w3' is not in it"}.get(change, "'b1'")):
        mcjax.load(file, like=like)
