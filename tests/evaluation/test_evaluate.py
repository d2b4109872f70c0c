"""Sweeps against a plain loop in NumPy's float64, and everything that must not change them."""

from __future__ import annotations

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcjax
from mcjax.evaluation import barrier, batch_norm_along, estimate_batch_norm
from mcjax.path import Arc, Bezier, Linear
from mcjax.tasks import cross_entropy
from mcjax.testing.models.catalogue import MODELS, ResNet, linen

from ..paths import PATHS


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def params(seed, d=40):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (d, 12), "b1": (12,), "w2": (12, 3), "b2": (3,)}
    return {
        k: jnp.asarray(rng.normal(size=s) / s[0] ** 0.5, jnp.float32) for k, s in shapes.items()
    }


def data(n=103, d=40):
    rng = np.random.default_rng(5)
    return rng.normal(size=(n, d)).astype(np.float32), rng.integers(0, 3, n)


def oracle(p, x, y):
    """(mean loss, accuracy) in float64."""
    p = {k: np.asarray(v, np.float64) for k, v in p.items()}
    z = np.maximum(x @ p["w1"] + p["b1"], 0) @ p["w2"] + p["b2"]
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    return -log_p[np.arange(len(y)), y].mean(), (z.argmax(1) == y).mean()


KINDS = {
    "linear": lambda: Linear(params(0), params(1)),
    "arc": lambda: Arc(params(0), params(1), jax.tree.map(lambda v: v.mean(), params(2))),
    "bezier": lambda: Bezier([params(0), params(2), params(1)]),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_against_numpy(kind):
    path, (x, y) = KINDS[kind](), data()
    curve = mcjax.evaluate(path, mlp, (x, y), t=7, chunk=16)
    np.testing.assert_array_equal(curve.t, np.linspace(0, 1, 7))
    for i, t in enumerate(curve.t):
        loss, accuracy = oracle(path(t), x, y)
        assert curve.loss[i] == pytest.approx(loss, rel=1e-4)
        assert curve.accuracy[i] == pytest.approx(accuracy, abs=1e-6)


@settings(max_examples=8, deadline=None)
@given(n=st.integers(1, 40), chunk=st.integers(1, 50), t_batch=st.sampled_from([1, 2, 5]))
def test_chunks_do_not_matter(n, chunk, t_batch):
    path, (x, y) = KINDS["linear"](), data(n)
    curve = mcjax.evaluate(path, mlp, (x, y), t=3, chunk=chunk, t_batch=t_batch)
    for i, t in enumerate(curve.t):
        assert curve.loss[i] == pytest.approx(oracle(path(t), x, y)[0], rel=1e-4)


def test_first_layer_in_the_paths_basis_is_used():
    """The shared part computes X W_k once: the compiled sweep holds no product per t with X."""
    from mcjax.network.linear import shared_values
    from mcjax.network.program import make_program

    leaves, treedef = jax.tree.flatten(params(0))
    program = make_program(
        lambda *a: mlp(jax.tree.unflatten(treedef, a[:-1]), a[-1]), *leaves, data()[0]
    )
    parts = shared_values(program, len(leaves), range(len(leaves)), ())
    part = parts.linear
    assert parts.fixed is None
    (value,) = part.frontier
    assert program.shape(value) == (103, 12)
    names = [e.name for e in part.program.equations]
    assert names.count("dot_general") == 1
    assert "add" in names  # the bias too


def test_shared_values_of_a_convolution_and_of_nothing():
    from mcjax.network.linear import shared_values
    from mcjax.network.program import make_program

    f = lambda w, x: jnp.tanh(jax.lax.conv(x, w, (1, 1), "SAME"))
    program = make_program(f, jnp.ones((4, 8, 3, 3)), jnp.ones((2, 8, 5, 5)))
    assert program.shape(shared_values(program, 1, (0,), ()).linear.frontier[0]) == (2, 4, 5, 5)
    program = make_program(lambda w, x: jnp.tanh(w * x), jnp.ones(3), jnp.ones((2, 3)))
    parts = shared_values(program, 1, (0,), ())
    assert (parts.fixed, parts.linear, parts.moved) == (None, None, None)


def test_own_metrics_and_trees_as_inputs():
    path, (x, y) = KINDS["linear"](), data()
    model = lambda p, x: {"logits": mlp(p, x["image"]), "norm": jnp.sum(x["image"] ** 2, -1)}
    logit = lambda out, y: out["logits"].mean(-1) + 0 * out["norm"]
    task = mcjax.Task("logits", {"mean_logit": logit}, {"mean_logit": "low"}, loss="mean_logit")
    curve = mcjax.evaluate(path, model, ({"image": x}, y), t=[0.0, 0.5], task=task)
    expected = np.asarray(mlp(path(0.5), x)).mean()
    assert curve.values["mean_logit"][1] == pytest.approx(expected, rel=1e-4)
    assert curve.mean_logit.shape == (2,)


def test_one_t_and_given_ts():
    path, d = KINDS["linear"](), data()
    assert mcjax.evaluate(path, mlp, d, t=[1.0]).t.tolist() == [1.0]
    with pytest.raises(ValueError, match=r"at least 2, got 1; .* t=\[1.0\]"):
        mcjax.evaluate(path, mlp, d, t=1)
    curve = mcjax.evaluate(path, mlp, d, t=[0.25])
    assert curve.loss.shape == (1,)
    assert curve.mean() == pytest.approx(curve.loss[0])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(dtype):
    """Points, outputs and metrics in half precision; the sums in float32."""
    x, y = data()
    a, b = (jax.tree.map(lambda v: v.astype(dtype), params(s)) for s in (0, 1))
    curve = mcjax.evaluate(Linear(a, b), mlp, (x.astype(dtype), y), t=3)
    for i, t in enumerate(curve.t):
        point = jax.tree.map(lambda v: v.astype(jnp.float32), Linear(a, b)(t))
        assert curve.loss[i] == pytest.approx(oracle(point, x, y)[0], rel=0.03)


def test_float64():
    with jax.enable_x64(True):
        x, y = data()
        a, b = (jax.tree.map(lambda v: v.astype(jnp.float64), params(s)) for s in (0, 1))
        curve = mcjax.evaluate(Linear(a, b), mlp, (x.astype(np.float64), y), t=3)
        assert curve.loss[1] == pytest.approx(oracle(Linear(a, b)(0.5), x, y)[0], rel=1e-6)


def test_integer_inputs_reach_the_model_as_they_are():
    """Pixels as bytes: nothing is scaled behind the user's back."""
    x = np.random.default_rng(0).integers(0, 255, (20, 40)).astype(np.uint8)
    y = np.zeros(20, int)
    path = KINDS["linear"]()
    whole = mcjax.evaluate(path, mlp, (x, y), t=2)
    floats = mcjax.evaluate(path, mlp, (x.astype(np.float32), y), t=2)
    np.testing.assert_allclose(whole.loss, floats.loss, rtol=1e-5)


def test_function_that_cannot_be_hashed():
    class Model:
        __hash__ = None

        def __call__(self, p, x):
            return mlp(p, x)

    with pytest.raises(ValueError, match=r"model cannot be hashed \(Model\)"):
        mcjax.evaluate(KINDS["linear"](), Model(), data())


@pytest.mark.parametrize("name", list(PATHS))
def test_lengths(name):
    """Distances between points, and the arc-length weighted mean, against NumPy."""
    path = PATHS[name]()
    f = lambda p, x: x[:, None] * p["layer"]["w"].sum() * jnp.array([[1.0, -1.0]])
    x, y = np.ones(4, np.float32), np.zeros(4, int)
    curve = mcjax.evaluate(path, f, (x, y), t=5)
    points = [np.concatenate([np.ravel(v) for v in jax.tree.leaves(path(t))]) for t in curve.t]
    expected = [np.linalg.norm(b - a) for a, b in itertools.pairwise(points)]
    np.testing.assert_allclose(curve.lengths, expected, rtol=1e-5)
    middle = (curve.loss[1:] + curve.loss[:-1]) / 2
    assert curve.mean() == pytest.approx(np.average(middle, weights=expected), rel=1e-5)


def test_barriers():
    t, loss = [0, 0.25, 0.5, 1], [1.0, 2.0, 5.0, 3.0]
    assert barrier(t, loss) == pytest.approx(5 - 2)
    assert barrier(t, loss, "endpoint") == pytest.approx(5 - 3)
    assert barrier([0, 0.5, 1], [1, 0, 1]) == 0  # never negative: the ends are on the chord
    with pytest.raises(ValueError, match="rising from 0 to 1"):
        barrier([0, 0.5], [1, 2])
    with pytest.raises(ValueError, match="convention must be one of"):
        barrier(t, loss, "mean")


# -- batch normalisation -------------------------------------------------------------------


def resnet():
    case = linen(ResNet((4, 6, 8), blocks=1), jnp.zeros((2, 8, 8, 3)), [])
    x = case.inputs(96)
    y = np.random.default_rng(0).integers(0, 10, 96)
    return case, x, y


class Normalised(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        for width in (5, 4):
            x = nn.Dense(width)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not self.train, momentum=0.0)(x))
        return nn.Dense(2)(x)


