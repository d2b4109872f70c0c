"""Elements of what a group admits beside permutations, and how they pass by permutations.

An element of a factor is an array: c of `group.shape` for scalings and signs, g of
(*group.shape, n) for matrices. With the permutations they are in normal form: the units are
permuted first, then scaled, then mixed by matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._tree import at_least_single
from ..symmetry import matrices as of_matrices
from ..symmetry.logarithm import require_invertible
from ..symmetry.permutation import Indices, Nesting, gather
from .groups import Group
from .network import Network
from .symmetry.act import transform_leaf
from .symmetry.factors import Factor

Key = tuple[str, int]  # (name of a group, number of a factor of its structure)
Elements = Mapping[Key, Any]
# Of g gᵀ − 1, in units of the rounding of the element's type times n.
_DEFECT = 50


def factors(group: Group) -> Iterator[tuple[Key, Factor]]:
    """The factors of a group that have elements of their own."""
    for number, factor in enumerate(group.structure.factors):
        if factor.kind not in ("permutation", "commutant"):
            yield (group.name, number), factor


def factor_of(network: Network, key: Key) -> Factor:
    return network.groups[key[0]].structure.factors[key[1]]


def given_elements(network: Network, elements: Mapping[str, Mapping[str, Any]]) -> dict[Key, Any]:
    """Checked elements by factor, of those by group and kind."""
    found: dict[Key, Any] = {}
    for name, of_kinds in elements.items():
        group = network.group(name, "elements")
        if not isinstance(of_kinds, Mapping):
            raise ValueError(
                f"elements[{name!r}]: expected a mapping from kinds of factors to arrays, got "
                f"{type(of_kinds).__name__}"
            )
        for kind, value in of_kinds.items():
            keys = [k for k, f in factors(group) if f.kind == kind]
            values = value if isinstance(value, list | tuple) else [value]
            what = f"elements[{name!r}][{kind!r}]"
            if len(values) > len(keys):
                raise ValueError(f"{what}: {_too_much(group, kind, len(values), len(keys))}")
            for key, one in zip(keys, values, strict=False):
                found[key] = _checked(group, factor_of(network, key), one, what)
    return found


def _too_much(group: Group, kind: str, asked: int, there: int) -> str:
    if there:
        return f"{asked} elements were given, and the group has {there} such factors"
    why = f" ({group.structure.limit})" if group.structure.limit else ""
    kinds = dict.fromkeys(f.kind for f in group.structure.factors)
    return (
        f"the group's symmetry is {group.symmetry!r}{why}; it has no factor of this kind, only "
        f"{', '.join(map(repr, kinds)) or 'permutations'}"
    )


def _checked(group: Group, factor: Factor, value: Any, what: str) -> Any:
    if not hasattr(value, "dtype"):
        value = np.asarray(value)
    shape = (*group.shape, group.size) if factor.matrices else group.shape
    if np.shape(value) != shape:
        raise ValueError(f"{what} has shape {np.shape(value)}, expected {shape}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{what} is of {value.dtype}, expected real floats")
    if _check.is_concrete(value):
        _check_value(factor, np.asarray(value, np.float64), value.dtype, what)
    return value.astype(at_least_single(value.dtype))  # what LAPACK inverts


def _check_value(factor: Factor, value: np.ndarray, dtype: Any, what: str) -> None:
    if not np.isfinite(value).all():
        raise ValueError(f"{what} has entries that are not finite")
    if factor.kind == "positive" and not (value > 0).all():
        raise ValueError(f"{what} must be positive, its smallest entry is {value.min():.3g}")
    least = float(jnp.finfo(at_least_single(dtype)).tiny)
    if factor.kind == "positive" and not (value >= least).all():
        raise ValueError(
            f"{what} must be at least {least:.3g}, or its inverse is infinite; its smallest entry "
            f"is {value.min():.3g}"
        )
    if factor.kind == "sign" and not (np.abs(value) == 1).all():
        raise ValueError(f"{what} must be 1 or -1 everywhere")
    if factor.kind == "general linear":
        require_invertible(value.astype(np.float32 if dtype.itemsize < 8 else np.float64), what)
    if factor.kind.startswith("orthogonal"):
        n = value.shape[-1]
        allowed = _DEFECT * max(n, 1) * float(jnp.finfo(dtype).eps)
        off = np.abs(value @ value.swapaxes(-1, -2) - np.eye(n)).max(initial=0)
        if off > allowed:
            raise ValueError(f"{what} is not orthogonal: g gᵀ is off the identity by {off:.3g}")
        off = np.abs(value.sum(-1) - 1).max(initial=0)
        if factor.kind == "orthogonal fixing ones" and off > allowed:
            raise ValueError(
                f"{what} does not keep the constant vector: the sums of its rows are off 1 by "
                f"{off:.3g}"
            )


def random_elements(network: Network, key: jax.Array) -> dict[Key, jax.Array]:
    """Haar matrices, log c ~ N(0, ¼), signs, invertible matrices of condition ≤ 10."""
    every = [(k, f) for g in network.groups.values() for k, f in factors(g)]
    with jax.transfer_guard("allow"):  # jax.random transfers bounds
        keys = jax.random.split(key, max(len(every), 1))
    return {
        name: _random(factor.kind, network.groups[name[0]].shape, k)
        for (name, factor), k in zip(every, keys, strict=False)
    }


def _random(kind: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
    if kind == "positive":
        return of_matrices.random_scaling(key, shape)
    if kind == "sign":
        return of_matrices.random_signs(key, shape)
    if kind == "general linear":
        return of_matrices.random_general_linear(key, shape)
    fixing = kind == "orthogonal fixing ones"
    return of_matrices.random_orthogonal(key, shape, fixing_ones=fixing)


def identity_element(network: Network, key: Key) -> np.ndarray:
    shape = network.groups[key[0]].shape
    matrices = factor_of(network, key).matrices
    return np.broadcast_to(np.eye(shape[-1]), (*shape, shape[-1])) if matrices else np.ones(shape)


def by_kind(network: Network, elements: Elements) -> dict[str, dict[str, list[Any]]]:
    """Elements as `Action.of` takes them: group → kind → one for each factor of the kind.

    The identity where a later factor of the kind has an element and this one has none.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for name in dict.fromkeys(k[0] for k in elements):
        kinds: dict[str, list[Key]] = {}
        for key, factor in factors(network.groups[name]):
            kinds.setdefault(factor.kind, []).append(key)
        for kind, keys in kinds.items():
            last = max((i for i, k in enumerate(keys) if k in elements), default=-1)
            if last >= 0:
                found.setdefault(name, {})[kind] = [
                    elements[k] if k in elements else identity_element(network, k)
                    for k in keys[: last + 1]
                ]
    return found


