"""An element of a network's symmetry group as free arrays, projected onto it where it is used.

Zeros are the identity. For each factor of each group:

- permutations, with the signs that come first: an assignment of L = m 1 + X (of |L|, and the sign
  of the entry chosen), on the host; the gradient with respect to its matrix is passed on to X
- other signs: those of m + x, the gradient passed on likewise
- scalings: exp(x)
- orthogonal matrices: the orthogonal factor of 1 + X (its derivative is the true one)
- invertible matrices: 1 + X
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Params
from ..network import elements as of_elements
from ..network.action import Action
from ..network.elements import factor_of, factors
from ..network.groups import Group
from ..network.nearest import primary_factors
from ..network.network import Network
from ..network.symmetry.act import transform_leaf
from ..network.symmetry.factors import Factor, Move
from ..symmetry.matrices import around_ones, nearest_orthogonal
from ..symmetry.nearest import nearest_permutation, nearest_signed_permutation

Latents = Mapping[str, Mapping[str, Any]]  # group → number of the factor → free array
UNITS = "units"  # in the place of a number: permutations, and the signs that come with them


def zeros(network: Network) -> dict[str, dict[str, jax.Array]]:
    """The latents of the identity."""
    found: dict[str, dict[str, jax.Array]] = {}
    for group in network.groups.values():
        of = {}
        if not mixed(group):
            of[UNITS] = (*group.shape, group.size)
        for (_, number), factor in _others(group):
            n = group.size - (factor.kind == "orthogonal fixing ones")
            of[str(number)] = (*group.shape[:-1], n, n) if factor.matrices else group.shape
        found[group.name] = {k: jnp.zeros(shape) for k, shape in of.items()}
    return found


def mixed(group: Group) -> bool:
    """Whether matrices act on the units: every permutation is one of them."""
    return any(factor.matrices for _, factor in factors(group))


def act(network: Network, latents: Latents, margin: float, params: Params) -> Params:
    """(Packed) parameters moved by the element that latents stand for; differentiable in both."""
    permuted = {n: of[UNITS] for n, of in latents.items() if UNITS in of}
    hard = _assigned(network, permuted, margin) if permuted else {}
    matrices, even = {}, {}
    for name, x in permuted.items():
        p, s = hard[name]
        chosen = jax.nn.one_hot(p, x.shape[-1], dtype=x.dtype) * s[..., None].astype(x.dtype)
        matrices[name] = _straight_through(chosen, x)
        if "sign" in primary_factors(network.groups[name]):
            even[name] = s
    moved = network.mix(matrices, params, check=False)
    moved = _even(network, even, moved)
    elements, inverses = {}, {}
    for name, of in latents.items():
        for key, factor in _others(network.groups[name]):
            elements[key] = _element(factor, of[str(key[1])], margin)
            if factor.kind == "general linear":
                inverses[key] = jnp.linalg.inv(elements[key])
    return of_elements.apply(network, elements, moved, inverses)


def action_of(network: Network, latents: Latents, margin: float) -> Action:
    """The same element as an `Action`, on the host.

    **Raises:** `ValueError` where it is none: matrices singular to rounding, latents not finite.
    """
    held = jax.tree.map(np.asarray, jax.device_get(dict(latents)))
    permutations: dict[str, np.ndarray] = {}
    elements: dict[of_elements.Key, Any] = {}
    for name, of in held.items():
        group = network.groups[name]
        if UNITS in of:
            permutations[name], signs = _nearest(group, of[UNITS], margin)
            if "sign" in primary_factors(group):
                elements[primary_factors(group)["sign"]] = signs
        for key, factor in _others(group):
            elements[key] = np.asarray(_element(factor, of[str(key[1])], margin))
    return Action.of(network, permutations, of_elements.by_kind(network, elements))


def _others(group: Group) -> list[tuple[of_elements.Key, Factor]]:
    """The factors that have latents of their own."""
    joint = None if mixed(group) else primary_factors(group).get("sign")
    return [(key, factor) for key, factor in factors(group) if key != joint]


def _element(factor: Factor, x: Any, margin: float) -> Any:
    xp: Any = np if isinstance(x, np.ndarray) else jnp
    if factor.kind == "positive":
        return xp.exp(x)
    if factor.kind == "sign":
        signs = xp.where(x < -margin, -1, 1).astype(x.dtype)
        return signs if xp is np else _straight_through(signs, x)
    near = x + xp.eye(x.shape[-1], dtype=x.dtype)
    if factor.kind == "general linear":
        return near
    turned = nearest_orthogonal(near)
    return turned if factor.kind == "orthogonal" else around_ones(turned)


def _straight_through(hard: Any, x: Any) -> Any:
    """The value of one, to the bit, and the gradient of the other."""
    return hard + (x - jax.lax.stop_gradient(x))


def _assigned(network: Network, latents: Mapping[str, Any], margin: float) -> dict[str, Any]:
    """(p, s) of each group's units."""
    whole = {n: jax.ShapeDtypeStruct(x.shape[:-1], jnp.int32) for n, x in latents.items()}

    def project(latents: Mapping[str, Any]) -> dict[str, Any]:
        # On the host without JAX: a callback that calls it may wait for itself.
        found = {n: _nearest(network.groups[n], np.asarray(x), margin) for n, x in latents.items()}
        return {n: (p, s.astype(np.int32)) for n, (p, s) in found.items()}

    return jax.pure_callback(
        project,
        {n: (v, v) for n, v in whole.items()},
        jax.lax.stop_gradient(dict(latents)),
        vmap_method="sequential",
    )


def _nearest(group: Group, x: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    latent = x + margin * np.eye(x.shape[-1], dtype=x.dtype)
    if not np.isfinite(latent).all():  # the loss says so; there is no assignment
        latent = np.zeros_like(latent)
    if "sign" in primary_factors(group):
        return nearest_signed_permutation(latent)
    return nearest_permutation(latent), np.ones(x.shape[:-1], x.dtype)


def _even(network: Network, signs: Mapping[str, Any], params: Params) -> Params:
    """Signs taken back where they do not act: from what moves by an even power of them."""
    leaves = list(network.flatten(params, "params"))
    for name, s in signs.items():
        group = network.groups[name]
        factor = complement(group, factor_of(network, primary_factors(group)["sign"]))
        for number, _ in factor.moves:
            axes = network.leaf_axes[number]
            leaves[number] = transform_leaf(group, factor, s, number, leaves[number], axes)
    return jax.tree.unflatten(network.treedef, leaves)


def complement(group: Group, factor: Factor) -> Factor:
    """Signs where units stand and `factor`, signs itself, does nothing."""
    (whole,) = (f for f in group.structure.factors if f.kind == "permutation")
    own = {(leaf, m.axis): m.exponents for leaf, of in factor.moves for m in of}
    moves = []
    for leaf, of in whole.moves:
        left = []
        for m in of:
            k = np.asarray((m.exponents + own.get((leaf, m.axis), 0) * m.exponents) % 2)
            if k.any():
                left.append(Move.of(m.axis, k))
        if left:
            moves.append((leaf, tuple(left)))
    return dataclasses.replace(factor, moves=tuple(moves))


__all__ = ["Latents", "act", "action_of", "mixed", "zeros"]
