"""Moments of convolutions against NumPy's patches and XLA's convolutions, in float64."""

from __future__ import annotations

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mcjax
from mcjax.adjust import gram, patches
from mcjax.adjust.form import matrix_form
from mcjax.adjust.moments import Wanted, inputs_of, moments_along
from mcjax.adjust.patches import Sliding
from mcjax.path import Partial


def numpys_patches(sliding, x):
    """X (examples and positions, window and channels) by the definition, in float64."""
    x = np.asarray(x, np.float64)
    for axis, ((low, high), apart) in enumerate(zip(sliding.padding, sliding.holes, strict=True)):
        x = np.moveaxis(x, 1 + axis, 0)
        holed = np.zeros(((len(x) - 1) * apart + 1, *x.shape[1:]))
        holed[::apart] = x
        around = [np.zeros((max(n, 0), *x.shape[1:])) for n in (low, high)]
        x = np.concatenate([around[0], holed[max(-low, 0) : len(holed) + min(high, 0)], around[1]])
        x = np.moveaxis(x, 0, 1 + axis)
    reach = [d * (w - 1) + 1 for d, w in zip(sliding.dilation, sliding.window, strict=True)]
    axes = tuple(range(1, x.ndim - 1))
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    steps = (slice(None), *(slice(None, None, s) for s in sliding.strides), slice(None))
    windows = windows[(*steps, *(slice(None, None, d) for d in sliding.dilation))]
    return np.moveaxis(windows, len(axes) + 1, -1)


