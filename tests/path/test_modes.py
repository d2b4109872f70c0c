"""Every path under the modes that JAX can be in."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ..modes import MODES
from ..paths import PATHS


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
