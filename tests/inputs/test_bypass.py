"""Barriers that are planted: a hill with a way around, a wall without one."""

from __future__ import annotations

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import mcjax
from mcjax.inputs import Bypass, bypass, interpolate
from mcjax.inputs.bounds import inside
from mcjax.inputs.descent import Descent, Fixed, _penalties, descend
from mcjax.tasks import REGRESSION

AT = np.array([0.0, -0.2, 0.1], np.float32)
HILL = {"at": AT, "steep": np.float32(4)}
QUICK = Bypass(0.05, points=41, steps=96, block=8, learning_rate=0.05)
RNG = np.random.default_rng(0)
N = 11
A, C = ((np.array([s, 0, 0]) + 0.05 * RNG.normal(size=(N, 3))).astype(np.float32) for s in (-1, 1))
Y = np.zeros((N, 1), np.float32)


def hill(params, x):
    return jnp.exp(-params["steep"] * jnp.sum((x - params["at"]) ** 2, -1, keepdims=True))


def wall(params, x):
    """As high everywhere on x₁ = 0: in the hyperplane nothing falls."""
    return jnp.exp(-params["steep"] * x[:, :1] ** 2)


def losses_in_numpy(x):
    return np.exp(-8 * np.sum((x.astype(np.float64) - AT) ** 2, -1))


def test_the_hill_is_bypassed():
    made = bypass(hill, HILL, (A, C), Y, QUICK, task=REGRESSION)
    assert made.status.tolist() == ["below delta"] * N
    assert (made.direct.height > 0.3).all()
    for i, points in enumerate(made.points):
        np.testing.assert_array_equal(points[[0, -1]], [A[i], C[i]])
        t = np.linspace(0, 1, 200)[:, None]
        fine = [(1 - t) * a + t * c for a, c in itertools.pairwise(points)]
        highest = losses_in_numpy(np.concatenate(fine)).max()
        assert highest <= 0.05 * 1.02
        assert highest == pytest.approx(made.height[i], rel=0.02)
    assert "11 below delta" in made.summary()
    middle = made.path(0)(0.5)
    if len(made.points[0]) == 3:
        np.testing.assert_allclose(middle, made.points[0][1], rtol=1e-6)


def test_a_lower_delta_needs_more_rounds_and_they_are_bounded():
    deep = Bypass(0.005, 5, 31, 41, 300, 10, 0.5, 0.05)
    made = bypass(hill, HILL, (A[:2], C[:2]), Y[:2], deep, task=REGRESSION)
    assert made.status.tolist() == ["below delta"] * 2
    assert max(map(len, made.points)) > 3
    for bound in ({"depth": 1}, {"inserted": 1}):
        shallow = Bypass(
            0.005, points=41, steps=300, block=10, margin=0.5, learning_rate=0.05, **bound
        )
        made = bypass(hill, HILL, (A[:2], C[:2]), Y[:2], shallow, task=REGRESSION)
        assert [len(p) for p in made.points] == [3, 3]
        assert made.status.tolist() == ["budget spent"] * 2
        assert (made.height > 0.005).all()


def test_two_segments_of_a_chain_in_one_round():
    """Three hills in a row, the middle one first, then both others at once."""

    def hills(p, x):
        return sum(
            high * jnp.exp(-8 * ((x[:, :1] - at) ** 2 + (x[:, 1:] + p["at"]) ** 2))
            for at, high in ((-1.0, 0.8), (0.0, 1.0), (1.0, 0.8))
        )

    how = Bypass(0.02, 3, 15, 41, 300, 10, 0.5, 0.05)
    a, c = np.float32([[-2, 0]]), np.float32([[2, 0]])
    params, y = {"at": np.float32(0.2)}, np.zeros((1, 1), np.float32)
    made = bypass(hills, params, (a, c), y, how, task=REGRESSION)
    (points,) = made.points
    assert len(points) >= 5
    assert (np.diff(points[:, 0]) > 0).all()  # from A to C
    path = made.path(0)
    line = np.concatenate([np.asarray(path(t))[None] for t in np.linspace(0, 1, 101)])
    assert (np.asarray(hills(params, line)) ** 2).max() <= made.height[0] * 1.01


