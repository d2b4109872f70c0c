"""RealNVP and IAF as flowjax bijections."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import paramax
from flowjax.bijections import (
    AbstractBijection,
    Affine,
    Chain,
    Coupling,
    Flip,
    MaskedAutoregressive,
    Permute,
    Scan,
)

from .. import _check

# Jacobi iterations stop when no coordinate moves by more than this.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A bijection ν of neuron rows: standardisation, then blocks.

    - `kind`: `"realnvp"` (affine couplings, coordinates shuffled between them) or `"iaf"` (affine
      autoregressive blocks of alternating order, log σ within ±1)
    - `blocks`: how many; `width`, `depth`: hidden layers of the tanh networks inside (depth 0: a
      masked linear map)

    The papers' sizes: RealNVP with 14 couplings of width 795 and depth 3; IAF with 20 blocks.
    """

    kind: str = "realnvp"
    blocks: int = 14
    width: int = 256
    depth: int = 2

    def __post_init__(self) -> None:
        _check.one_of(self.kind, ("realnvp", "iaf"), "kind")
        _check.positive(self.blocks, "blocks")
        _check.positive(self.width, "width")
        if self.depth < 0:
            raise ValueError(f"depth must be at least 0, got {self.depth}")


class ParallelInverse(MaskedAutoregressive):
    """An autoregressive block whose inverse solves all coordinates at once.

    x ← σ(x)⁻¹ (y − µ(x)) has its fixed point after as many steps as there are coordinates, as
    coordinate i is right once those before it are, and it stops as soon as nothing moves any more.
    (flowjax runs through all the coordinates one by one.)
    """

    def inverse_and_log_det(self, y, condition=None):
        def step(state):
            x, _, i = state
            transformer = self._flat_params_to_transformer(self.masked_autoregressive_mlp(x))
            new = transformer.inverse(y)
            return new, jnp.max(jnp.abs(new - x)), i + 1

        def going(state):
            return (state[1] > _TOLERANCE) & (state[2] < len(y))

        x = jax.lax.while_loop(going, step, (y, jnp.asarray(jnp.inf, y.dtype), 0))[0]
        return x, -self.transform_and_log_det(x)[1]


def build(architecture: Architecture, dim: int, key: jax.Array) -> AbstractBijection:
    """ν as the identity up to the standardisation, which is the identity too until it is set."""
    if dim < 2:
        raise ValueError(f"a flow needs rows of at least 2 coordinates, got {dim}")
    scale = paramax.Parameterize(lambda s: jnp.exp(jnp.tanh(s)), jnp.zeros(()))
    transformer = eqx.tree_at(lambda affine: affine.scale, Affine(), scale)
    sizes = {"nn_width": architecture.width, "nn_depth": architecture.depth}

    def block(key):
        inner, order = jax.random.split(key)
        if architecture.kind == "iaf":
            make: Any = ParallelInverse
            bijection = make(
                inner, transformer=transformer, dim=dim, nn_activation=jnp.tanh, **sizes
            )
            part, shuffle = "masked_autoregressive_mlp", Flip((dim,))
        else:
            bijection = Coupling(
                inner, transformer=transformer, untransformed_dim=dim // 2, dim=dim,
                nn_activation=jnp.tanh, **sizes,
            )  # fmt: skip
            part, shuffle = "conditioner", Permute(jax.random.permutation(order, dim))
        last = getattr(bijection, part).layers[-1]
        zero = jax.tree.map(lambda v: 0 * v if eqx.is_inexact_array(v) else v, last)
        bijection = eqx.tree_at(lambda b: getattr(b, part).layers[-1], bijection, zero)
        return Chain([bijection, shuffle])

    blocks = eqx.filter_vmap(block)(jax.random.split(key, architecture.blocks))
    standardise = Affine(jnp.zeros(dim), jnp.ones(dim))
    return Chain([standardise, Scan(blocks)])


def standardised(bijection: AbstractBijection, rows: jax.Array) -> AbstractBijection:
    """The bijection with its first step set to bring rows to mean zero and variance one."""
    mean, deviation = jnp.mean(rows, 0), jnp.std(rows, 0)
    deviation = jnp.maximum(deviation, 1e-6 * jnp.max(deviation) + 1e-30)
    affine = eqx.tree_at(lambda a: a.scale, Affine(-mean / deviation), 1 / deviation)
    affine = paramax.non_trainable(affine)
    return eqx.tree_at(lambda chain: chain.bijections[0], bijection, affine)


@cache
def skeleton(architecture: Architecture, dim: int) -> tuple[Any, list[Any]]:
    """(tree structure, leaves) of a bijection, with None for its arrays.

    To be called once outside of any transformation: flowjax builds with checks on values and
    keeps arrays in closures, which must not be tracers.
    """
    made = standardised(build(architecture, dim, jax.random.key(0)), jnp.ones((2, dim)))
    leaves, treedef = jax.tree.flatten(made)
    return treedef, [None if eqx.is_array(v) else v for v in leaves]


def arrays_of(bijection: AbstractBijection) -> list[jax.Array]:
    """The arrays of a bijection, in a fixed order."""
    return [v for v in jax.tree.leaves(bijection) if eqx.is_array(v)]


def with_arrays(architecture: Architecture, dim: int, arrays: Sequence[Any]) -> AbstractBijection:
    """The bijection with these arrays."""
    treedef, leaves = skeleton(architecture, dim)
    left = iter(arrays)
    filled = [next(left) if v is None else v for v in leaves]
    return jax.tree.unflatten(treedef, filled)