def test_statistics_against_training_mode():
    """The estimate is what flax computes in training mode, batch after batch."""
    x = jax.random.normal(jax.random.key(0), (30, 3))
    variables = Normalised().init(jax.random.key(1), x)
    found = estimate_batch_norm(Normalised().apply, variables, x, chunk=10)["batch_stats"]
    batches = [
        Normalised(train=True).apply(variables, x[i : i + 10], mutable=["batch_stats"])[1][
            "batch_stats"
        ]
        for i in (0, 10, 20)
    ]
    expected = jax.tree.map(lambda *v: sum(v) / 3, *batches)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), found, expected
    )


@pytest.mark.parametrize("copied", [False, True])
def test_statistics_of_one_chunk(copied):
    """Of the evaluated data itself or of a copy: flax in training mode on the whole batch."""
    x = jax.random.normal(jax.random.key(0), (30, 3))
    y = jnp.arange(30) % 2
    a, b = (Normalised().init(jax.random.key(s), x) for s in (1, 2))
    path = Linear(a, b)
    curve = mcjax.evaluate(
        path, Normalised().apply, (x, y), 4, statistics=x + 0 if copied else x, chunk=40
    )
    for t, loss in zip(curve.t, curve.loss, strict=True):
        outputs, _ = Normalised(train=True).apply(path(t), x, mutable=["batch_stats"])
        assert loss == pytest.approx(float(jnp.mean(cross_entropy(outputs, y))), rel=1e-4)


