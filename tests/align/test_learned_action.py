"""Elements of the whole group learned by the loss: planted ones, gradients, runs that go on."""

from __future__ import annotations

import dataclasses
import warnings
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mcjax
from mcjax.align import ActionPath, ActionSearch, learn_action
from mcjax.align import latent as of_latents
from mcjax.tasks import REGRESSION
from mcjax.training import Protocol, train_curve

PROTOCOL = Protocol(30, 32)


def rms(h):
    return h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)


def odd(p, x):
    return jnp.tanh(x @ p["w1"] + p["b"]) @ p["w2"]


def transformer(p, x):
    """Pre-norm, no scale: the stream turns, heads are general linear, the feed-forward units
    scale."""
    h = x @ p["in"]
    n = rms(h)
    q, k, v = (jnp.einsum("btd,dhu->bthu", n, p[name]) for name in "qkv")
    s = jax.nn.softmax(jnp.einsum("bthu,bshu->bhts", q, k))
    h = h + jnp.einsum("bhts,bshu,hud->btd", s, v, p["o"])
    h = h + jax.nn.relu(rms(h) @ p["up"]) @ p["down"]
    return (rms(h) @ p["out"])[:, 0]


NETS = {
    "tanh": (odd, {"w1": (5, 6), "b": (6,), "w2": (6, 3)}, (5,)),
    "transformer": (
        transformer,
        {"in": (5, 6), "q": (6, 2, 3), "k": (6, 2, 3), "v": (6, 2, 3), "o": (2, 3, 6),
         "up": (6, 4), "down": (4, 6), "out": (6, 3)},
        (4, 5),
    ),
}  # fmt: skip


@cache
def net(name):
    """(network, parameters, inputs, what it says of them)."""
    f, shapes, example = NETS[name]
    rng = np.random.default_rng(0)
    params = {
        n: jnp.asarray(rng.normal(size=s) * s[0] ** -0.5, jnp.float32) for n, s in shapes.items()
    }
    x = jnp.asarray(rng.normal(size=(256, *example)), jnp.float32)
    network = mcjax.trace(f, params, x[:2])
    return network, params, x, jax.jit(f)(params, x)


def norm(tree):
    return float(sum(jnp.sum(v**2) for v in jax.tree.leaves(tree))) ** 0.5


def distance(a, b):
    return norm(jax.tree.map(jnp.subtract, a, b))


def drawn(tree, seed, size):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda v: jnp.asarray(size * rng.normal(size=v.shape), jnp.float32), tree)


def near_identity(network, seed, size):
    """An element that no permutation or sign belongs to."""
    a = dict.fromkeys(network.groups, None)
    latents = drawn(of_latents.zeros(network), seed, size)
    for name in a:
        if of_latents.UNITS in latents[name]:
            latents[name][of_latents.UNITS] *= 0
    return of_latents.action_of(network, latents, 0.1)


def test_a_planted_element_of_a_transformer_is_found():
    """Rotated stream, mixed heads, scaled units: the labels are A's outputs."""
    network, a, x, y = net("transformer")
    planted = mcjax.Action.random(network, jax.random.key(4))
    b = planted(a)
    start = near_identity(network, 5, 0.15) @ planted.inverse()
    kinds = {f.kind for g in network.groups.values() for f in g.structure.factors}
    assert kinds == {"permutation", "positive", "orthogonal", "general linear"}
    search = ActionSearch(PROTOCOL, optax.adam(3e-3))
    found = learn_action(
        network, a, b, (x, y), search, key=jax.random.key(0), start=start, task=REGRESSION
    )
    assert found.status == "improved"
    assert found.after < found.before / 50

    assert distance(found.action(b), a) < 0.8 * distance(start(b), a)
    f = NETS["transformer"][0]
    np.testing.assert_allclose(f(found.action(b), x), y, atol=1e-3)
    assert found.losses.shape == (30,)
    assert "improved\nobjective (lower is better) " in found.summary()


