"""`check_attack` finds attacks that break the contract, each by the line that it breaks."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcjax.attacks import FGSM, Attack
from mcjax.testing import check_attack

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.normal(size=(5, 3)).astype(np.float32)}
X = RNG.uniform(0.3, 0.7, (24, 5)).astype(np.float32)


def net(params, x):
    return x @ params["w"]


Y = np.asarray(net(PARAMS, X)).argmax(1)


@dataclasses.dataclass(frozen=True)
class Noise(Attack):
    """Images moved by noise; what subclasses break."""

    by: float = 0.2
    length = 2

    def init(self, aim, key):
        keys = key if key.shape else jax.random.split(key, len(aim.images))
        noise = jax.vmap(lambda k: jax.random.uniform(k, aim.images.shape[1:], minval=-1))(keys)
        return jnp.clip(aim.images + self.by * noise, *aim.bounds)

    def advance(self, aim, state):
        return state

    def moved(self, state):
        return state


class Outside(Noise):
    def advance(self, aim, state):
        return state + 1


class Together(Noise):
    def advance(self, aim, state):
        return jnp.clip(state + 3 * (state.mean(0) - 0.5), *aim.bounds)


class Restless(Noise):
    def advance(self, aim, state):
        return jnp.clip(state + 0.01, *aim.bounds)

    def done(self, state):
        return jnp.ones(len(state), bool)


class Boasting(Noise):
    """Whoever calls it is told of successes."""

    def __call__(self, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        return dataclasses.replace(made, status=np.full(len(made.x), "succeeded"))


@dataclasses.dataclass
class Mutable:
    by: float = 0.1


def test_a_good_one():
    check_attack(Noise(), net, PARAMS, X, Y)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Outside(), "outside the bounds"),
        (Together(), "in other chunks .* come out differently"),
        (Restless(), "done must stay as it is"),
        (Boasting(0.001), "success is another class"),
        (Mutable(), "an? attack must be frozen"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_is_broken_is_named(attack, message):
    with pytest.raises(AssertionError, match=message):
        check_attack(attack, net, PARAMS, X, Y)


def test_too_little_to_attack():
    wrong = (Y + 1) % 3
    with (
        pytest.raises(AssertionError, match="two inputs or more"),
        pytest.warns(UserWarning, match="none of 24 examples is classified right"),
    ):
        check_attack(FGSM(), net, PARAMS, X, wrong)