class _Costly(Linear):
    costly = True


@pytest.mark.parametrize("kind", ["line", "legs", "costly"])
def test_statistics_shared_by_evaluations(kind):
    x = jax.random.normal(jax.random.key(0), (40, 3))
    y = jnp.arange(40) % 2
    a, b, c = (Normalised().init(jax.random.key(s), x) for s in (1, 2, 3))
    path = {
        "line": Linear(a, b),
        "legs": mcjax.path.Legs([Linear(a, c), Linear(c, b)]),
        "costly": _Costly(a, b),
    }[kind]
    f, t = Normalised().apply, [0.1, 0.4, 0.5, 0.9]
    shared = batch_norm_along(path, f, x, t, chunk=10)
    for some in ((x, y), (x[:7] + 1, y[:7])):
        expected = mcjax.evaluate(path, f, some, t, statistics=x, chunk=10).loss
        found = mcjax.evaluate(path, f, some, t, statistics=shared, chunk=7).loss
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    with pytest.raises(ValueError, match="statistics: estimated at 4 other points than the 3"):
        mcjax.evaluate(path, f, (x, y), t[:3], statistics=shared)


def test_statistics_along_a_path_without_any():
    path = Linear(params(0), params(1))
    with pytest.raises(ValueError, match="no batch-normalisation statistics"):
        batch_norm_along(path, mlp, data()[0])


def test_statistics_along_a_path_reproduce_the_end_points():
    case, x, y = resnet()
    a, b = (estimate_batch_norm(case.apply_fn, case.another(s), x, chunk=32) for s in (1, 2))
    network = mcjax.trace(case.apply_fn, a, x)
    moved = network.permute(network.random_permutations(jax.random.key(0)), b)
    curve = mcjax.evaluate(Linear(a, moved), case.apply_fn, (x, y), t=3, statistics=x, chunk=32)
    for i, end in ((0, a), (2, moved), (2, b)):
        loss = float(jnp.mean(cross_entropy(case.run(end, x), jnp.asarray(y))))
        assert curve.loss[i] == pytest.approx(loss, rel=1e-4)
    middle = estimate_batch_norm(case.apply_fn, Linear(a, moved)(0.5), x, chunk=32)
    loss = float(jnp.mean(cross_entropy(case.run(middle, x), jnp.asarray(y))))
    assert curve.loss[1] == pytest.approx(loss, rel=1e-4)


def test_statistics_of_a_model_without_any():
    with pytest.raises(ValueError, match="no batch-normalisation statistics"):
        estimate_batch_norm(mlp, params(0), data()[0])


def test_vgg_with_batch_norm_runs():
    case = MODELS["vgg-bn"]()
    y = np.zeros(64, int)
    path, x = Linear(case.another(0), case.another(1)), case.inputs(64)
    curve = mcjax.evaluate(path, case.apply_fn, (x, y), t=3, statistics=x)
    assert np.isfinite(curve.loss).all()


