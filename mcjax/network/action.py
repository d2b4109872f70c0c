"""Actions: an element for each unit group of a network, that moves parameters."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._static import pack, unpack
from .._tree import is_inexact
from .._types import Params
from ..symmetry.permutation import compose, invert
from . import elements as of_elements
from .elements import Elements
from .images import Mover, movers
from .nearest import nearest_elements, primary_factors
from .network import Network
from .subgroups import inverse_powers, logarithms, powers, split

_SHOWN = 6  # groups in a repr
_SAME = 1e-4  # rounding of products in float32


@jax.tree_util.register_pytree_node_class
class Action:
    """An element of the symmetry group of a network, which keeps the function that it computes.

    For each unit group: a permutation of the units, then an element of every other factor of
    `group.structure` (scalings, signs, matrices). `action(params)` moves parameters,
    `action.inverse()` undoes it, and `(a @ b)(params)` is `a(b(params))`, to rounding (times the
    condition number of what are general matrices). A pytree (its arrays are data, the network is
    static), so it goes through `jit` and `vmap`, and actions of one network can be stacked.

    - `network`: whose units are moved
    - `permutations`: group name → index array of the group's shape, for every group: unit
      `permutations[group][i]` comes to stand at i
    - `elements`: (group name, number of the factor in `group.structure.factors`) → its element;
      factors that are absent do nothing

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.arange(6.0).reshape(2, 3), "w2": jnp.ones((3, 1))}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 2)))
        >>> turn = mcjax.Action.of(network, {"w1": jnp.array([1, 2, 0])})
        >>> turn(params)["w1"].tolist()
        [[1.0, 2.0, 0.0], [4.0, 5.0, 3.0]]
        >>> (turn @ turn).permutations["w1"].tolist()
        [2, 0, 1]
        >>> double = mcjax.Action.of(network, elements={"w1": {"positive": 2 * jnp.ones(3)}})
        >>> double(params)["w2"].tolist()
        [[0.5], [0.5], [0.5]]
        >>> moved = double @ turn
        >>> (moved.inverse() @ moved).allclose(mcjax.Action.identity(network))
        True
    """

    __slots__ = ("_elements", "_permutations", "network")
    network: Network
    _permutations: dict[str, Any]
    _elements: dict[of_elements.Key, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            "make an action by mcjax.Action.of(network, permutations), .identity(network) or "
            ".random(network, key)"
        )

    # -- making ----------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        network: Network,
        permutations: Any = MappingProxyType({}),
        elements: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> Self:
        """The action of permutations, then of elements of other factors; what is absent stays.

        **Arguments:**
        - `permutations`: group name → index array of the group's shape, or an `Action` of
          permutations alone
        - `elements`: group name → kind of a factor (see `group.structure`) → its element: of
          `group.shape` for `"positive"` (c > 0) and `"sign"` (1 or −1), of (*group.shape, n) for
          `"orthogonal"`, `"orthogonal fixing ones"` and `"general linear"`; a list where the
          group has several factors of the kind

        **Raises:** `ValueError` for an unknown group, a wrong shape, what is no permutation, and
        what is no element of the group's symmetry.
        """
        _check_model.network(network, "network")
        given = network.check_permutations(permutations)
        others = of_elements.given_elements(network, elements)
        return cls._of(network, {**network.identity_permutations(), **given}, others)

    @classmethod
    def identity(cls, network: Network) -> Self:
        """The action that changes nothing."""
        return cls.of(network, {})

    @classmethod
    @_check.once
    def random(cls, network: Network, key: jax.Array) -> Self:
        """A random element of the whole group of every unit group.

        Uniform permutations, each outer index its own, log c ~ N(0, ¼), fair signs, orthogonal
        matrices from the Haar measure, general ones with a condition number of at most 10. Scalings
        and matrices are drawn in JAX's default float type: with x64 others of the same key.
        """
        _check_model.network(network, "network")
        key = _check.random_key(key)
        first, second = jax.random.split(key)
        others = of_elements.random_elements(network, second)
        return cls._of(network, network.random_permutations(first), others)

    @classmethod
    def nearest(cls, network: Network, matrices: Mapping[str, Any]) -> Self:
        """The action whose `matrices()` are nearest to any given, in the Frobenius norm.

        Group by group: g of the polar form for orthogonal groups (Procrustes; on the complement
        of the constant vector where that is fixed), an assignment for permutations, of |M| with
        signs, of M² with scales, and M itself where every invertible matrix will do. Factors that
        do not move what writes the units stay. Works on the host.

        **Arguments:**
        - `matrices`: group name → real matrices (*group.shape, n); absent groups stay

        **Raises:** `ValueError` for an unknown group, a wrong shape, entries that are not finite,
        and where there is no nearest element: a scale that falls to 0, a matrix that is singular
        to rounding in a general linear group.

            >>> import jax.numpy as jnp, mcjax
            >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
            >>> params = {"w1": jnp.ones((3, 2)), "w2": jnp.ones((2, 1))}
            >>> network = mcjax.trace(f, params, jnp.ones((2, 3)))
            >>> near = jnp.array([[0.1, -0.9], [0.8, 0.3]])
            >>> mcjax.Action.nearest(network, {"w1": near}).matrices()["w1"].astype(int).tolist()
            [[0, -1], [1, 0]]
        """
        _check_model.network(network, "network")
        permutations, elements = nearest_elements(network, matrices)
        return cls.of(network, permutations, of_elements.by_kind(network, elements))

    @classmethod
    def _of(cls, network: Network, permutations: Mapping[str, Any], elements: Elements) -> Self:
        action = object.__new__(cls)
        object.__setattr__(action, "network", network)
        object.__setattr__(action, "_permutations", {n: permutations[n] for n in network.groups})
        object.__setattr__(action, "_elements", {k: elements[k] for k in sorted(elements)})
        return action

    # -- acting ----------------------------------------------------------------------------

    @property
    def permutations(self) -> dict[str, Any]:
        return dict(self._permutations)

    @property
    def elements(self) -> dict[of_elements.Key, Any]:
        return dict(self._elements)

    @_check.once
    def __call__(self, params: Params) -> Params:
        """The parameters with their units moved.

        Products are taken in float32 at least, and come back in each leaf's type; where they do not
        fit it, a warning says so.
        """
        moved = self.network.permute(self._permutations, params)
        if not self._elements:
            return moved
        packed = pack(moved)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # said below
            done = of_elements.apply(self.network, self._elements, packed)
        self._warn_of_overflow(packed, done)
        return done if packed is moved else unpack(done)

    def _warn_of_overflow(self, before: Params, after: Params) -> None:
        """Say which leaves were finite, and are not any more; nothing under `jit`."""
        names, flat = self.network.leaf_names, self.network.flatten
        moved = [
            (name, old, new)
            for name, old, new in zip(names, flat(before, "params"), flat(after, ""), strict=True)
            if new is not old and is_inexact(new) and _check.is_concrete(new)
        ]
        counts = _check.count_not_finite([new for *_, new in moved])
        odd = [leaf for leaf, n in zip(moved, counts, strict=True) if n]
        before_that = _check.count_not_finite([old for _, old, _ in odd])
        found = [
            f"{name!r} ({new.dtype})"
            for (name, _, new), n in zip(odd, before_that, strict=True)
            if not n
        ]
        if found:
            warnings.warn(
                f"action: leaves were finite, and are not once they are moved: {', '.join(found)}. "
                "Move the parameters in a type of more bits, or by an action nearer to the "
                "identity",
                stacklevel=4,
            )

    @_check.once
    def inverse(self) -> Self:
        """The action that undoes this one."""
        nesting = self.network.nesting
        back = invert(self._permutations, nesting)
        inverse = of_elements.inverted(self.network, self._elements)
        return self._of(
            self.network, back, of_elements.passed(self.network, inverse, back, nesting)
        )

    @_check.once
    def __matmul__(self, other: Any) -> Self:
        """The action of `other`, then of this one."""
        if not isinstance(other, Action):
            return NotImplemented
        self._same_network(other)
        network, nesting = self.network, self.network.nesting
        permutations = compose(self._permutations, other._permutations, nesting)
        second = of_elements.passed(network, other._elements, self._permutations, nesting)
        return self._of(
            network, permutations, of_elements.multiplied(network, self._elements, second)
        )

    def split(self) -> tuple[Self, Self]:
        """(connected, discrete) with `connected @ discrete` this action.

        A curve of actions joins the first to the identity: scalings, and matrices of positive
        determinant. The second holds permutations and signs, and where a matrix has a negative
        determinant the exchange of two units. Works on the host.
        """
        parts = split(self.network, self._permutations, self._elements)
        connected, discrete = (self._of(self.network, *part) for part in parts)
        return connected, discrete

    def log(self) -> ActionLogarithm:
        """What `power(t)` makes the curve t ↦ exp(t log g) of: the identity at 0, this at 1.

        **Raises:** `ValueError` for an action that no curve joins to the identity; `split()` takes
        what does not apart.
        """
        logs = logarithms(self.network, self._permutations, self._elements)
        return ActionLogarithm(self.network, logs)

    @_check.once
    def matrices(self) -> dict[str, jax.Array]:
        """What moves the units' incoming weights, as matrices of shape (*group.shape, size).

        For permutations P[…, i, p[…, i]] = 1, and beside them M D P. Where units have several
        writers that are moved by themselves (gates), those of the first factor of each kind, which
        need not be one writer's: then they are no one's incoming weights.
        """
        groups = self.network.groups
        found = {n: jax.nn.one_hot(p, groups[n].size) for n, p in self._permutations.items()}
        for key, value in self._elements.items():
            factor = of_elements.factor_of(self.network, key)
            if primary_factors(groups[key[0]]).get(factor.kind) == key:
                own = found[key[0]]
                found[key[0]] = value @ own if factor.matrices else value[..., None] * own
        return found

    def allclose(self, other: Action) -> Any:
        """Whether two actions of one network are the same (a boolean array under `jit`).

        Permutations exactly, all else to rounding.
        """
        self._same_network(other)
        pairs = [(p, other._permutations[n]) for n, p in self._permutations.items()]
        near = []
        for k in self._elements.keys() | other._elements.keys():
            nothing = of_elements.identity_element(self.network, k)
            near.append((self._elements.get(k, nothing), other._elements.get(k, nothing)))
        if all(_check.is_concrete(v) for pair in (*pairs, *near) for v in pair):
            return all(np.array_equal(p, q) for p, q in pairs) and all(
                np.allclose(p, q, rtol=_SAME, atol=_SAME) for p, q in near
            )
        same = [jnp.all(p == q) for p, q in pairs]
        same += [jnp.allclose(p, q, rtol=_SAME, atol=_SAME) for p, q in near]
        return jnp.all(jnp.stack(same))

    def _same_network(self, other: Action) -> None:
        if self.network != other.network:
            raise ValueError(
                f"these actions are of different networks: {self.network} and {other.network}"
            )

    # -- a value and a pytree --------------------------------------------------------------

    def tree_flatten(self) -> tuple[list[Any], tuple[Network, tuple[of_elements.Key, ...]]]:
        permutations = [self._permutations[n] for n in self.network.groups]
        return [*permutations, *self._elements.values()], (self.network, tuple(self._elements))

    @classmethod
    def tree_unflatten(cls, static: Any, children: Any) -> Self:
        network, keys = static
        of = [*network.groups, *keys]
        held = dict(zip(of, children, strict=True))
        return cls._of(network, {n: held[n] for n in network.groups}, {k: held[k] for k in keys})

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
        kinds = Counter(group.structure.factors[k].kind for n, k in self._elements if n == name)
        others = [kind if n == 1 else f"{n} × {kind}" for kind, n in kinds.items()]
        return ", ".join([f"{name}: {moved} of {np.size(p)} move", *others])


@partial(jax.tree_util.register_dataclass, data_fields=["logarithms"], meta_fields=["network"])
@dataclasses.dataclass(frozen=True, eq=False)
class ActionLogarithm:
    """The curve t ↦ exp(t log g) of actions; made by `Action.log`. A pytree.

    - `network`: whose units are moved
    - `logarithms`: (group name, number of the factor) → log c, or the `mcjax.symmetry.Logarithm`
      of matrices
    """

    network: Network
    logarithms: Mapping[of_elements.Key, Any]

    def power(self, t: Any) -> Action:
        """The action at t: the identity at 0, the one that it is of at 1. Works under jit."""
        stay = self.network.identity_permutations()
        return Action._of(self.network, stay, powers(self.logarithms, t))

    def applied(self, t: Any, params: Params) -> Params:
        """(Packed) parameters moved by `power(t)`: only exponentials and products."""
        given = powers(self.logarithms, t), params, inverse_powers(self.logarithms, t)
        return of_elements.apply(self.network, *given)

    def movers(self) -> dict[int, Mover]:
        """Number of a leaf → how it is moved, for all leaves that are."""
        return movers(self.network, self.logarithms)

    def moved(self, t: Any, mover: Mover, value: Any, dims: Sequence[int]) -> Any:
        """A value moved by `power(t)` as a leaf is, whose axes are its dimensions `dims`."""
        elements = powers(self.logarithms, t), inverse_powers(self.logarithms, t)
        return mover(*elements, value, dims)


__all__ = ["Action", "ActionLogarithm"]
