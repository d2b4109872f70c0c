"""WA-ensembles against ensembles done by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.adjust import solve_layers
from mcjax.merge import independent, soup, wa_ensemble
from mcjax.testing.models.catalogue import MLP, linen, vectors

from ..conftest import traced


def networks(n=3):
    case = linen(MLP((20, 16)), vectors(), [(20,), (16,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    return case, network, [case.another(i) for i in range(n)]


def probabilities(case, members, x):
    return np.mean([jax.nn.softmax(case.run(m, x)) for m in members], 0)


def test_independent_networks_are_averaged():
    case, network, members = networks()
    x = case.inputs(30)
    made = independent(network, members)
    np.testing.assert_allclose(made(x), probabilities(case, members, x), atol=1e-6)
    assert (made.flops, made.parameters) == (1, 1)
    y = np.argmax(probabilities(case, members, x), -1)
    assert made.accuracy((x, y), chunk=7) == 1.0


def test_accuracy_is_of_a_classification():
    case, network, members = networks()
    x, made = case.inputs(30), independent(network, members)
    y = np.argmax(probabilities(case, members, x), -1)
    classes = probabilities(case, members, x).shape[-1]
    assert made.accuracy((x, np.eye(classes, dtype=np.float32)[y])) == 1.0
    for wrong in (np.zeros((30, classes), np.float32), y + classes, y.astype(np.float32)):
        with pytest.raises(ValueError, match="y: "):
            made.accuracy((x, wrong))


def test_the_same_network_three_times_is_the_network():
    case, network, members = networks(1)
    x = case.inputs(100)
    for layer in (1, 2):
        made = wa_ensemble(network, members * 3, x, layer=layer)
        expected = jax.nn.softmax(case.run(members[0], x))
        np.testing.assert_allclose(made(x), expected, atol=1e-3)


def test_second_layer_from_the_last_by_hand():
    """Backbone up to the hidden layer, then each network's own adjusted layer and head."""
    case, network, members = networks()
    x = case.inputs(200)
    made = wa_ensemble(network, members, x, layer=2)
    by_hand = [members[0]]
    for member in members[1:]:
        mixed = {"params": dict(member["params"]) | {"Dense_0": members[0]["params"]["Dense_0"]}}
        by_hand.append(solve_layers(network, mixed, member, x, layers=["Dense_1"]).params)
    np.testing.assert_allclose(made(x), probabilities(case, by_hand, x), atol=1e-5)
    first, rest = 6 * 20, 20 * 16 + 16 * 4
    assert made.flops == pytest.approx((first + 3 * rest) / (3 * (first + rest)))
    assert made.parameters == pytest.approx(
        (first + 20 + 3 * (rest + 16 + 4)) / (3 * (first + 20 + rest + 16 + 4))
    )


def test_last_layer_is_one_network_with_the_mean_of_the_logits():
    case, network, members = networks()
    x = case.inputs(200)
    made = wa_ensemble(network, members, x, layer=1)
    assert len(made.networks) == 1
    logits = [case.run(members[0], x)]
    for member in members[1:]:
        shared = {k: members[0]["params"][k] for k in ("Dense_0", "Dense_1")}
        mixed = {"params": shared | {"Dense_2": member["params"]["Dense_2"]}}
        done = solve_layers(network, mixed, member, x, layers=["Dense_2"])
        logits.append(case.run(done.params, x))
    expected = jax.nn.softmax(np.mean(logits, 0))
    np.testing.assert_allclose(made(x), expected, atol=1e-5)
    assert made.flops == made.parameters == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["convnet", "vgg-bn", "densenet", "transformer", "gru"])
def test_on_other_architectures(name):
    case, network = traced(name)
    x = case.inputs(64)
    made = wa_ensemble(network, [case.another(0), case.another(1)], x, layer=1)
    out = made(x)
    assert out.shape == case.run(case.params, x).shape
    np.testing.assert_allclose(np.sum(out, -1), 1, atol=1e-5)


def test_bad_input():
    case, network, members = networks()
    x = case.inputs(40)
    with pytest.raises(ValueError, match="networks: at least 2 networks needed, got 1"):
        wa_ensemble(network, members[:1], x)
    with pytest.raises(ValueError, match="no backbone before layer 3 from the last"):
        wa_ensemble(network, members, x, layer=3)
    with pytest.raises(ValueError, match="layer must be a positive integer"):
        wa_ensemble(network, members, x, layer=0)
    other = linen(MLP((20,)), vectors(), [(20,)]).params
    with pytest.raises(ValueError, match="different structures"):
        wa_ensemble(network, [members[0], other], x)
    with pytest.raises(ValueError, match="x is an empty batch"):
        wa_ensemble(network, members, jnp.zeros((0, 6)))


def test_what_is_no_list_of_networks():
    case, network, members = networks()
    x = case.inputs(40)
    for call in (lambda v: soup(network, v), lambda v: wa_ensemble(network, v, x)):
        with pytest.raises(ValueError, match=r"must be a list of parameter trees.* got one tree"):
            call(members[0])
    with pytest.raises(
        ValueError, match=r"networks must be a list of parameter trees.* got a method"
    ):
        soup(network, case.apply_fn)
    with pytest.raises(ValueError, match="networks: at least 1 network needed, got 0"):
        soup(network, [])
    with pytest.raises(ValueError, match=r"networks\[1\]: leaf .* NaN"):
        soup(network, [members[0], jax.tree.map(lambda v: v * jnp.nan, members[1])])
    with pytest.raises(ValueError, match=r"network must be a mcjax.Network.* got a list"):
        soup(members, network)
    # A model whose parameters are a list is told from a list of them.
    f = lambda p, x: jax.nn.relu(x @ p[0]) @ p[1]
    a, b = ([s * jnp.eye(3), jnp.ones((3, 2))] for s in (1.0, 2.0))
    listed = mcjax.trace(f, a, jnp.ones((2, 3)))
    np.testing.assert_array_equal(soup(listed, [a, b])[0], 1.5 * jnp.eye(3))
    with pytest.raises(ValueError, match="got one tree of parameters"):
        soup(listed, a)
