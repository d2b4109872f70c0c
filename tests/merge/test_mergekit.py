"""The same tensors merged by mergekit, where both have the method and it is installed."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.merge import Dare, ModelStock, Slerp, Soup, TaskArithmetic, Ties, merge
from mcjax.merge.dare import mask

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("mergekit") is None, reason="mergekit is not installed"
    ),
    pytest.mark.filterwarnings("default"),  # torch's and pydantic's are theirs
]

SHAPES = {"b": (7,), "k": (3, 3, 2, 5), "w": (20, 10)}
WEIGHTS = (0.2, 0.5, 0.3)


def draw(seed, around=None, scale=1.0):
    rng = np.random.default_rng(seed)
    around = around or dict.fromkeys(SHAPES, 0.0)
    return {n: jnp.asarray(around[n] + scale * rng.normal(size=s), jnp.float32)
            for n, s in SHAPES.items()}  # fmt: skip


def model(p, x):
    return x * p["b"].sum() * p["k"].sum() * p["w"].sum()


BASE = draw(0)
TUNED = [draw(i, BASE, 0.2 * i) for i in (1, 2, 3)]


def ours(method, networks=TUNED, weights=WEIGHTS, **more):
    network = mcjax.trace(model, BASE, jnp.ones(2), check=False)
    none = [{}] * len(networks)
    weights = weights[: len(networks)]
    weights = [w / sum(weights) for w in weights]
    given = {"base": BASE, "weights": weights, "permutations": none} | more
    return merge(network, networks, method, **given).params


def theirs(name, networks=TUNED, weights=None, base=True, **parameters):
    """mergekit's merge of each leaf; `weights`: of each network, as it takes them."""
    import torch
    from mergekit.merge_methods import registry
    from mergekit.merge_methods.base import PerInputValues, TensorGroup

    out = {}
    for leaf in SHAPES:
        arrays = [p[leaf] for p in ([BASE] * base + [*networks])]
        tensors = [torch.from_numpy(np.array(v)) for v in arrays]
        group = TensorGroup.from_tensors(tensors, base_index=0 if base else None)
        ids, given = range(len(tensors))[int(base) :], dict(parameters)
        if weights is not None:
            given["weight"] = PerInputValues([*zip(ids, weights, strict=True)])
        if "density" in given:
            given["density"] = PerInputValues([(i, given["density"]) for i in ids])
        (made,) = registry.get(name)([group], parameters=given)
        out[leaf] = made.numpy()
    return out


def alike(a, b):
    for name in SHAPES:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-5)


def test_linear():
    alike(ours(Soup()), theirs("linear", weights=WEIGHTS, base=False))


def test_task_arithmetic():
    tripled = [3 * w for w in WEIGHTS]  # ours is λ Σ n w τ
    alike(ours(TaskArithmetic(0.6)), theirs("task_arithmetic", weights=tripled, **{"lambda": 0.6}))


@pytest.mark.parametrize("density", [0.2, 0.55, 1.0])
def test_ties(density):
    made = theirs("ties", weights=WEIGHTS, density=density, **{"lambda": 0.7})
    alike(ours(Ties(density, 0.7, over="leaf")), made)


@pytest.mark.parametrize("drop", [0.3, 0.8])
def test_dare(drop, monkeypatch):
    """mergekit is handed our masks, and λ / (1 − p): it rescales by norms, or not at all."""
    import torch

    key = jax.random.key(2)
    draws = jax.random.split(key)[0]
    leaves = [(i, k) for k, _ in enumerate(SHAPES) for i in range(3)]  # the order it asks in

    def bernoulli(like):
        i, k = masks.pop(0)
        drawn = mask(jax.random.fold_in(jax.random.fold_in(draws, i), k), tuple(like.shape), drop)
        return torch.from_numpy(np.array(drawn, np.float32))

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    more = {"density": 1 - drop, "rescale": False, "lambda": 0.5 / (1 - drop)}
    masks = [*leaves]
    made = theirs("dare_linear", weights=[3 * w for w in WEIGHTS], **more)
    alike(ours(Dare(TaskArithmetic(0.5), drop), key=key), made)
    masks = [*leaves]
    made = theirs("dare_ties", weights=WEIGHTS, normalize=True, **more)
    alike(ours(Dare(Ties(1.0, 0.5), drop), key=key), made)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp(t):
    pair = TUNED[0], draw(7)
    made = ours(Slerp(), pair, (1 - t, t))
    flat = theirs("nuslerp", pair, weights=(1 - t, t), base=False, nuslerp_flatten=True)
    alike(made, flat)
    monolith = slerp_of(pair, t)
    alike(made, monolith)


def slerp_of(pair, t):
    import torch
    from mergekit.merge_methods.slerp import slerp

    out = {}
    for leaf in SHAPES:
        a, b = (torch.from_numpy(np.array(p[leaf])).reshape(1, -1) for p in pair)
        out[leaf] = slerp(torch.tensor([t]), a, b).numpy().reshape(SHAPES[leaf])
    return out


@pytest.mark.parametrize("n", [2, 3])
def test_model_stock(n):
    near = [draw(i, BASE, 0.1) for i in range(10, 10 + n)]
    near = [{k: v + 0.3 * TUNED[0][k] for k, v in p.items()} for p in near]  # at acute angles
    alike(ours(ModelStock(), near, (1 / n,) * n), theirs("model_stock", near))
