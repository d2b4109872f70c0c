"""Tracing, permuting and paths under the modes that JAX can be in."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

import mcjax
from mcjax.testing.models.catalogue import MODELS

from ..conftest import COVERING, traced
from ..modes import MODES

# The rest are tried in slow runs. Without jit every operation is compiled by itself.
EAGERLY = ("mlp", "attention-grouped-query")


def cases():
    for mode, name in itertools.product(MODES, MODELS):
        slow = name not in (EAGERLY if mode == "disable_jit" else COVERING)
        yield pytest.param(mode, name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("mode", "name"), list(cases()))
def test_modes(mode, name):
    """The same groups; permuted and halfway parameters are those of the ordinary mode."""
    model, network = traced(name)
    other = model.another(3)
    key = jax.random.key(1)
    permutations = network.random_permutations(key)
    with MODES[mode]():
        _skip_unless_it_runs(model)
        found = mcjax.trace(model.apply_fn, model.params, model.x)
        moved = found.permute(permutations, other)
        halfway = mcjax.path.Linear(model.params, moved)(0.5)
        found.random_permutations(key)
    assert {n: g.shape for n, g in found.groups.items()} == {
        n: g.shape for n, g in network.groups.items()
    }
    assert found.verification is not None
    expected = network.permute(permutations, other)
    jax.tree.map(np.testing.assert_array_equal, moved, expected)
    expected = mcjax.path.Linear(model.params, expected)(0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), halfway, expected)


def _skip_unless_it_runs(model):
    try:
        jax.eval_shape(model.apply_fn, model.params, model.x)
    except Exception as error:
        pytest.skip(f"the model itself does not run in this mode: {type(error).__name__}")