def test_what_cannot_be_bypassed_is_said():
    a, c = np.float32([[-1, 0, 0]]), np.float32([[1, 0, 0]])
    made = bypass(wall, HILL, (a, c), Y[:1], QUICK, task=REGRESSION)
    assert made.status.tolist() == ["stuck"]
    np.testing.assert_allclose(made.points[0][1], 0, atol=1e-6)
    inside = np.concatenate([A[:1], AT[None]])
    made = bypass(hill, HILL, (inside, C[:2]), Y[:2], QUICK, task=REGRESSION)
    assert made.status.tolist() == ["below delta", "ends above delta"]
    assert len(made.points[1]) == 2
    holes = lambda p, x: jnp.where(x[:, :1] > 0.5, jnp.nan, hill(p, x))
    made = bypass(holes, HILL, (A[:1], C[:1]), Y[:1], QUICK, task=REGRESSION)
    assert made.status.tolist() == ["not finite"]
    assert np.isnan(made.height[0])


def fixed_of(rows, below=QUICK.margin * QUICK.delta):
    a, c = A[rows], C[rows]
    normal = (c - a) / np.linalg.norm(c - a, axis=1, keepdims=True)
    return Fixed((a + c) / 2, (Y[rows],), np.full(len(a), below), normal)


def test_the_steps_are_adams_projected_and_stay_in_the_hyperplane():
    """Against Adam in float64 by hand, with the gradient of the hill in closed form."""
    how = Bypass(1e-9, steps=7, block=3, learning_rate=0.05, deviation=0.3)
    fixed = fixed_of(np.arange(4), below=0.0)
    found = descend(Descent(hill, REGRESSION, how, 64), HILL, fixed)
    start, normal = (np.asarray(v, np.float64) for v in (fixed.start, fixed.normal))
    b, m, v = start, 0.0, 0.0
    for k in range(1, 8):
        slope = -16 * (b - AT) * losses_in_numpy(b)[:, None] + 0.3 * 2 * (b - start) / 3
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        update = -0.05 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        b = b + update - (update * normal).sum(1, keepdims=True) * normal
    np.testing.assert_allclose(found, b, atol=1e-5)
    assert np.abs(((found - start) * normal).sum(1)).max() < 1e-6
    assert np.abs(found - start).max() > 0.1


def test_together_is_one_by_one_whatever_the_batch():
    apart = [descend(Descent(hill, REGRESSION, QUICK, 64), HILL, fixed_of([i])) for i in range(N)]
    for chunk in (64, 3):
        found = descend(Descent(hill, REGRESSION, QUICK, chunk), HILL, fixed_of(np.arange(N)))
        np.testing.assert_allclose(found, np.concatenate(apart), atol=1e-5)


def test_pixel_differences_are_summed_and_the_deviation_is_a_mean():
    """Differences count as they are, less half a step, and by their square within one."""
    image = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
    moved = RNG.normal(size=image.shape).astype(np.float32)
    how = Bypass(deviation=0.7, roughness=0.01, learning_rate=0.4)
    fixed = Fixed(image, (Y[:2],), np.zeros(2))
    plan = Descent(hill, REGRESSION, how, 2)
    found = _penalties(plan.program, plan.weights, fixed, jnp.asarray(image + moved))
    apart = np.r_[(moved[:, 1:] - moved[:, :-1]).ravel(), np.diff(moved, axis=2).ravel()]
    rough = scipy.special.huber(0.4, apart) / 0.4  # of the width of a step
    assert 0.1 < (np.abs(apart) < 0.4).mean() < 0.9
    expected = sum(0.7 * (m**2).mean() for m in moved) + 0.01 * rough.sum()
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_images_do_not_depend_on_who_is_beside_them():
    """Whose sums are rounded in another order then."""
    rng, size = np.random.default_rng(2), 24
    params = {"w": rng.normal(size=(size**2, 256)) / size, "out": rng.normal(size=(256, 1)) / 16}
    params = {k: v.astype(np.float32) for k, v in params.items()}

    def model(p, x):
        return jax.nn.relu(x.reshape(len(x), -1) @ p["w"]) @ p["out"] - 2

    start = rng.uniform(size=(16, size, size, 1)).astype(np.float32)
    normal = rng.normal(size=start.shape).astype(np.float32)
    normal /= np.sqrt(np.square(normal).sum((1, 2, 3), keepdims=True))
    plan = Descent(model, REGRESSION, Bypass(steps=128, block=16, roughness=0.01), 64)

    def moved(rows):
        n = len(start[rows])
        labels = (np.zeros((n, 1), np.float32),)
        return descend(plan, params, Fixed(start[rows], labels, np.zeros(n), normal[rows]))

    together = moved(slice(None))
    apart = np.concatenate([moved(slice(i, i + 1)) for i in range(16)])
    assert np.abs(together - start).max() > 0.1
    np.testing.assert_allclose(apart, together, atol=1e-5)  # 1e-2 with |d|, without the squares


