"""The contract of every path (tests/paths.py), then each family against its closed form."""

from __future__ import annotations

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcjax
import mcjax.flows
from mcjax.path import Arc, Bezier, Combination, Linear, Path, PolygonalChain, static
from mcjax.testing import check_path

from ..paths import COMPUTED, OWN, PATHS, mean, tree


def concrete(kind):
    """The classes below a kind that modules of the library hold, and are not abstract."""
    below = [c for k in kind.__subclasses__() for c in (k, *concrete(k))]
    here = {c for c in below if c.__module__.startswith("mcjax.") and c.__name__[0] != "_"}
    return {c for c in here if getattr(sys.modules[c.__module__], c.__name__, None) is c}


def test_every_path_is_among_the_paths():
    """A class that nobody put into tests/paths.py fails here."""
    seen = [make() for make in (*PATHS.values(), *COMPUTED.values(), *OWN.values())]
    kinds = {type(part) for path in seen for part in (path, *path.sections())}
    assert concrete(Path) <= kinds
    assert len(kinds) >= 11


@pytest.mark.parametrize("name", [*PATHS, *COMPUTED])
def test_contract(name):
    check_path((PATHS | COMPUTED)[name](), tree(0), tree(1))


@pytest.mark.parametrize("name", OWN)
def test_contract_between_ends_of_their_own(name):
    path = OWN[name]()
    check_path(path, path(0.0), path(1.0))


def test_the_contract_can_be_broken():
    """Each way of not keeping it is found."""

    class Stays(Linear):
        def at(self, t):
            return self.a

    class Moves(Linear):
        def fixed(self):
            return frozenset({0})

    class Combines(Linear):
        def linear(self):
            return Combination((self.a, self.b), lambda t: (1 - t, t / 2))

        def at(self, t):
            return Linear(self.a, self.b)(t)

    class Forgets(Linear):
        def pieces(self, coordinates):
            return super().pieces(coordinates[:-1])

    class Jumps(Linear):
        def velocity(self, t):
            return jax.tree.map(jnp.zeros_like, self.a)

    a, b = ({"w": jnp.full(3, v)} for v in (0.0, 1.0))
    for kind, message in (
        (Stays, "at t = 1: leaf 'w' differs"),
        (Moves, "leaf 0 is fixed"),
        (Combines, r"linear\(\): leaf"),
        (Forgets, r"pieces\(\) must hold each"),
        (Jumps, r"velocity\(0.137\) is off"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_path(kind(a, b), a, b)


def test_a_path_says_what_it_is():
    path = Arc({"w": jnp.ones((3, 4))}, {"w": jnp.ones((3, 4))})
    assert repr(path) == "Arc(a={w: float32[3,4]}, b={w: float32[3,4]}, mean=None)"
    large = {str(i): jnp.ones(10) for i in range(9)}
    assert repr(Linear(large, large)) == (
        "Linear(a=<dict of 9 arrays, 90 numbers>, b=<dict of 9 arrays, 90 numbers>)"
    )


def test_a_class_that_says_nothing_is_no_path():
    with pytest.raises(TypeError, match=r"Nothing must define at\(c\), or linear\(\)"):

        class Nothing(Path):
            a: dict


def test_static_fields_are_hashable():
    class Named(Path):
        a: dict
        names: tuple = static(default=())

        def at(self, t):
            return self.a

    assert Named({"w": jnp.ones(1)}, ("x",)).names == ("x",)
    with pytest.raises(ValueError, match=r"Named.names is a static field and must be hashable"):
        Named({"w": jnp.ones(1)}, ["x"])


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (np.array([0.2, 0.5]), r"must be a scalar, got shape \(2,\); .* jax.vmap\(path\)\(ts\)"),
        ([0.2], "must be a scalar, got a list"),
        ("half", r"must be a number in \[0, 1\], got 'half'"),
        (None, r"must be a number in \[0, 1\], got None"),
        (1.5, r"t must lie in \[0, 1\], got 1.5"),
    ],
)
def test_a_t_that_is_none(t, message):
    path = Linear(tree(0), tree(1))
    for call in (path, path.velocity):
        with pytest.raises(ValueError, match=message):
            call(t)


DTYPES = [jnp.float16, jnp.bfloat16, jnp.float32]


@pytest.fixture(params=list(PATHS))
def make(request):
    return PATHS[request.param]


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_at_the_ends(make, dtype):
    path = make(dtype)
    for t, end in ((0, 0), (0.0, 0), (1, 1), (1.0, 1), (jnp.float32(1), 1)):
        assert_equal(path(t), tree(end, dtype))  # compiled
        assert_equal(path.at(t), tree(end, dtype))


