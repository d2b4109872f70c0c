"""Every path under the modes that JAX can be in."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import mcjax

from ..modes import MODES
from ..paths import COMPUTED, OWN, PATHS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PATHS)
def test_points(name, mode):
    """A path made in the ordinary mode gives the same points; under `jit` and vmapped too."""
    path = PATHS[name]()
    times = jax.numpy.asarray([0.0, 0.3, 1.0])
    expected = jax.vmap(path)(times), path(0.3)
    with MODES[mode]():
        found = jax.vmap(path)(times), path(0.3)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PATHS | COMPUTED | OWN)
def test_a_traced_t_outside_is_not_seen(name):
    """The formula is followed: a chain's weights go to zero, any other path goes on smoothly."""
    path = (PATHS | COMPUTED | OWN)[name]()
    numbers = lambda p: np.concatenate([np.ravel(v) for v in jax.tree.leaves(p)])
    outside = jax.jit(lambda p: jax.vmap(p)(jax.numpy.asarray([0.98, 0.99, 1.0, 1.01, 3.0])))(path)
    before, near, end, after, far = (
        numbers(jax.tree.map(lambda v, i=i: v[i], outside)).astype(float) for i in range(5)
    )
    assert np.isfinite(far).all()
    if isinstance(path, mcjax.path.PolygonalChain):
        moved = [np.ndim(v) > 0 for v in jax.tree.leaves(path(0.0)) for _ in range(np.size(v))]
        np.testing.assert_array_equal(far[moved], 0)
    elif name != "repaired":  # whose points are what batches make of them
        gone = np.abs(end - near).max()
        assert np.abs(after - end - 2 * (end - near) + (near - before)).max() < 0.01 * gone