def apply(
    network: Network, elements: Elements, params: Any, inverses: Elements = MappingProxyType({})
) -> Any:
    """Packed parameters with all elements applied, scalings before matrices.

    - `inverses`: of matrices, where they are known
    """
    leaves = apply_to(network, elements, network.flatten(params, "params"), inverses)
    return jax.tree.unflatten(network.treedef, leaves)


def apply_to(
    network: Network, elements: Elements, leaves: Sequence[Any],
    inverses: Elements = MappingProxyType({}),
) -> list[Any]:  # fmt: skip
    """`apply`, on leaves by number; NumPy arrays in their own precision."""
    done = list(leaves)
    for key in sorted(elements, key=lambda k: factor_of(network, k).matrices):
        group, factor = network.groups[key[0]], factor_of(network, key)
        for number, _ in factor.moves:
            axes = network.leaf_axes[number]
            done[number] = transform_leaf(
                group, factor, elements[key], number, done[number], axes, inverses.get(key)
            )
    return done


def passed(network: Network, elements: Elements, p: Indices, nesting: Nesting) -> dict[Key, Any]:
    """The elements x′ with P x = x′ P."""
    return {k: _passed(factor_of(network, k), k[0], v, p, nesting) for k, v in elements.items()}


def _passed(factor: Factor, name: str, value: Any, p: Indices, nesting: Nesting) -> Any:
    moved = gather(name, p, value, nesting)
    if not factor.matrices:
        return moved
    xp: Any = np if isinstance(moved, np.ndarray) and isinstance(p[name], np.ndarray) else jnp
    columns = xp.broadcast_to(xp.asarray(p[name])[..., None, :], moved.shape)
    return xp.take_along_axis(moved, columns, axis=-1)


def multiplied(network: Network, first: Elements, second: Elements) -> dict[Key, Any]:
    """The elements that act as `second`, then `first`."""
    both = {**second, **first}
    for k in first.keys() & second.keys():
        matrices = factor_of(network, k).matrices
        both[k] = first[k] @ second[k] if matrices else first[k] * second[k]
    return both


def inverted(network: Network, elements: Elements) -> dict[Key, Any]:
    return {k: _inverted(factor_of(network, k).kind, v) for k, v in elements.items()}


def _inverted(kind: str, value: Any) -> Any:
    xp: Any = np if isinstance(value, np.ndarray) else jnp
    if kind.startswith("orthogonal"):
        return xp.swapaxes(value, -1, -2)
    return xp.linalg.inv(value) if kind == "general linear" else 1 / value


__all__ = [
    "Elements",
    "Key",
    "apply",
    "apply_to",
    "by_kind",
    "factor_of",
    "factors",
    "given_elements",
    "identity_element",
    "inverted",
    "multiplied",
    "passed",
    "random_elements",
]