def test_exact_at_the_ends_in_float64(make):
    with jax.enable_x64(True):
        assert_equal(make(jnp.float64)(1.0), tree(1, jnp.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_structure_shapes_dtypes(make, dtype):
    like = lambda v: (v.shape, v.dtype)
    assert jax.tree.map(like, make(dtype)(0.3)) == jax.tree.map(like, tree(0, dtype))


def test_gradient_in_the_path_against_finite_differences(make):
    with jax.enable_x64(True):
        path, h = make(jnp.float64), 1e-6
        f = lambda p: sum(jnp.sum(jnp.cos(v)) for v in jax.tree.leaves(p.at(0.4)))
        floats, treedef = jax.tree.flatten(path)
        index = [i for i, v in enumerate(floats) if jnp.issubdtype(v.dtype, jnp.floating)]

        def of(values):
            full = list(floats)
            for i, v in zip(index, values, strict=True):
                full[i] = v
            return f(jax.tree.unflatten(treedef, full))

        values = [floats[i] for i in index]
        gradient = jax.grad(of)(values)
        shifted = lambda s: of([v + s * jnp.ones_like(v) for v in values])
        numeric = float(shifted(h) - shifted(-h)) / (2 * h)
        assert float(sum(map(jnp.sum, gradient))) == pytest.approx(numeric, rel=1e-6)


def test_integer_leaves_stay(make):
    assert make()(0.5)["list"][1] == 7


def test_fit_moves_free_points_only(make):
    path = make()
    loss = lambda p, batch: jnp.sum((p["layer"]["w"] - batch) ** 2)
    run = lambda: mcjax.fit(
        path, loss, jnp.ones((20, 3, 4)), optax.sgd(0.05), key=jax.random.key(0)
    )
    try:
        path.free()
    except ValueError:
        with pytest.raises(ValueError, match="no free points"):
            run()
        return
    fitted = run()
    assert_equal(fitted.path(0.0), path(0.0))
    if not isinstance(path, mcjax.path.Transported):  # whose end is what is trained
        assert_equal(fitted.path(1.0), path(1.0))
    assert not np.array_equal(fitted.path(0.5)["layer"]["w"], path(0.5)["layer"]["w"])


# -- closed forms --------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(t=st.floats(0, 1))
def test_closed_forms(t):
    a, b, c = (np.asarray(tree(k)["layer"]["w"], np.float64) for k in (0, 1, 2))
    value = lambda path: np.asarray(path(t)["layer"]["w"], np.float64)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
    close(value(Linear(tree(0), tree(1))), (1 - t) * a + t * b)
    cosine, sine = math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t)
    close(value(Arc(tree(0), tree(1))), cosine * a + sine * b)
    mu = 0.5
    arc = Arc(tree(0), tree(1), mean=mean())
    close(value(arc), mu + cosine * (a - mu) + sine * (b - mu))
    bezier = Bezier([tree(0), tree(2), tree(1)])
    close(value(bezier), (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b)
    chain = PolygonalChain([tree(0), tree(2), tree(1)])
    close(
        value(chain), (1 - 2 * t) * a + 2 * t * c if t < 0.5 else (2 - 2 * t) * c + (2 * t - 1) * b
    )


def test_arc_keeps_the_variance_of_gaussian_neurons():
    """Proposition 1, on 200,000 draws: the segment halves the variance, the arc keeps it."""
    x, y = np.random.default_rng(0).normal(size=(2, 200_000)).astype(np.float32)
    a, b = {"w": jnp.asarray(x)}, {"w": jnp.asarray(y)}
    assert float(jnp.var(Arc(a, b)(0.5)["w"])) == pytest.approx(1, abs=0.02)
    assert float(jnp.var(Linear(a, b)(0.5)["w"])) == pytest.approx(0.5, abs=0.02)


def test_between_starts_on_the_segment():
    chain = PolygonalChain.between(tree(0), tree(1), bends=3)
    assert len(chain.points) == 5
    line = Linear(tree(0), tree(1))
    for t in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(
            chain(t)["layer"]["w"], line(t)["layer"]["w"], rtol=1e-5, atol=1e-6
        )


# -- bad input -----------------------------------------------------------------------------


def changed(**layer):
    t = tree(1)
    return {**t, "layer": {**t["layer"], **layer}}


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ({"layer": tree(1)["layer"]}, "leaf 'list/0' is in a but not in b"),
        (changed(extra=jnp.ones(1)), "leaf 'layer/extra' is in b but not in a"),
        (changed(w=jnp.ones((3, 5))), r"leaf 'layer/w': b has shape \(3, 5\), expected \(3, 4\)"),
        (
            changed(b=jnp.ones(4, jnp.float16)),
            "leaf 'layer/b': b has dtype float16, expected float32",
        ),
        (changed(b=jnp.full(4, jnp.nan)), "b: leaf 'layer/b' holds 4 NaN or infinite values of 4"),
        ({"n": jnp.arange(3)}, "b has no floating-point leaf"),
    ],
)
@pytest.mark.parametrize("kind", [Linear, Arc])
def test_end_points_that_do_not_match(kind, b, message):
    with pytest.raises(ValueError, match=message):
        kind(tree(0), b)


@pytest.mark.parametrize("kind", [Bezier, PolygonalChain])
def test_curves_name_the_point(kind):
    with pytest.raises(ValueError, match="needs at least 2 points, got 1"):
        kind([tree(0)])
    with pytest.raises(ValueError, match=r"points\[1\] has shape \(3, 5\)"):
        kind([tree(0), changed(w=jnp.ones((3, 5))), tree(1)])


def test_mean_that_does_not_broadcast():
    bad = mean()
    bad["layer"]["w"] = jnp.ones((2, 1))
    with pytest.raises(ValueError, match=r"mean: leaf 'layer/w'|broadcast"):
        Arc(tree(0), tree(1), mean=bad)
