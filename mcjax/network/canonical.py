"""`mcjax.canonicalize`: one representative of an orbit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._readonly import make_read_only
from .._static import unpack
from .._tree import is_inexact
from .._types import Params
from .action import Action
from .balance import balanced
from .elements import Key, apply_to, by_kind, factors, identity_element, multiplied
from .frames import Axes, Leaves, axes_of, matrices_of, order, seen_of, signs_of, turned
from .network import Network

_ROUNDS = 2000  # of balancing, at most
_STILL = 1e-11
_SETTLED = 1e-7  # an element of another round that float32 does not show


@dataclasses.dataclass(frozen=True, eq=False)
class Canonical:
    """Parameters in canonical form: the result of `mcjax.canonicalize`.

    - `params`: the representative; `action`: what took the parameters there
    - `status`: `"canonical"`, `"ambiguous"` (see the next ones: another representative may end
      elsewhere) or `"not converged"` (scales and general matrices)
    - `ties`: group name → units that their lengths do not tell apart
    - `degenerate`: group name → units whose eigenvalues coincide; their axes follow from the
      columns that are settled, unless they are among
    - `undetermined`: group name → units whose sign, or axes, nothing determines
    """

    params: Params
    action: Action
    status: str
    ties: Mapping[str, int]
    degenerate: Mapping[str, int]
    undetermined: Mapping[str, int]

    def __post_init__(self) -> None:
        make_read_only(self, "ties", "degenerate", "undetermined")

    def summary(self) -> str:
        """The status, and a line for each group that is not determined."""
        lines = [self.status]
        for what, of in (
            ("units that their lengths do not tell apart", self.ties),
            ("units with equal eigenvalues", self.degenerate),
            ("units whose sign or axes nothing determines", self.undetermined),
        ):
            lines += [f"{name}: {n} {what}" for name, n in of.items()]
        return "\n".join(lines)


@_check.on_host
def canonicalize(network: Network, params: Params) -> Canonical:
    """The representative of an orbit: parameters that compute the same function, and are the same
    for every point of the orbit, to rounding.

    - scales and general matrices: those of the shortest parameters, min ‖g · θ‖² (every unit is
      as long in what writes it as in what reads it, lengths weighted by the degree; writers and
      readers of linear units have the same Gram matrix). A unit that nothing writes or
      nothing reads gets length 1 on the other side, a direction of linear units the geometric mean
      of the others'
    - rotations, what is left of general matrices among them: to the eigenvectors of the units'
      Gram matrix, by falling eigenvalue
    - permutations: by falling length of the units' rows; rows of equal length by those in each leaf
    - signs: a fixed linear function of each unit's entries becomes positive, group after group from
      the inputs and outputs inwards

    So the distance of two networks in canonical form, and the barrier between them, do not depend
    on the representatives that training has led to. (They are no minima over the orbits: aligners
    look for those.)

    **Arguments:**
    - `network`: traced; `params`: of its structure, finite. Computed on the host in float64

    **Returns:** a `Canonical`, which says where the form is not determined: equal lengths, equal
    eigenvalues, signs that nothing fixes.

    **Raises:** `ValueError` for parameters that are not the network's, or not finite.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.array([[1.0, 8.0]]), "w2": jnp.array([[1.0], [2.0]])}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 1)))
        >>> found = mcjax.canonicalize(network, params)
        >>> found.status, found.params["w1"].tolist()
        ('canonical', [[4.0, 1.0]])
        >>> other = mcjax.Action.random(network, jax.random.key(0))(params)
        >>> bool(jnp.allclose(mcjax.canonicalize(network, other).params["w1"], jnp.array([4.0, 1])))
        True
    """
    _check_model.network(network, "network")
    (given,) = network.check_parameters(params=params)
    leaves = [np.asarray(v) if is_inexact(v) else None for v in network.flatten(given, "params")]
    leaves, elements = balanced(network, leaves, rounds=_ROUNDS, still=_STILL)
    still = _near_identity(network, balanced(network, leaves, rounds=1)[1])
    permutations, ties = {}, {}
    for group in network.groups.values():
        if matrices_of(group) is None:
            permutations[group.name], ties[group.name] = order(network, group, leaves)
    sort = _sorting(network, permutations)
    by_atom = {network.groups[n].atom: np.asarray(p) for n, p in sort.permutations.items()}
    leaves = [
        v if v is None else network.permute_leaf(by_atom, v, axes)
        for v, axes in zip(leaves, network.leaf_axes, strict=True)
    ]
    frames = _Frames(network, leaves)
    frames.settle()
    action = sort @ _action(network, elements=elements)
    action = frames.action() @ action
    doubts = [
        {n: v for n, v in of.items() if v} for of in (ties, frames.degenerate, frames.missing)
    ]
    done = jax.tree.unflatten(network.treedef, [
        old if new is None else jax.device_put(new.astype(old.dtype))
        for new, old in zip(frames.leaves, network.flatten(given, "params"), strict=True)
    ])  # fmt: skip
    return Canonical(
        done if given is params else unpack(done),
        jax.tree.map(jax.device_put, action),
        "not converged" if not still else "ambiguous" if any(doubts) else "canonical",
        *doubts,
    )


def _near_identity(network: Network, elements: Mapping[Key, np.ndarray]) -> bool:
    off = [np.abs(v - identity_element(network, k)).max(initial=0) for k, v in elements.items()]
    return max(off, default=0.0) <= _SETTLED


def _sorting(network: Network, permutations: Mapping[str, np.ndarray]) -> Action:
    """Orders found with every outer unit where it stands: inner units move first."""
    action = Action.identity(network)
    depth = {n: len(network.groups[n].over) for n in permutations}
    for level in sorted(set(depth.values()), reverse=True):
        of_level = {n: p for n, p in permutations.items() if depth[n] == level}
        action = _action(network, of_level) @ action
    return action


class _Frames:
    """Rotations and signs, found one group after the other."""

    def __init__(self, network: Network, leaves: Leaves) -> None:
        self.network, self.leaves = network, leaves
        self.elements: dict[Key, np.ndarray] = {}
        self.degenerate: dict[str, int] = {}
        self.missing: dict[str, int] = {}
        self.axes: dict[str, Axes] = {}
        self.keys: dict[str, Key] = {}  # of the matrices
        self.settled: dict[str, np.ndarray] = {}
        for name, group in network.groups.items():
            pair = matrices_of(group)
            if pair is not None:
                found = axes_of(network, *pair, leaves)
                self.axes[name], self.keys[name] = found, pair[0]
                self.degenerate[name] = found.degenerate
            signs = any(f.kind == "sign" for _, f in factors(group))
            self.settled[name] = np.full(group.shape, pair is None and not signs)
        for name, found in self.axes.items():
            self._apply({self.keys[name]: found.turn})

    def settle(self) -> None:
        """Signs, and rotations that the eigenvalues leave, from what is known to what is not."""
        while open_groups := [n for n, done in self.settled.items() if not done.all()]:
            before = sum(done.sum() for done in self.settled.values())
            for name in open_groups:
                self._settle(name, last=False)
            if before == sum(done.sum() for done in self.settled.values()):
                self._settle(open_groups[0], last=True)  # nothing around it tells

    def _settle(self, name: str, last: bool) -> None:
        group, done = self.network.groups[name], self.settled[name]
        found = seen_of(self.network, group, self.leaves, self.settled)
        new: dict[Key, np.ndarray]
        if name in self.axes:
            g, now, missing = turned(group, self.axes[name], found, done, last)
            new = {self.keys[name]: g}
        else:
            new, now, missing = signs_of(group, found, done, last)
        self._apply(new)
        self.settled[name] = now
        self.missing[name] = self.missing.get(name, 0) + missing

    def _apply(self, new: Mapping[Key, np.ndarray]) -> None:
        self.leaves = apply_to(self.network, new, self.leaves)
        self.elements = multiplied(self.network, new, self.elements)

    def action(self) -> Action:
        return _action(self.network, elements=self.elements)


def _action(
    network: Network, permutations: Mapping[str, Any] = MappingProxyType({}),
    elements: Mapping[Key, Any] = MappingProxyType({}),
) -> Action:  # fmt: skip
    """An action of arrays on the host, in float64."""
    return Action.of(network, permutations, by_kind(network, elements))