@hypothesis.given(st.integers(0, 10**6), st.booleans())
@hypothesis.settings(max_examples=25, deadline=None)
def test_the_nearest_point_of_box_and_hyperplane(seed, by_channel):
    """Against SciPy's SLSQP in float64."""
    rng = np.random.default_rng(seed)
    d = 5
    low, high = (np.full(d, v) for v in (-0.3, 1.1))
    if by_channel:
        low, high = np.sort(rng.uniform(-1, 1, (2, d)), 0) + np.array([[-0.1], [0.1]])
    start, b = rng.uniform(low, high), rng.uniform(low - 1, high + 1)
    normal = rng.normal(size=d)
    normal /= np.linalg.norm(normal)
    limits = tuple(map(tuple, (low, high)))
    given = (jnp.asarray(v[None], jnp.float32) for v in (b, start, normal))
    b32, start32, normal32 = given
    found = np.asarray(inside(b32, limits, start32, normal32))[0]
    assert (found >= low.astype("f")).all()
    assert (found <= high.astype("f")).all()
    assert abs(normal @ (found - start)) < 1e-4
    best = scipy.optimize.minimize(
        lambda v: ((v - b) ** 2).sum(), start, method="SLSQP", bounds=list(zip(low, high)),
        constraints={"type": "eq", "fun": lambda v: normal @ (v - start)}, options={"ftol": 1e-12},
    )  # fmt: skip
    assert ((found - b) ** 2).sum() <= best.fun + 1e-3


def test_points_stay_within_bounds_and_hyperplanes():
    """A number or one for each channel; without bounds the way around goes farther."""
    wide = ((-2.0, -1.0, -0.3), (2.0, 1.2, 0.3))
    how = dataclasses.replace(QUICK, bounds=wide, steps=200)
    made = bypass(hill, HILL, (A, C), Y, how, task=REGRESSION)
    assert made.status.tolist() == ["below delta"] * N
    for i, points in enumerate(made.points):
        assert (points >= np.float32(wide[0])).all()
        assert (points <= np.float32(wide[1])).all()
        if len(points) == 3:
            top = (1 - made.direct.summit[i]) * A[i] + made.direct.summit[i] * C[i]
            assert abs(np.dot(points[1] - top, C[i] - A[i])) < 1e-4
    narrow = dataclasses.replace(QUICK, bounds=(-2, (2, 0.2, 0.2)))
    made = bypass(hill, HILL, (A, C), Y, narrow, task=REGRESSION)
    assert all((p <= np.float32([2, 0.2, 0.2])).all() for p in made.points)
    free = bypass(hill, HILL, (A, C), Y, QUICK, task=REGRESSION)
    assert max(np.abs(p[1:-1, 1:]).max() for p in free.points) > 0.3


