"""Actions: an element for each unit group of a network, that moves parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._types import Params
from ..symmetry.permutation import compose, invert
from .network import Network

_SHOWN = 6  # groups in a repr


@jax.tree_util.register_pytree_node_class
class Action:
    """An element of the symmetry group of a network: a permutation of every unit group's units.

    `action(params)` moves parameters and keeps the function that they compute; `action.inverse()`
    undoes it, and `(a @ b)(params)` is `a(b(params))`. A pytree (its arrays are the permutations,
    the network is static), so it goes through `jit` and `vmap`, and actions of one network can be
    stacked.

    - `network`: whose units are moved
    - `permutations`: group name → index array of the group's shape, for every group: unit
      `permutations[group][i]` comes to stand at i

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.arange(6.0).reshape(2, 3), "w2": jnp.ones((3, 1))}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 2)))
        >>> turn = mcjax.Action.of(network, {"w1": jnp.array([1, 2, 0])})
        >>> turn(params)["w1"].tolist()
        [[1.0, 2.0, 0.0], [4.0, 5.0, 3.0]]
        >>> (turn @ turn).permutations["w1"].tolist()
        [2, 0, 1]
        >>> (turn.inverse() @ turn).allclose(mcjax.Action.identity(network))
        True
    """

    __slots__ = ("_permutations", "network")
    network: Network
    _permutations: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            "make an action by mcjax.Action.of(network, permutations), .identity(network) or "
            ".random(network, key)"
        )

    # -- making ----------------------------------------------------------------------------

    @classmethod
    def of(cls, network: Network, permutations: Any) -> Self:
        """The action of permutations; groups that are absent stay.

        **Arguments:**
        - `permutations`: group name → index array of the group's shape, or an `Action`

        **Raises:** `ValueError` for an unknown group, a wrong shape or what is no permutation.
        """
        _check_model.network(network, "network")
        given = network.check_permutations(permutations)
        return cls._of(network, {**network.identity_permutations(), **given})

    @classmethod
    def identity(cls, network: Network) -> Self:
        """The action that changes nothing."""
        return cls.of(network, {})

    @classmethod
    def random(cls, network: Network, key: jax.Array) -> Self:
        """Uniformly random permutations of every group (each outer index its own)."""
        _check_model.network(network, "network")
        return cls._of(network, network.random_permutations(key))

    @classmethod
    def _of(cls, network: Network, permutations: Mapping[str, Any]) -> Self:
        action = object.__new__(cls)
        object.__setattr__(action, "network", network)
        object.__setattr__(action, "_permutations", {n: permutations[n] for n in network.groups})
        return action

    # -- acting ----------------------------------------------------------------------------

    @property
    def permutations(self) -> dict[str, Any]:
        return dict(self._permutations)

    def __call__(self, params: Params) -> Params:
        """The parameters with their units moved."""
        return self.network.permute(self._permutations, params)

    def inverse(self) -> Self:
        """The action that undoes this one."""
        return self._of(self.network, invert(self._permutations, self.network.nesting))

    def __matmul__(self, other: Any) -> Self:
        """The action of `other`, then of this one."""
        if not isinstance(other, Action):
            return NotImplemented
        self._same_network(other)
        nesting = self.network.nesting
        return self._of(self.network, compose(self._permutations, other._permutations, nesting))

    def matrices(self) -> dict[str, jax.Array]:
        """Permutation matrices: P[…, i, p[…, i]] = 1, of shape (*group.shape, size)."""
        groups = self.network.groups
        return {n: jax.nn.one_hot(p, groups[n].size) for n, p in self._permutations.items()}

    def allclose(self, other: Action) -> Any:
        """Whether two actions of one network are the same (a boolean array under `jit`)."""
        self._same_network(other)
        pairs = [(p, other._permutations[n]) for n, p in self._permutations.items()]
        if all(_check.is_concrete(v) for pair in pairs for v in pair):
            return all(np.array_equal(p, q) for p, q in pairs)
        return jnp.all(jnp.stack([jnp.all(p == q) for p, q in pairs]))

    def _same_network(self, other: Action) -> None:
        if self.network != other.network:
            raise ValueError(
                f"these actions are of different networks: {self.network} and {other.network}"
            )

    # -- a value and a pytree --------------------------------------------------------------

    def tree_flatten(self) -> tuple[list[Any], Network]:
        return [self._permutations[n] for n in self.network.groups], self.network

    @classmethod
    def tree_unflatten(cls, network: Network, children: Any) -> Self:
        return cls._of(network, dict(zip(network.groups, children, strict=True)))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an action cannot change ({name})")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # nothing in it changes

    def __reduce__(self) -> Any:
        raise TypeError(
            "an Action belongs to a Network, which cannot be pickled; write it with mcjax.save, "
            "or pickle its .permutations"
        )

    def __repr__(self) -> str:
        shown = [self._described(n) for n in list(self._permutations)[:_SHOWN]]
        more = len(self._permutations) - len(shown)
        return f"Action({', '.join(shown)}{f', and {more} more groups' if more else ''})"

    def _described(self, name: str) -> str:
        p, group = self._permutations[name], self.network.groups[name]
        if not _check.is_concrete(p) or np.shape(p) != group.shape:
            return f"{name}: {np.shape(p)}"
        moved = int((np.asarray(p) != np.arange(group.size)).sum())
        return f"{name}: {moved} of {np.size(p)} move"


__all__ = ["Action"]
