"""The swap stage: rounds of transpositions, and the path through them."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcjax.path import Swaps
from mcjax.path.swaps import transpositions

from ..conftest import traced


def cycles(permutation):
    seen, count = set(), 0
    for start in range(len(permutation)):
        count += start not in seen
        while start not in seen:
            seen.add(start)
            start = permutation[start]
    return count


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 8))
def test_rounds_sort_the_permutation(permutation, together):
    rounds = transpositions(np.array(permutation), together)
    state, swaps = list(permutation), 0
    for pairs in rounds:
        real = [(i, j) for i, j in pairs if i != j]
        used = [unit for pair in real for unit in pair]
        assert len(set(used)) == len(used) <= 2 * together
        for i, j in real:
            state[i], state[j] = state[j], state[i]
        swaps += len(real)
    assert state == list(range(12))
    assert swaps == 12 - cycles(permutation)  # c − 1 for a cycle of length c


def test_all_at_once_takes_logarithmically_many_rounds():
    cycle = np.roll(np.arange(64), 1)
    assert len(transpositions(cycle, 64)) == 6
    assert len(transpositions(cycle, 1)) == 63


@pytest.mark.parametrize(
    ("name", "together"),
    [("mlp", 1), ("mlp", 3), ("vgg-bn", 3), ("transformer", 3), ("experts", 1), ("densenet", 3)],
)
def test_every_leg_ends_at_the_same_function(name, together):
    case, network = traced(name)
    end, x = case.another(1), case.inputs(8)
    permutations = {
        n: np.asarray(p) for n, p in network.random_permutations(jax.random.key(3)).items()
    }
    stage = Swaps(network, end, permutations, together=together)
    jax.tree.map(np.testing.assert_array_equal, stage(0.0), network.permute(permutations, end))
    jax.tree.map(np.testing.assert_array_equal, stage(1.0), end)
    expected = case.run(end, x)
    output = jax.jit(lambda stage, t: case.run(stage.at(t), x))
    for k in range(0, stage.legs + 1, max(1, stage.legs // 5)):
        got = output(stage, k / stage.legs)
        np.testing.assert_allclose(got, expected, atol=1e-3 * float(np.abs(expected).max()))


def test_the_middle_of_a_swap_is_the_mean_of_the_two():
    case, network = traced("mlp")
    end, name = case.another(1), next(iter(network.groups))
    swap = np.arange(8)
    swap[[2, 5]] = 5, 2
    stage = Swaps(network, end, {name: swap})
    assert stage.legs == 1
    before, middle = (p["params"]["Dense_0"]["kernel"] for p in (end, stage(0.5)))
    mean = (before[:, 2] + before[:, 5]) / 2
    np.testing.assert_allclose(middle[:, [2, 5]], np.stack([mean, mean], 1), rtol=1e-6)
    np.testing.assert_array_equal(middle[:, 3], before[:, 3])
    assert stage.middles(10).tolist() == [0.5]


def test_bad_input():
    case, network = traced("mlp")
    name = next(iter(network.groups))
    with pytest.raises(ValueError, match="there is nothing to swap"):
        Swaps(network, case.params, network.identity_permutations())
    with pytest.raises(ValueError, match="is no permutation"):
        Swaps(network, case.params, {name: np.zeros(8, int)})
    with pytest.raises(ValueError, match="together must be a positive integer"):
        Swaps(network, case.params, {name: np.roll(np.arange(8), 1)}, together=0)
