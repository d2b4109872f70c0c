"""Matching by activations where weights are computed and units stand on no layer."""

from __future__ import annotations

from collections import Counter

import jax
import numpy as np
import pytest

import mcjax
from mcjax.align import match_activations, match_butterflies

from .computed import MODELS


@pytest.mark.parametrize("tap", ["post", "pre"])
@pytest.mark.parametrize("name", list(MODELS))
def test_planted_permutations_are_found_or_said_to_be_unmatched(name, tap):
    make, unseen = MODELS[name]
    case = make()
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    assert Counter(g.shape for g in network.groups.values()) == case.shapes
    a = case.another(1)
    p = network.random_permutations(jax.random.key(5))
    inverse = mcjax.Action.of(network, p).inverse().permutations
    matching = match_activations(network, a, network.permute(p, a), case.inputs(64), tap=tap)
    unmatched = matching.unmatched
    assert [network.groups[n].shape for n in unmatched] == unseen
    assert matching.status == ("incomplete" if unseen else "optimal")
    for group in network.groups:
        if group in unmatched:
            assert matching.statuses[group] == "unmatched"
            assert f"not matched: {group}: no value that depends on the data" in matching.summary()
        else:
            assert matching.statuses[group] == "optimal"
            np.testing.assert_array_equal(matching.permutations[group], inverse[group])


@pytest.mark.parametrize("name", ["low-rank", "state-space-kernel"])
def test_what_no_data_show_can_be_matched_by_weights(name):
    """As `unmatched` advises: butterflies for these groups, once the others are aligned."""
    case = MODELS[name][0]()
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a = case.another(1)
    b = network.permute(network.random_permutations(jax.random.key(5)), a)
    matching = match_activations(network, a, b, case.inputs(64))
    aligned = network.permute(matching.permutations, b)
    rest = match_butterflies(network, a, aligned, groups=tuple(matching.unmatched))
    aligned = network.permute(rest.permutations, aligned)
    jax.tree.map(np.testing.assert_array_equal, aligned, a)