# -- results and bad input -----------------------------------------------------------------


def test_curve_saves_and_summarises(tmp_path):
    import json

    curve = mcjax.evaluate(KINDS["linear"](), mlp, data(), t=5)
    curve.to_json(tmp_path / "curve.json")
    again = json.loads((tmp_path / "curve.json").read_text())
    np.testing.assert_allclose(again["loss"], curve.loss)
    assert "barrier" in curve.summary()
    curve.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AttributeError, match="has no 'recall'; it has loss, accuracy"):
        _ = curve.recall
    with pytest.raises(ValueError, match="unknown metric 'recall'"):
        curve.barrier(metric="recall")


def scored(metric):
    return mcjax.Task("own", {"m": metric}, {"m": "high"}, loss="m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": (data()[0], data()[1][:50])}, "x and y have different lengths: 103 and 50"),
        ({"data": (data()[0][:0], data()[1][:0])}, "x is an empty batch"),
        ({"t": [0, 1.5]}, r"t must lie in \[0, 1\], got 1.5"),
        ({"t": []}, "t holds no points"),
        ({"path": params(0)}, "path must be a mcjax Path, got dict"),
        ({"t": 0}, "at least 2, got 0"),
        ({"chunk": -1}, "chunk must be a positive integer"),
        ({"task": scored(lambda z, y: z)}, r"metrics\['m'\] returned shape \(103, 3\)"),
        ({"task": scored(lambda z, y: z.mean())}, r"metrics\['m'\] returned shape \(\)"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"path": KINDS["linear"](), "model": mlp, "data": data(), "t": 3} | change
    with pytest.raises(ValueError, match=message):
        mcjax.evaluate(**arguments)


def test_what_a_leg_does_not_move_is_computed_once():
    """Two layers of three stay: the product of the second is shared, the third is linear in t."""
    from mcjax.network.linear import shared_values
    from mcjax.network.program import make_program

    def deep(p, x):
        return jax.nn.relu(jax.nn.relu(x @ p[0]) @ p[1]) @ p[2]

    rng = np.random.default_rng(0)
    shapes = ((40, 48), (48, 56), (56, 10))
    a, b = ([jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes] for _ in range(2))
    x, y = jnp.asarray(rng.normal(size=(64, 40)), jnp.float32), jnp.arange(64) % 10
    program = make_program(lambda *v: deep(v[:3], v[3]), *a, x)
    parts = shared_values(program, 3, {2}, {0, 1})
    once, part = parts.fixed, parts.linear
    assert [program.shape(v) for v in once.frontier] == [(64, 56)]
    assert [e.name for e in once.program.equations].count("dot_general") == 2
    assert [program.shape(v) for v in part.frontier] == [(64, 10)]
    # And the curve along legs is that of each network on its own.
    legs = mcjax.path.Legs([
        mcjax.path.Partial(a, [((0,), mcjax.path.Linear([a[0]], [b[0]]))]),
        mcjax.path.Partial([b[0], a[1], a[2]], [((2,), mcjax.path.Linear([a[2]], [b[2]]))]),
    ])  # fmt: skip
    curve = mcjax.evaluate(legs, deep, (x, y), t=9, chunk=16)
    for i, t in enumerate(curve.t):
        outputs = np.asarray(deep(legs(float(t)), x), np.float64)
        shifted = outputs - outputs.max(1, keepdims=True)
        loss = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(64), y]
        assert curve.loss[i] == pytest.approx(loss.mean(), rel=1e-4)


def test_legs_on_a_mesh_and_costly_points():
    """Legs are swept one by one on a mesh too; costly points are computed once."""
    from jax.sharding import AxisType

    rng = np.random.default_rng(0)
    f = lambda p, x: x @ p["w"]
    a, c, b = ({"w": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)} for _ in range(3))
    x, y = rng.normal(size=(30, 5)).astype(np.float32), np.arange(30) % 3
    legs = mcjax.path.Legs([mcjax.path.Linear(a, c), mcjax.path.Linear(c, b)])
    mesh = jax.make_mesh((1, 1), ("t", "data"), axis_types=(AxisType.Auto,) * 2)
    plain = mcjax.evaluate(legs, f, (x, y), t=7)
    np.testing.assert_allclose(
        mcjax.evaluate(legs, f, (x, y), t=7, mesh=mesh).loss, plain.loss, 1e-5
    )
    known = mcjax.path.Knots.of(legs, plain.t)
    np.testing.assert_allclose(mcjax.evaluate(known, f, (x, y), t=7).loss, plain.loss, rtol=1e-5)