def test_an_exchange_is_found():
    """From t below ½: there two units that are exchanged are the same, and no gradient tells."""
    network, a, x, y = net("tanh")
    planted = mcjax.Action.of(network, {"w1": np.array([0, 1, 3, 2, 4, 5])})
    search = ActionSearch(PROTOCOL, optax.sgd(1.0), (0.1, 0.4))
    found = learn_action(network, a, planted(a), (x, y), search, key=jax.random.key(0),
                         task=REGRESSION)  # fmt: skip
    assert found.action.allclose(planted.inverse())
    assert found.after < 1e-10 < found.before


@pytest.mark.parametrize("name", NETS)
def test_the_end_of_the_path_is_the_action(name):
    network, a, x, y = net(name)
    path = ActionPath(network, a, a)
    path = path.with_free({"latents": drawn(path.latents, 1, 1.0), "bump": None})
    moved = path.action()(a)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-5), path(1.0), moved)
    np.testing.assert_allclose(NETS[name][0](moved, x), y, atol=1e-4)
    assert max((p != np.arange(p.shape[-1])).sum() for p in path.action().permutations.values())


@pytest.mark.parametrize("name", NETS)
def test_gradients_where_nothing_is_assigned(name):
    """Of scalings and matrices, against finite differences in float64."""
    with jax.enable_x64(True):
        network, a, x, _y = net(name)
        f, x = NETS[name][0], x[:8].astype(jnp.float64)
        a = jax.tree.map(lambda v: v.astype(jnp.float64), a)
        latents = jax.tree.map(
            lambda v: v.astype(jnp.float64), drawn(of_latents.zeros(network), 2, 0.3)
        )

        @jax.jit
        def value(latents):
            return jnp.sum(jnp.sin(f(of_latents.act(network, latents, 0.1, a), x + 0.1)))

        def off(latents):  # what keeps the function has no gradient in it: a segment has
            half = of_latents.act(network, latents, 0.1, a)
            return jnp.sum(jnp.sin(f(jax.tree.map(lambda u, v: 0.4 * u + 0.6 * v, a, half), x)))

        gradient, off = jax.jit(jax.grad(off))(latents), jax.jit(off)
        rng = np.random.default_rng(3)
        for group, of in latents.items():
            for number, v in of.items():
                if number == of_latents.UNITS:
                    continue
                d = rng.normal(size=v.shape)
                ends = [off({**latents, group: {**of, number: v + h * d}}) for h in (1e-5, -1e-5)]
                expected = (ends[0] - ends[1]) / 2e-5
                np.testing.assert_allclose(
                    np.sum(gradient[group][number] * d), expected, rtol=1e-5, atol=1e-8
                )


def test_gradients_of_what_is_assigned():
    """Straight through: those of the loss in which any matrix may mix the units."""
    network, a, x, _ = net("tanh")
    flip = np.array([1.0, -1, 1, 1, -1, 1])
    latents = {"w1": {of_latents.UNITS: jnp.asarray(np.diag(flip - 1) * 0.2, jnp.float32)}}
    p = of_latents.action_of(network, latents, 0.1)
    np.testing.assert_array_equal(p.matrices()["w1"], np.diag(flip))

    def loss(end):
        return jnp.sum(jnp.sin(odd(jax.tree.map(lambda u, v: (u + v) / 2, a, end), x[:8])))

    gradient = jax.grad(lambda u: loss(of_latents.act(network, u, 0.1, a)))(latents)
    relaxed = jax.grad(lambda m: loss(network.mix({"w1": m}, a, check=False)))
    np.testing.assert_allclose(
        gradient["w1"][of_latents.UNITS], relaxed(jnp.diag(jnp.asarray(flip, jnp.float32))),
        atol=1e-5,
    )  # fmt: skip


