"""Distances of neuron measures and their rates: against enumeration, closed forms, simulation."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

import mcjax
from mcjax import theory


def test_equal_sizes_by_enumeration():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 3))
    for p in (1, 2, 3):
        costs = np.linalg.norm(x[:, None] - y, axis=-1) ** p
        best = min(costs[range(6), s].mean() for s in map(list, itertools.permutations(range(6))))
        found = theory.wasserstein(x, y, p=p)
        assert found.distance == pytest.approx(best ** (1 / p), rel=1e-12)
        assert found.solution.value == pytest.approx(best, rel=1e-12)
        assert found.solution.status == "optimal"


def test_different_sizes_and_weights_on_a_line():
    rng = np.random.default_rng(1)
    x, y, a = rng.normal(size=7), rng.normal(size=5), rng.dirichlet(np.ones(7))
    for weights in (None, a):
        found = theory.wasserstein(x[:, None], y[:, None], a=weights, p=1)
        assert found.distance == pytest.approx(wasserstein_distance(x, y, weights), rel=1e-9)
        uniform = np.full(7, 1 / 7) if weights is None else weights
        np.testing.assert_allclose(found.solution.coupling.sum(1), uniform, atol=1e-9)
        np.testing.assert_allclose(found.solution.coupling.sum(0), 1 / 5, atol=1e-9)


def test_a_shift_and_huge_numbers():
    x, shift = np.random.default_rng(2).normal(size=(4, 2)), np.array([3.0, 4.0])
    for size in (1.0, 1e200, 1e-200):
        found = theory.wasserstein(size * x, size * (x + shift))
        assert found.distance == pytest.approx(5 * size)
    assert theory.wasserstein(x, x[::-1]).distance == 0


def test_mistakes_in_measures():
    x = np.ones((3, 2))
    for arguments, options, words in (
        ((x, np.ones((3, 3))), {}, "one dimension, got points of 2 and 3"),
        ((np.ones((0, 2)), x), {}, r"x must be points \(m, d\)"),
        ((x, np.full((2, 2), np.nan)), {}, "y holds 4 NaN"),
        ((x, x), {"a": np.ones(3)}, "a must sum to one, got 3"),
        ((x, x), {"a": np.ones(2) / 2}, r"a has shape \(2,\)"),
        ((x, x), {"p": 0.5}, "p must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            theory.wasserstein(*arguments, **options)
    assert theory.wasserstein([[1.0]], [[3.0]]).distance == 2  # one unit each


def test_a_planted_rate_is_covered_as_often_as_said():
    rng, m = np.random.default_rng(0), 2 ** np.arange(3, 9)
    hits = 0
    for _ in range(300):
        values = 2 * m[:, None] ** -0.3 * np.exp(0.2 * rng.normal(size=(6, 3)))
        found = theory.fit_rate(m, values, 0.9)
        hits += found.low < -0.3 < found.high
    assert 0.85 < hits / 300 < 0.95
    assert theory.fit_rate(m, 2 * m**-0.3).constant == pytest.approx(2)


def test_gaussian_neurons_on_a_line_come_together_as_the_root():
    rng = np.random.default_rng(3)
    m = 2 ** np.arange(4, 10)
    values = [[np.sqrt(np.mean((np.sort(rng.normal(size=k)) - np.sort(rng.normal(size=k))) ** 2))
               for _ in range(20)] for k in m]  # fmt: skip
    found = theory.fit_rate(m, values)
    assert abs(found.exponent - theory.gaussian_exponent(1)) < 0.08
    assert found.exponent < theory.worst_case_exponent(1)
    assert [theory.worst_case_exponent(d) for d in (4, 5)] == [-1 / 4, -1 / 5]


@pytest.mark.parametrize(
    ("sizes", "values", "words"),
    [
        ([1, 2], [1.0, 2.0, 3.0], "expected"),
        ([1, 2], [1.0, 2.0], "three values"),
        ([2, 2, 2], [1.0, 2.0, 3.0], "two sizes"),
        ([1, 2, 3], [1.0, 0.0, 3.0], "values must be positive"),
        ([1, 2, 3], [1.0, np.nan, 3.0], "values holds 1 NaN"),
    ],
)
def test_mistakes_in_rates(sizes, values, words):
    with pytest.raises(ValueError, match=words):
        theory.fit_rate(sizes, values)


def test_two_layers_stay_below_the_bound():
    """Units g(x; w) = tanh(w · x) with |x| = 1: L = 1, and H = max |tanh''|."""
    rng = np.random.default_rng(4)
    z = np.linspace(-3, 3, 10_001)
    smooth = np.abs(2 * np.tanh(z) / np.cosh(z) ** 2).max()
    x = rng.normal(size=(200, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for near in (0.05, 1.0):
        a = rng.normal(size=(30, 3))
        b = (a + near * rng.normal(size=a.shape))[rng.permutation(30)]
        found = theory.wasserstein(a, b)
        moved = b[found.solution.permutation]
        for t in (0.0, 0.3, 0.5):
            of = [np.tanh(x @ w.T).mean(1) for w in (a, moved, (1 - t) * a + t * moved)]
            error = np.abs((1 - t) * of[0] + t * of[1] - of[2]).max()
            for constants in ({"lipschitz": 1.0}, {"smoothness": float(smooth)}):
                assert error <= theory.two_layer_bound(found.distance, t=t, **constants) + 1e-15
    with pytest.raises(ValueError, match="one of lipschitz and smoothness"):
        theory.two_layer_bound(0.1)
    with pytest.raises(ValueError, match="distance must be at least 0"):
        theory.two_layer_bound(-0.1, lipschitz=1.0)


def test_one_hidden_relu_layer_stays_below_its_bound():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 4))
    for near, t in [(0.05, 0.5), (1.0, 0.5), (1.0, 0.2), (5.0, 0.9)]:
        a, va = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
        b, vb = a + near * rng.normal(size=a.shape), va + near * rng.normal(size=va.shape)
        of = [
            np.maximum(x @ w.T, 0) @ v
            for w, v in ((a, va), (b, vb), ((1 - t) * a + t * b, (1 - t) * va + t * vb))
        ]
        error = np.linalg.norm((1 - t) * of[0] + t * of[1] - of[2], axis=1).mean()
        distance = np.sqrt(((x @ (b - a).T) ** 2).sum(1).mean())
        assert 0 < error <= theory.relu_bound(distance, va, vb, t)
    for t in (0.5, 0.3):  # attained by a unit with -t and 1 - t before the ReLU: half-way is 0
        between = (1 - t) * np.maximum(-t, 0) + t * np.maximum(1 - t, 0)
        assert theory.relu_bound(1.0, [[1.0]], [[1.0]], t) == pytest.approx(between)
    with pytest.raises(ValueError, match=r"b: outgoing weights of shape \(2, 1\)"):
        theory.relu_bound(1.0, [[1.0]], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="distance must be at least 0"):
        theory.relu_bound(-1.0, [[1.0]], [[1.0]])


def test_shapes_of_the_deep_statements():
    errors = theory.layer_errors([0.1, 0.1, 0.1], [1, 1, 1], c1=0.5, c2=1.0)
    np.testing.assert_allclose(errors, [0, 0.1, 0.3, 0.7])  # 0.1 (2^l − 1)
    assert theory.sufficient_width(0.05, 4) == pytest.approx(2**4 * theory.sufficient_width(0.1, 4))
    assert theory.sufficient_width(1e-3, 512) == np.inf
    assert theory.sufficient_width(1e300, 3, 1e-300) == 0  # beyond the least of float64
    with pytest.raises(ValueError, match="got 1 and 2"):
        theory.layer_errors([0.1], [1, 2], 1, 1)
    for bad in (0, np.inf, np.nan):
        with pytest.raises(ValueError, match="error must be positive"):
            theory.sufficient_width(bad, 2)


def test_dropout_by_enumeration_of_all_halves():
    rng = np.random.default_rng(5)
    c = rng.normal(size=(6, 4, 3)) + 1
    for kept in (1, 3, 6):
        sets = list(itertools.combinations(range(6), kept))
        errors = [6 / kept * c[list(s)].sum(0) - c.sum(0) for s in sets]
        expected = np.sqrt(np.mean(np.square(errors), 0))
        np.testing.assert_allclose(theory.dropout_error(c, kept), expected, atol=1e-12)
    coins = [np.flatnonzero(s) for s in itertools.product((0, 1), repeat=6)]
    weights = [(1 / 3) ** len(s) * (2 / 3) ** (6 - len(s)) for s in coins]
    squares = [np.square(3 * c[s].sum(0) - c.sum(0)) for s in coins]
    found = theory.dropout_error(c, 2, independently=True)
    np.testing.assert_allclose(found, np.sqrt(np.tensordot(weights, squares, 1)))
    assert theory.dropout_error(np.ones((1, 2)), 1).tolist() == [0, 0]


def test_dropout_stays_below_the_bound_and_reaches_it():
    rng = np.random.default_rng(6)
    for m in (2, 10, 50):
        g = rng.uniform(-2, 2, size=(m, 30))
        bound = theory.dropout_bound(2.0, m)
        assert (theory.dropout_error(g / m, m // 2) <= bound).all()
        halves = np.repeat([2.0, -2.0], m // 2)[:, None]
        assert theory.dropout_error(halves / m, m // 2)[0] == pytest.approx(bound)
    for arguments, words in (
        ((-1.0, 4), "bound must be at least 0"),
        ((1.0, 1), "width must be at least 2"),
        ((1.0, 4, 0.0), "share must lie in"),
    ):
        with pytest.raises(ValueError, match=words):
            theory.dropout_bound(*arguments)
    for c, kept, words in (
        (np.ones((3, 2)), 4, "at most the number of units, 3, got 4"),
        (np.ones((3, 2)), 0, "kept must be a positive integer"),
        (np.ones((0, 2)), 1, r"contributions must be \(m, …\)"),
        (np.full((3, 2), np.nan), 1, "contributions holds 6 NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            theory.dropout_error(c, kept)


def test_networks_that_the_theorem_is_not_on_are_refused():
    rng, x = np.random.default_rng(7), np.eye(3, dtype=np.float32)
    shapes = {"w1": (3, 4), "w2": (4, 5), "w3": (5, 2)}
    p = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    two = {"w1": p["w1"], "w2": p["w2"]}

    def shallow(act):
        return mcjax.trace(lambda p, x: act(x @ p["w1"]) @ p["w2"], two, x)

    deep = mcjax.trace(lambda p, x: jnp.tanh(jnp.tanh(x @ p["w1"]) @ p["w2"]) @ p["w3"], p, x)
    for act in (jnp.tanh, jax.nn.sigmoid, jax.scipy.special.erf):
        network = shallow(act)
        assert theory.mean_field_violations(network) == ()
        assert theory.two_layer_bound(0.2, lipschitz=1.0, network=network) == pytest.approx(0.1)
    for network, words in (
        (shallow(jax.nn.relu), "units of 'w1' are computed by max, which is not known"),
        (shallow(jax.nn.gelu), "which is not known to be bounded"),
        (deep, "2 groups of units and 3 layers"),
    ):
        for call in (
            lambda **more: theory.two_layer_bound(0.2, lipschitz=1.0, **more),
            lambda **more: theory.dropout_bound(1.0, 101, **more),
        ):
            with pytest.raises(ValueError, match=words):
                call(network=network)
            assert call(network=network, anyway=True) == pytest.approx(0.1)


def test_deep_statements_refuse_skips_and_unbounded_units():
    rng, x = np.random.default_rng(8), np.eye(3, dtype=np.float32)
    shapes = {"w1": (3, 4), "w2": (4, 4), "w3": (4, 2)}
    p = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}

    def chain(act):
        return mcjax.trace(lambda p, x: act(act(x @ p["w1"]) @ p["w2"]) @ p["w3"], p, x)

    def skip(p, x):
        h = jnp.tanh(x @ p["w1"])
        return (h + jnp.tanh(h @ p["w2"])) @ p["w3"]

    def past(p, x):  # read by two layers
        h = jnp.tanh(x @ p["w1"])
        return jnp.tanh(h @ p["w2"]) @ p["w3"] + h @ p["w4"]

    def inside(p, x):  # units beside inputs have no order of their own
        return (jnp.tanh(x @ p["w1"]) + x) @ p["w2"]

    square = {"w1": p["w2"][:3, :3], "w2": p["w3"][:3]}
    skipping = mcjax.trace(skip, p, x)
    beside = mcjax.trace(past, p | {"w4": p["w3"]}, x)
    fixed = mcjax.trace(inside, square, x)
    assert theory.mean_field_violations(chain(jnp.tanh), deep=True) == ()
    calls = (
        lambda **more: theory.layer_errors([0.5], [2], 1.0, 0.5, **more).tolist(),
        lambda **more: theory.sufficient_width(0.1, 3, **more),
    )
    for call in calls:
        assert call(network=chain(jnp.tanh)) == call()
        for network, words in (
            (chain(jax.nn.relu), "units of 'w1' are computed by max, which.*units of 'w2'"),
            (skipping, "units of 'w1' are written by 2 layers and read by 2"),
            (beside, "units of 'w1' are written by 1 layers and read by 2"),
            (fixed, "there are 0 groups of units and 2 layers"),
        ):
            with pytest.raises(ValueError, match=words):
                call(network=network)
            assert call(network=network, anyway=True) == call()