@st.composite
def slidings(draw):
    rank = draw(st.integers(1, 3))
    each = lambda values: draw(st.tuples(*[values] * rank))
    window = each(st.integers(1, 4))
    return Sliding(
        window, (1, *each(st.integers(1, 2))[1:]), each(st.tuples(*[st.integers(-1, 3)] * 2)),
        each(st.integers(1, 2)), each(st.integers(1, 2)),
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(slidings(), st.integers(1, 7), st.integers(1, 3), st.sampled_from([1, 400, 1 << 17]),
       st.randoms(use_true_random=False))  # fmt: skip
def test_moments_are_numpys(sliding, examples, channels, cached, random):
    """Any window, padding, dilation and data with holes, whichever examples are taken at a time."""
    size = [random.randint(2, 9) for _ in sliding.window]
    holed = [(n - 1) * h + 1 + sum(p)
             for n, h, p in zip(size, sliding.holes, sliding.padding, strict=True)]  # fmt: skip
    reach = [d * (w - 1) for d, w in zip(sliding.dilation, sliding.window, strict=True)]
    assume(all(n > r for n, r in zip(holed, reach, strict=True)))
    assume(sliding.shares(holed[0] - reach[0]))
    rng = np.random.default_rng(examples)
    x = jnp.asarray(rng.normal(size=(examples, *size, channels)), jnp.float32)
    expected = numpys_patches(sliding, x)
    rows = expected.shape[1]
    ys = [jnp.asarray(rng.normal(size=(*expected.shape[: 1 + len(size)], n)), jnp.float32)
          for n in (2, 1)]  # fmt: skip
    ys = [y.reshape(examples, rows, -1, y.shape[-1]) for y in ys]
    with mock.patch.object(patches, "_CACHED_BYTES", cached):
        tiles, crosses = jax.jit(lambda x, ys: sliding.moments(x, ys))(x, ys)
    wide = expected.reshape(-1, int(np.prod(sliding.window)) * channels)
    moment = wide.T @ wide
    found = gram.whole([np.asarray(t)[None] for t in tiles], sliding.places(wide.shape[1]))[0]
    scale = np.sqrt(np.diagonal(moment))
    assert np.all(np.abs(found - moment) <= 1e-6 * np.outer(scale, scale))
    for y, cross in zip(ys, crosses, strict=True):
        target = np.asarray(y, np.float64).reshape(len(wide), -1)
        size = np.outer(scale, np.linalg.norm(target, axis=0))
        assert np.all(np.abs(cross - wide.T @ target) <= 1e-6 * size)


@pytest.mark.parametrize("row", [0, 1, -1])
def test_what_no_window_sees_is_exactly_zero(row):
    """The last row of a window never reaches the first row of an image, and so on."""
    x = np.zeros((30, 6, 5, 2), np.float32)
    x[:, row] = np.random.default_rng(0).normal(size=(30, 5, 2))
    sliding = Sliding((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1))
    tiles, _ = sliding.moments(jnp.asarray(x), [jnp.ones((30, 6, 5, 1))])
    found = gram.whole([np.asarray(t)[None] for t in tiles], sliding.places(18))[0]
    seen = np.any(numpys_patches(sliding, x).reshape(-1, 18), 0)
    assert np.array_equal(np.diagonal(found) > 0, seen)
    assert not found[~seen].any()
    assert (~seen).sum() == {0: 6, 1: 0, -1: 6}[row]


NHWC, NCHW, NHC = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("NHC", "HIO", "NHC")


@pytest.mark.parametrize(
    ("numbers", "window", "options"),
    [
        (NHWC, (3, 3), {}),
        (NCHW, (3, 2), {}),
        (NHWC, (1, 4), {}),  # columns are its rows
        (NHWC, (3, 3), {"window_strides": (2, 1)}),
        (NHWC, (3, 3), {"window_strides": (2, 2)}),
        (NCHW, (3, 3), {"feature_group_count": 2}),
        (NHWC, (2, 2), {"rhs_dilation": (2, 1), "padding": "VALID"}),
        (NHWC, (3, 3), {"lhs_dilation": (2, 2), "padding": ((1, 2), (2, 0))}),
        (NHWC, (9, 9), {}),  # more rows than the image has
        (NHWC, (1, 1), {}),
        (NHC, (5,), {}),
    ],
)
def test_moments_of_layers_are_those_of_what_they_compute(numbers, window, options):
    """For any two weights V and W, of V with a layer's: VᵀXᵀXW = ⟨conv(x, V), conv(x, W)⟩."""
    rng = np.random.default_rng(0)
    options = {"window_strides": (1,) * len(window), "padding": "SAME", **options}
    sizes = dict(zip("HWC", (8, 7, 4), strict=True))
    x = rng.normal(size=[sizes.get(d, 10) for d in numbers[0]]).astype(np.float32)
    inputs = 4 // options.get("feature_group_count", 1)
    shape = {**dict(zip("HW", window, strict=False)), "I": inputs, "O": 6}
    weights = lambda: rng.normal(size=[shape[d] for d in numbers[1]]).astype(np.float32)

    def convolved(x, w):
        return jax.lax.conv_general_dilated(x, w, dimension_numbers=numbers, **options)

    def f(p, x):  # two layers that read the same
        return [convolved(p["scale"] * x, p[name]) for name in ("u", "v")]

    params = {"scale": jnp.float32(1), "u": weights(), "v": weights()}
    network = mcjax.trace(f, params, x[:2])
    numbers_of = {layer.weight: n for n, layer in enumerate(network.layers)}
    wanted = [Wanted(numbers_of[name], 0) for name in ("u", "v")]
    given_ = inputs_of(network, x, wanted, 4)
    (found,) = moments_along(network, Partial(params, ()), [0.0], wanted, [params], given_)
    with jax.enable_x64(True):
        wide = lambda *values: (jnp.asarray(v, jnp.float64) for v in values)
        for name, normals, want in zip(("u", "v"), found, wanted, strict=True):
            layer = network.layers[want.layer]
            form = matrix_form(network.analysis.program, layer, layer.contraction)
            one, other = weights(), weights()
            y, z = (np.asarray(convolved(*wide(x, w))) for w in (one, other))
            a, b = (np.float64(w).reshape(-1)[form.index] for w in (one, other))
            of = np.asarray(convolved(*wide(x, params[name])))
            gram_, cross = (np.stack([getattr(n, k) for n in normals]) for k in ("gram", "cross"))
            size = np.linalg.norm(y) * np.linalg.norm(z)
            assert abs(np.sum(a * (gram_ @ b)) - np.sum(y * z)) <= 1e-6 * size
            size = np.linalg.norm(y) * np.linalg.norm(of)
            assert abs(np.sum(a * cross) - np.sum(y * of)) <= 1e-6 * size
