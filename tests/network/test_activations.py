"""Activations and layer inputs of the evaluating interpreter."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.testing.models.catalogue import (
    MLP,
    Transformer,
    linen,
    tokens,
    transformer_shapes,
    vectors,
)


def mlp_case():
    case = linen(MLP(), vectors(), [(8,), (9,)])
    return case, mcjax.trace(case.apply_fn, case.params, case.x), case.another(1)


def by_hand(params, x):
    """(layer inputs, pre-activations) in float64."""
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), params["params"])
    h, inputs, outputs = np.asarray(x, np.float64), [], []
    for name in ("Dense_0", "Dense_1", "Dense_2"):
        inputs.append(h)
        outputs.append(h @ p[name]["kernel"] + p[name]["bias"])
        h = np.maximum(outputs[-1], 0)
    return inputs, outputs


def test_layers_of_an_mlp():
    case, network, params = mlp_case()
    x = case.inputs(11)
    inputs, outputs = by_hand(params, x)
    for i, layer in enumerate(network.layers):
        found_in = network.layer_inputs(params, x)[layer.name]
        found_out = network.layer_outputs(params, x)[layer.name]
        np.testing.assert_allclose(found_in, inputs[i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found_out, outputs[i], rtol=1e-4, atol=1e-5)


def test_groups_of_an_mlp():
    case, network, params = mlp_case()
    x = case.inputs(11)
    inputs, outputs = by_hand(params, x)
    post, pre = (network.activations(params, x, tap) for tap in ("post", "pre"))
    for i, name in enumerate(network.groups):
        np.testing.assert_allclose(post[name][0], inputs[i + 1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(pre[name][0], outputs[i], rtol=1e-4, atol=1e-5)


class _Normalised(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (5, 6):
            x = nn.BatchNorm(use_running_average=True)(nn.Conv(width, (3, 3))(x))
            x = nn.relu(x)
        return nn.Dense(2)(x.mean((1, 2)))


def test_preactivations_are_what_the_nonlinearity_reads():
    """After batch normalisation, where flax says its output is; a layer's own output is before."""
    model, x = _Normalised(), jax.random.normal(jax.random.key(0), (3, 8, 8, 2))
    params = model.init(jax.random.key(1), x)
    params = jax.tree.map(
        lambda v: v + 0.1 * jax.random.normal(jax.random.key(v.size), v.shape) ** 2, params
    )
    network = mcjax.trace(model.apply, params, x)
    captured = model.apply(params, x, capture_intermediates=True)[1]["intermediates"]
    pre, written = network.activations(params, x, "pre"), network.layer_outputs(params, x)
    for i, name in enumerate(network.groups):
        expected = captured[f"BatchNorm_{i}"]["__call__"][0]
        np.testing.assert_allclose(pre[name][0], expected.reshape(-1, 5 + i), rtol=1e-4, atol=1e-5)
        expected = captured[f"Conv_{i}"]["__call__"][0]
        found = written[network.layers[i].name]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_group_has_activations_that_move_with_it(model):
    """Permuting a network permutes its activations: the taps are where the groups are."""
    case, network = model
    params, x = case.another(1), case.inputs(4)
    p = network.random_permutations(jax.random.key(2))
    moved = network.permute(p, params)
    before, after = (jax.device_get(network.activations(q, x)) for q in (params, moved))
    for name, group in network.groups.items():
        assert before[name], name
        for u, v in zip(before[name], after[name], strict=True):
            assert u.shape[1:] == group.shape
            if not group.outer:
                # Other groups on the same array are samples, in another order: compare sorted.
                u, v = np.sort(u[:, np.asarray(p[name])], 0), np.sort(v, 0)
                scale = float(np.abs(u).max())
                np.testing.assert_allclose(v, u, rtol=5e-3, atol=5e-3 * scale)


def test_heads_and_their_units():
    case = linen(Transformer(), tokens(), transformer_shapes())
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    found = network.activations(case.another(1), case.x)
    (value,) = [g for g in network.groups if g == "MultiHeadDotProductAttention_0/value"]
    assert found[value][0].shape == (3 * 7, 2, 4)


def test_under_vmap():
    case, network, params = mlp_case()
    x = case.inputs(6)
    stacked = jax.tree.map(lambda *v: jnp.stack(v), params, case.another(2))
    both = jax.vmap(lambda p: network.activations(p, x)["Dense_0"][0])(stacked)
    np.testing.assert_allclose(
        both[1], network.activations(case.another(2), x)["Dense_0"][0], rtol=1e-5, atol=1e-6
    )


def test_unknown_tap():
    case, network, params = mlp_case()
    with pytest.raises(ValueError, match="tap must be one of"):
        network.activations(params, case.x, "middle")