@pytest.mark.parametrize("bounds", [None, (-300.0, 300.0)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_hyperplanes_of_half_precision(dtype, bounds):
    """Of images in 0 to 255, whose squares are more than float16 holds."""
    rng, d, size = np.random.default_rng(2), 64, 255
    a, c = (jnp.asarray(size * rng.uniform(size=(4, d)), dtype) for _ in range(2))
    at = jnp.asarray(0.1 * rng.normal(size=d) + 0.5, jnp.float32)

    def hill(params, x):
        apart = jnp.mean((x.astype(jnp.float32) / size - params["at"]) ** 2, -1, keepdims=True)
        return jnp.exp(-16 * apart)

    how = Bypass(0.1, 1, points=11, steps=32, block=8, learning_rate=4, deviation=0, bounds=bounds)
    made = bypass(hill, {"at": at}, (a, c), jnp.zeros((4, 1)), how, task=REGRESSION)
    moved = 0
    for pair, points in enumerate(made.points):
        first, point, last = points.astype(np.float64)
        along, t = last - first, made.direct.t[made.direct.loss[pair].argmax()]
        assert (point - first) @ along / (along @ along) == pytest.approx(t, abs=0.02)
        moved = max(moved, np.abs(point - (1 - t) * first - t * last).max())
    assert moved > 10


def test_losses_on_the_chains():
    made = bypass(hill, HILL, (A, C), Y, QUICK, task=REGRESSION)
    t = np.linspace(0, 1, 401)
    found = made.loss_at(t)
    for i in range(N):
        exact = losses_in_numpy(np.stack([np.asarray(made.path(i)(s)) for s in t[::40]]))
        np.testing.assert_allclose(found[i, ::40], exact, atol=2e-3)
    np.testing.assert_allclose(found.max(1), made.height, rtol=0.02)
    assert made.joined(0) < made.joined(QUICK.depth) == 1.0


def test_a_convolutional_classifier():
    """Steps from the host, where loops are slow for convolutions."""

    def apply(p, x):
        x = jax.lax.conv_general_dilated(
            x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.maximum(x, 0).mean((1, 2)) * 3

    params = {"k": RNG.normal(size=(3, 3, 1, 4)).astype(np.float32)}
    x = RNG.normal(size=(40, 5, 5, 1)).astype(np.float32) * 2
    y = np.asarray(jnp.argmax(apply(params, x), -1))
    label = int(np.bincount(y).argmax())
    x = x[y == label][:6]
    labels = np.full(3, label)
    direct = interpolate(apply, params, (x[:3], x[3:]), labels, 21)
    delta = float(np.maximum(direct.loss[:, 0], direct.loss[:, -1]).max() * 1.01)
    how = Bypass(delta, points=21, steps=20, block=8, learning_rate=0.05)
    made = bypass(apply, params, (x[:3], x[3:]), labels, how)
    np.testing.assert_allclose(made.direct.loss, direct.loss, atol=1e-6)
    assert set(made.status) <= {"below delta", "budget spent", "stuck"}
    again = [interpolate(apply, params, (p[:-1], p[1:]), np.full(len(p) - 1, label), 21)
             for p in made.points]  # fmt: skip
    np.testing.assert_allclose(made.height, [v.height.max() for v in again], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0.0}, "delta must be positive and finite"),
        ({"delta": "low"}, "delta must be positive and finite, got 'low'"),
        ({"delta": np.ones(2)}, "delta must be positive and finite"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"depth": 0}, "depth must be a positive integer"),
        ({"points": 2}, "points must be 3 or more"),
        ({"margin": 2.0}, r"margin must lie in \(0, 1\]"),
        ({"deviation": -1.0}, "deviation must be ≥ 0"),
        ({"bounds": (1.0, 0.0)}, r"bounds must be \(least, greatest\)"),
        ({"bounds": (0.0, float("inf"))}, r"bounds must be \(least, greatest\)"),
        ({"bounds": 1.0}, r"bounds must be \(least, greatest\)"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Bypass(**options)


def test_bad_pairs():
    with pytest.raises(ValueError, match="A = C in pair 0"):
        bypass(hill, HILL, (A, A), Y, task=REGRESSION)
    with pytest.raises(ValueError, match=r"how must be a mcjax\.inputs\.Bypass"):
        bypass(hill, HILL, (A, C), Y, 0.1, task=REGRESSION)  # type: ignore[arg-type]
    small = dataclasses.replace(QUICK, bounds=(-0.5, 0.5))
    with pytest.raises(ValueError, match=r"x_a: values lie in \[-1.*outside the bounds"):
        bypass(hill, HILL, (A, C), Y, small, task=REGRESSION)
    channels = dataclasses.replace(QUICK, bounds=((-2, -2), 2))
    with pytest.raises(ValueError, match="one for each of 3 channels"):
        bypass(hill, HILL, (A, C), Y, channels, task=REGRESSION)
    assert isinstance(mcjax.inputs.Bypass(), Bypass)
