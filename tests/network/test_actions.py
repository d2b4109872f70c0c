"""Actions keep their contract, and `check_action` sees when one does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mcjax
from mcjax.testing import check_action

PARAMS = {
    "q": jax.random.normal(jax.random.key(0), (3, 2, 4)),
    "k": jax.random.normal(jax.random.key(1), (2, 4, 3)),
}
X = jax.random.normal(jax.random.key(2), (5, 3))


def heads(p, x):
    return jnp.einsum("bhd,hde->be", jnp.tanh(jnp.einsum("be,ehd->bhd", x, p["q"])), p["k"])


@pytest.fixture(scope="module")
def network():
    return mcjax.trace(heads, PARAMS, X)


def test_the_contract_of_actions(network):
    """Units inside heads, so that composing and inverting are more than indexing."""
    one, other = (mcjax.Action.random(network, jax.random.key(s)) for s in (3, 4))
    assert len(one.permutations) == 2
    check_action(one, PARAMS, X, other)
    check_action(mcjax.Action.identity(network), PARAMS, X, other)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Wrong:
    inner: Any
    how: str = dataclasses.field(metadata={"static": True})

    network = property(lambda self: self.inner.network)

    def inverse(self):
        return self if self.how == "inverse" else Wrong(self.inner.inverse(), self.how)

    def __matmul__(self, other):
        a, b = (other, self) if self.how == "composition" else (self, other)
        return Wrong(a.inner @ b.inner, self.how)

    def __call__(self, params):
        moved = self.inner(params)
        return {**moved, "q": params["q"]} if self.how == "outputs" else moved


@pytest.mark.parametrize("how", ["inverse", "composition", "outputs"])
def test_a_wrong_action_is_seen(network, how):
    one, other = (Wrong(mcjax.Action.random(network, jax.random.key(s)), how) for s in (3, 4))
    with pytest.raises(AssertionError, match=how if how != "composition" else "@"):
        check_action(one, PARAMS, X, other)
