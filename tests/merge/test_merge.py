"""`mcjax.merge.merge`: orders of units, what is no method's, and what it refuses."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.evaluation import estimate_batch_norm
from mcjax.merge import Each, Fisher, Soup, TaskArithmetic, Ties, merge, method_of, soup
from mcjax.merge.named import from_text
from mcjax.tasks import CLASSIFICATION, REGRESSION
from mcjax.testing import check_merging

from ..conftest import traced


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"]) @ p["w2"]


def draw(seed):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32)
            for n, s in {"w1": (3, 5), "w2": (5, 2)}.items()}  # fmt: skip


A, B, C = map(draw, range(3))
X = jnp.asarray(np.random.default_rng(9).normal(size=(20, 3)), jnp.float32)
NETWORK = mcjax.trace(mlp, A, X)


def same(a, b):
    return all(bool((x == y).all()) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_units_are_brought_to_one_order():
    found = mcjax.align.match_many(NETWORK, [A, B, C])
    made = merge(NETWORK, [A, B, C])
    assert made.alignment == found.status
    moved = [NETWORK.permute(p, v) for p, v in zip(found.permutations, (A, B, C), strict=True)]
    np.testing.assert_allclose(made.params["w1"], sum(p["w1"] for p in moved) / 3, rtol=1e-5)
    assert same(soup(NETWORK, [A, B, C]), made.params)
    for mine, theirs in zip(made.permutations, found.permutations, strict=True):
        np.testing.assert_array_equal(mine["w1"], theirs["w1"])


def test_networks_of_a_base_keep_its_order():
    made = merge(NETWORK, [A, B], base=C)
    assert (made.permutations, made.alignment) == ((), "none, the networks have their base's order")
    np.testing.assert_allclose(made.params["w1"], (A["w1"] + B["w1"]) / 2, rtol=1e-6)
    assert merge(NETWORK, [A]).alignment == "none, there is one network"


def test_permutations_are_taken_as_given():
    turn = NETWORK.random_permutations(jax.random.key(0))
    for given in ([{}, turn], [{}, mcjax.Action.of(NETWORK, turn)]):
        made = merge(NETWORK, [A, B], base=C, permutations=given)
        wanted = (A["w1"] + NETWORK.permute(turn, B)["w1"]) / 2
        np.testing.assert_allclose(made.params["w1"], wanted, rtol=1e-6)
        assert made.alignment == "as given"
    with pytest.raises(ValueError, match="permutations: 1 for 2 networks, expected one for each"):
        merge(NETWORK, [A, B], permutations=[{}])


def test_weights():
    made = merge(NETWORK, [A, B], weights=[0.25, 0.75], permutations=[{}, {}])
    np.testing.assert_allclose(made.params["w2"], A["w2"] / 4 + B["w2"] * 3 / 4, rtol=1e-5)
    for wrong, message in (
        ([0.5, 0.4], "weights must have the sum 1, got 0.9"),
        ([1.0], "weights: 1 for 2 networks"),
        ([1.5, -0.5], r"weights\[0\] must be a finite number from 0 to 1, got 1.5"),
        ([np.nan, 1], r"weights\[0\] must be a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            merge(NETWORK, [A, B], weights=wrong)


def test_result():
    made = merge(NETWORK, [A, B], Fisher(examples=7), x=X, key=jax.random.key(3))
    assert repr(made) == "Merging(Fisher: 2 networks)"
    assert made.method == Fisher(examples=7)
    assert (made.metadata["examples"], made.metadata["task"]) == (20, None)
    assert made.summary().splitlines()[0] == "Fisher of 2 networks"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.params = A
    with pytest.raises(TypeError, match="results cannot be changed"):
        made.metadata["label"] = "mine"


# -- batch normalisation, integers -------------------------------------------------------------


def test_statistics_of_batch_normalisation_are_no_methods():
    case, network = traced("vgg-bn")
    a, b, base, x = case.another(1), case.another(2), case.another(3), case.inputs(30)
    far = TaskArithmetic(50.0)  # as a method's, variances would be negative
    made = merge(network, [a, b], far, base=base)
    assert made.statistics == "means of the networks' statistics: estimate them before use"
    where, leaves = network.normalisations.leaves, jax.tree.leaves
    for i, (v, p, q) in enumerate(zip(*map(leaves, (made.params, a, b)), strict=True)):
        if i in where:
            np.testing.assert_allclose(v, (p + q) / 2, rtol=1e-6)
    given = merge(network, [a, b], far, base=base, x=x)
    assert given.statistics == "statistics estimated from 30 examples"
    wanted = estimate_batch_norm(network, made.params, x)
    for v, p in zip(*map(leaves, (given.params, wanted)), strict=True):
        np.testing.assert_allclose(v, p, rtol=1e-4, atol=1e-5)
    parts = merge(network, [a, b], far, base=base, x=Each([x[:10], x[10:]]))
    assert parts.statistics == given.statistics
    kept = merge(network, [a, a], x=x)
    assert kept.statistics == "the same statistics in all networks"
    assert same(kept.params, a)


def integers(p, x):
    return jax.nn.relu(x @ p["w"] * p["keep"]) @ p["o"]


def test_integers_must_agree_where_they_are_read():
    def params(seed, keep, count):
        p = draw(seed)
        return {"w": p["w1"], "o": p["w2"], "keep": jnp.asarray(keep), "count": jnp.int32(count)}

    a, b = params(0, [1, 1, 0, 1, 1], 5), params(1, [1, 1, 0, 1, 1], 9)
    network = mcjax.trace(integers, a, X)
    made = merge(network, [a, b], permutations=[{}, {}]).params
    assert made["keep"].tolist() == [1, 1, 0, 1, 1]
    assert int(made["count"]) == 5
    other = params(1, [1, 0, 1, 1, 1], 5)
    with pytest.raises(ValueError, match=r"networks\[1\]: leaf 'keep' is of int32"):
        merge(network, [a, other], permutations=[{}, {}])
    with pytest.raises(ValueError, match="base: leaf 'keep' is of int32"):
        merge(network, [a, b], base=other)


# -- what is refused ---------------------------------------------------------------------------


def test_what_a_method_needs():
    for name, message in {
        "ties": "TIES needs what the networks were trained from: pass parameters as base=",
        "dare-ties": "DARE, TIES needs what the networks were trained from",
        "fisher": "Fisher looks at activations: pass inputs as x=",
    }.items():
        with pytest.raises(ValueError, match=message):
            merge(NETWORK, [A, B], name)
    with pytest.raises(ValueError, match="networks: SLERP merges two networks, got 3"):
        merge(NETWORK, [A, B, C], "slerp")
    with pytest.raises(ValueError, match="Fisher needs labels: pass them as y="):
        merge(NETWORK, [A, B], Fisher("given"), x=X)
    with pytest.raises(ValueError, match="networks: model stock needs at least two"):
        merge(NETWORK, [A], "model-stock", base=B)
    with pytest.raises(ValueError, match="weights: PLeaS takes both networks alike"):
        merge(NETWORK, [A, B], "pleas", x=X, weights=[0.3, 0.7])
    with pytest.raises(ValueError, match="y: "):
        merge(NETWORK, [A, B], Fisher("given"), x=X, y=np.full(20, 2))
    metric = lambda outputs, y: jnp.abs(outputs - y).sum(-1)
    task = mcjax.Task("absolute", {"loss": metric}, {"loss": "high"})
    with pytest.raises(ValueError, match="the task 'absolute' does not tell; labels='given'"):
        merge(NETWORK, [A, B], "fisher", x=X, task=task)
    made = merge(NETWORK, [A, B], Fisher("given"), x=X, y=np.zeros((20, 2)), task=task)
    assert made.metadata["task"] == "absolute"


def test_options():
    for make, message in (
        (lambda: Ties(0.0), "density must be above 0, got 0.0"),
        (lambda: Ties(1.5), "density must be a finite number from 0 to 1, got 1.5"),
        (lambda: Ties(over="layer"), "over must be one of 'leaf', 'network'"),
        (lambda: mcjax.merge.Dare(drop=1.0), "drop must be less than 1"),
        (lambda: mcjax.merge.Dare(then=3), "then must be the name of a preset or an object"),
        (lambda: TaskArithmetic(np.inf), "scale must be a finite number, got inf"),
        (lambda: TaskArithmetic("1"), "scale must be a finite number, got '1'"),
        (lambda: Fisher("true"), "labels must be one of 'model', 'given'"),
        (lambda: Fisher(examples=0), "examples must be a positive integer"),
        (lambda: mcjax.merge.RegMean(2.0), "alpha must be a finite number from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_parameters_that_do_not_fit():
    with pytest.raises(ValueError, match=r"networks\[1\]: leaf 'w1' has shape \(3, 4\)"):
        merge(NETWORK, [A, dict(B, w1=jnp.ones((3, 4)))])
    with pytest.raises(ValueError, match="leaf 'w2' is in the traced parameters but not in"):
        merge(NETWORK, [A, {"w1": B["w1"]}])
    with pytest.raises(ValueError, match=r"networks\[1\]: leaf 'w1' holds 1 NaN"):
        merge(NETWORK, [A, dict(B, w1=B["w1"].at[0, 0].set(jnp.nan))])
    with pytest.raises(ValueError, match="base: leaf 'w1' holds 15 NaN"):
        merge(NETWORK, [A, B], base=dict(B, w1=B["w1"] * jnp.nan))
    with pytest.raises(ValueError, match="x holds 1 NaN of 60 values"):
        merge(NETWORK, [A, B], "regmean", x=X.at[0, 0].set(jnp.nan))
    f = lambda p, x: jnp.abs(x @ p["w"])
    w = {"w": jnp.ones((3, 2), jnp.complex64)}
    network = mcjax.trace(f, w, X, check=False)
    with pytest.raises(ValueError, match="leaf 'w' is complex"):
        merge(network, [w, w], "ties", base=w)


def test_data_of_each():
    with pytest.raises(ValueError, match="x: 1 for 2 networks, expected one for each"):
        merge(NETWORK, [A, B], "regmean", x=Each([X]))
    with pytest.raises(ValueError, match="x and y must both be an Each, or none of them"):
        merge(NETWORK, [A, B], Fisher("given"), x=Each([X, X]), y=np.zeros(20, int))
    both = Each([X[:12], X[12:]])
    y = np.arange(20) % 2
    made = merge(NETWORK, [A, B], Fisher("given"), x=both, y=Each([y[:12], y[12:]]))
    assert made.metadata["examples"] == 20
    for task, labels in ((CLASSIFICATION, None), (REGRESSION, None)):
        merge(NETWORK, [A, B], "fisher", x=both, y=labels, task=task)


# -- names, and methods of one's own -----------------------------------------------------------


def largest(problem):
    return problem.leafwise(lambda number, theta, base: theta.max(0))


class Mine(Soup):
    pass


def test_names():
    assert method_of("soup") == Soup()
    with pytest.raises(ValueError, match="unknown method 'tie', did you mean 'ties'"):
        method_of("tie")
    with pytest.raises(ValueError, match="method is the class Ties; pass an object of it"):
        method_of(Ties)
    with pytest.raises(ValueError, match=r"takes a mcjax\.merge\.Problem and returns"):
        merge(NETWORK, [A, B], 3)
    assert from_text("tests.merge.test_merge:largest").__name__ == "largest"
    assert type(from_text("tests.merge.test_merge:Mine")).__name__ == "Mine"
    assert from_text("ties") == Ties()
    with pytest.raises(ValueError, match=r"--methods tests.merge.test_merge:X must be"):
        from_text("tests.merge.test_merge:X")


def test_a_function_is_a_method():
    check_merging(largest, NETWORK, [A, B])
    made = merge(NETWORK, [A, B], largest, permutations=[{}, {}])
    assert made.metadata["label"] == "largest"
    np.testing.assert_array_equal(made.params["w1"], jnp.maximum(A["w1"], B["w1"]))


def test_what_a_method_may_not_do():
    nan = lambda problem: jax.tree.map(lambda v: v * jnp.nan, problem.networks[0])
    with pytest.raises(ValueError, match="what <lambda> returned: leaf 'w1' holds 15 NaN"):
        merge(NETWORK, [A, B], nan)
    with pytest.raises(ValueError, match="what <lambda> returned"):
        merge(NETWORK, [A, B], lambda problem: {"w1": problem.networks[0]["w1"]})
    drawn = iter(range(2))
    moody = lambda problem: jax.tree.map(lambda v, k=next(drawn): v + k, problem.networks[0])
    with pytest.raises(AssertionError, match="the same key, the merged network"):
        check_merging(moody, NETWORK, [A, B])
    kept = []

    @dataclasses.dataclass
    class Loose:
        option: int = 1

        def __call__(self, problem):
            kept.append(problem)
            return problem.mean()

    with pytest.raises(AssertionError, match="must be frozen"):
        check_merging(Loose(), NETWORK, [A, B])


def test_what_a_function_of_leaves_returns_is_checked_by_leaf():
    for function, came in (
        (lambda number, theta, base: 0.0, "a float"),
        (lambda number, theta, base: theta, r"shape \(2, 3, 5\)"),
    ):
        with pytest.raises(ValueError, match=rf"function: {came} for leaf 'w1', expected .*3, 5"):
            merge(NETWORK, [A, B], lambda problem, f=function: problem.leafwise(f))