def test_signs_that_readers_do_not_see():
    """Under an even function the readers move by the permutation alone."""
    params = net("tanh")[1]
    network = mcjax.trace(
        lambda p, x: jnp.cos(x @ p["w1"] + p["b"]) @ p["w2"], params, jnp.ones((2, 5))
    )
    latents = drawn(of_latents.zeros(network), 0, 1.0)
    action = of_latents.action_of(network, latents, 0.1)
    assert (action.elements["w1", 1] < 0).any()
    moved = of_latents.act(network, latents, 0.1, params)
    jax.tree.map(np.testing.assert_array_equal, moved, action(params))


def test_interrupted_runs_go_on(tmp_path):
    network, a, x, y = net("transformer")
    b = mcjax.Action.random(network, jax.random.key(1))(a)
    search = ActionSearch(Protocol(3, 64, halve_every=1e9), optax.adam(1e-2))

    def learn(**more):
        return learn_action(network, a, b, (x, y), search, key=jax.random.key(2),
                            task=REGRESSION, **more)  # fmt: skip

    whole = learn()

    def stop(epoch, loss):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(directory=tmp_path, progress=stop)
    again = learn(directory=tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.action, whole.action)
    assert again.losses.tolist() == whole.losses.tolist()
    other = dataclasses.replace(search, interval=(0.0, 1.0))
    with pytest.raises(ValueError, match="interval"):
        learn_action(network, a, b, (x, y), other, key=jax.random.key(2), task=REGRESSION,
                     directory=tmp_path)  # fmt: skip


def test_what_is_not_better_is_not_taken():
    network, a, x, y = net("tanh")
    b = mcjax.Action.random(network, jax.random.key(1))(a)
    brief = Protocol(1, 64)
    for rate, status in ((0.0, "not improved"), (np.nan, "not finite")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = learn_action(
                network, a, b, (x, y), ActionSearch(brief, optax.sgd(rate)),
                key=jax.random.key(0), task=REGRESSION,
            )  # fmt: skip
        assert found.status == status
        assert found.after == found.before
        assert found.action.allclose(mcjax.Action.identity(network))


def test_a_curve_whose_end_moves():
    """A Bézier curve trained together with the end's place in its orbit ends lower than alone."""
    network, a, x, y = net("transformer")
    b = near_identity(network, 7, 0.3)(a)
    still = jax.tree.map(jnp.zeros_like, a)
    path = ActionPath(network, a, b, bump=still)
    fitted = train_curve(
        path, network, (x, y), Protocol(10, 64, weight_decay=0.0), key=jax.random.key(0),
        task=REGRESSION, optimizer=optax.adam(3e-3),
    )  # fmt: skip
    assert fitted.losses[-1] < fitted.losses[0] / 3
    end = fitted.path(1.0)
    assert norm(fitted.path.bump) > 0 < distance(end, b)
    np.testing.assert_allclose(transformer(end, x), y, atol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, fitted.path(0.0), a)


def test_bad_input():
    network, a, x, y = net("tanh")
    search, key = ActionSearch(Protocol(1, 64)), jax.random.key(0)
    other = mcjax.Action.identity(net("transformer")[0])
    with pytest.raises(ValueError, match="start is an action of another network"):
        learn_action(network, a, a, (x, y), search, key=key, start=other, task=REGRESSION)
    with pytest.raises(ValueError, match=r"start must be a mcjax\.Action, got a dict"):
        learn_action(network, a, a, (x, y), search, key=key, start={}, task=REGRESSION)
    with pytest.raises(ValueError, match=r"search must be a mcjax\.align\.ActionSearch"):
        learn_action(network, a, a, (x, y), Protocol(1), key=key, task=REGRESSION)
    with pytest.raises(ValueError, match="interval must be"):
        ActionSearch(Protocol(1), interval=(0.6, 0.4))
    with pytest.raises(ValueError, match="margin must be positive"):
        ActionSearch(Protocol(1), margin=0.0)
    with pytest.raises(ValueError, match="interval must be"):
        train_curve(ActionPath(network, a, a), network, (x, y), Protocol(1), key=key,
                    task=REGRESSION, interval=(0, 2))  # fmt: skip
