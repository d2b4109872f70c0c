"""The mean over neurons, by hand: it is what arcs turn around."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import mcjax
from mcjax.methods.arc import neuron_mean
from mcjax.testing.models.catalogue import MODELS


def both(name):
    case = MODELS[name]()
    return mcjax.trace(case.apply_fn, case.params, case.x), case.another(1), case.another(2)


def pooled(a, b, axes):
    """The mean of both arrays over axes, kept, in float64."""
    together = np.stack([np.asarray(a, np.float64), np.asarray(b, np.float64)])
    return together.mean(0).mean(axes, keepdims=True)


def test_incoming_weights_and_outgoing_weights_of_the_last_layer():
    network, a, b = both("mlp")
    mean = neuron_mean(network, a, b)["params"]
    for layer, kernel_axis, bias_axes in (("Dense_0", 1, 0), ("Dense_1", 1, 0), ("Dense_2", 0, ())):
        one, two = (p["params"][layer] for p in (a, b))
        for leaf, axes in (("kernel", kernel_axis), ("bias", bias_axes)):
            expected = pooled(one[leaf], two[leaf], axes)
            assert mean[layer][leaf].shape == expected.shape  # small: what broadcasts stays so
            np.testing.assert_allclose(mean[layer][leaf], expected, atol=1e-6)


def test_only_the_groups_that_turn():
    """With the first layer's units alone, the second weight belongs to the units it reads."""
    network, a, b = both("mlp")
    mean = neuron_mean(network, a, b, ["Dense_0"])["params"]
    one, two = (p["params"]["Dense_1"] for p in (a, b))
    np.testing.assert_allclose(
        mean["Dense_1"]["kernel"], pooled(one["kernel"], two["kernel"], 0), atol=1e-6
    )
    np.testing.assert_allclose(mean["Dense_1"]["bias"], (one["bias"] + two["bias"]) / 2, atol=1e-6)


def test_branches_have_means_of_their_own():
    """One normalisation of three branches of 3, 4 and 2 channels; its statistics stay apart."""
    network, a, b = both("inception")
    mean = neuron_mean(network, a, b)
    scales = [p["params"]["BatchNorm_0"]["scale"] for p in (a, b)]
    parts = [
        pooled(*(s[i:j] for s in scales), 0).repeat(j - i) for i, j in ((0, 3), (3, 7), (7, 9))
    ]
    np.testing.assert_allclose(
        mean["params"]["BatchNorm_0"]["scale"], np.concatenate(parts), atol=1e-6
    )
    variances = [p["batch_stats"]["BatchNorm_0"]["var"] for p in (a, b)]
    np.testing.assert_allclose(
        mean["batch_stats"]["BatchNorm_0"]["var"], sum(variances) / 2, atol=1e-6
    )


def test_heads_are_pooled_and_layers_of_a_scan_are_not():
    network, a, b = both("attention-fused-split")
    mean = jnp.broadcast_to(neuron_mean(network, a, b)["qkv"], (12, 72))
    expected = pooled(a["qkv"].reshape(12, 3, 24), b["qkv"].reshape(12, 3, 24), 2)
    np.testing.assert_allclose(
        mean, np.broadcast_to(expected, (12, 3, 24)).reshape(12, 72), atol=1e-6
    )
    network, a, b = both("scan")
    mean = neuron_mean(network, a, b)
    np.testing.assert_allclose(mean["a"], pooled(a["a"], b["a"], 2), atol=1e-6)


def test_a_recurrent_weight_belongs_to_the_units_that_it_writes():
    network, a, b = both("gru")
    mean = neuron_mean(network, a, b)["params"]["GRUCell_0"]["hn"]["kernel"]
    one, two = (p["params"]["GRUCell_0"]["hn"]["kernel"] for p in (a, b))
    np.testing.assert_allclose(mean, pooled(one, two, 1), atol=1e-6)


def test_an_arc_around_it_has_exact_ends():
    network, a, b = both("inception")
    path = mcjax.path.Arc(a, b, mean=neuron_mean(network, a, b))
    for t, end in ((0.0, a), (1.0, b)):
        jax.tree.map(np.testing.assert_array_equal, path(t), end)
