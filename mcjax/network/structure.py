"""What is known of a traced model, as an immutable value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._inputs import mark_like, type_of, unmark
from .._static import is_array, pack, unpack
from .._types import ApplyFn, Params
from .axes import Atom, Axes
from .blocks import Dim
from .frozen import Analysis
from .groups import Group, Layer
from .identity import Identity
from .normalisation import Normalisations
from .permuting import permute_leaf


@dataclasses.dataclass(frozen=True)
class Function:
    """(params, x) → a network's outputs: equal for equal networks, whose functions need not be.

    What is compiled for it serves a second trace of the model too.
    """

    network: Structure

    def __call__(self, params: Params, x: Any) -> Any:
        return self.network.apply_fn(params, x)


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """The content of a `Network`; equal, and of the same hash, if that is.

    - `analysis`: of the program on two examples
    - `leaf_axes`, `leaf_names`, `leaf_types`, `roles`: of each leaf
    - `identity`: of the content
    - `by_atom`: atom → group; `nesting`: group name → for each of its outer axes the name of its
      group, or its atom if it is fixed
    """

    apply_fn: ApplyFn
    analysis: Analysis
    groups: Mapping[str, Group]
    layers: tuple[Layer, ...]
    leaf_axes: tuple[Axes, ...]
    leaf_names: tuple[str, ...]
    treedef: Any
    leaf_types: tuple[jax.ShapeDtypeStruct, ...]
    input_types: Any
    normalisations: Normalisations
    roles: tuple[str, ...]
    identity: Identity
    by_atom: Mapping[Atom, Group] = dataclasses.field(init=False)
    nesting: Mapping[str, tuple[Any, ...]] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        by_atom = {g.atom: g for g in self.groups.values()}
        name = {g.atom: g.name for g in self.groups.values()}
        nesting = {g.name: tuple(name.get(o, o) for o in g.outer) for g in self.groups.values()}
        object.__setattr__(self, "nesting", MappingProxyType(nesting))
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))
        object.__setattr__(self, "by_atom", MappingProxyType(by_atom))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    @property
    def function(self) -> Function:
        """`apply_fn`, compared by what it computes."""
        return Function(self)

    def group(self, name: Any, what: str) -> Group:
        """The group of a name that came in the argument `what`."""
        if name not in self.groups:
            raise ValueError(
                f"{what}: unknown group {name!r}; the groups are "
                f"{', '.join(map(repr, self.groups)) or 'none'}"
            )
        return self.groups[name]

    def group_of(self, dim: Dim) -> Group:
        """The group that a dimension of a block holds."""
        return self.by_atom[dim.factor]  # type: ignore[index]

    def permute_leaf(self, given: Mapping[Atom, Any], leaf: Any, axes: Axes) -> Any:
        """One leaf with its units permuted, on the host if it is a NumPy array."""
        return permute_leaf(self.by_atom, given, leaf, axes)

    # -- parameters and inputs ----------------------------------------------------------------

    @property
    def template(self) -> Params:
        """The types of the (packed) parameters, in their structure."""
        return jax.tree.unflatten(self.treedef, self.leaf_types)

    def flatten(self, params: Params, name: str) -> list[Any]:
        """The arrays of parameters that must have the traced structure, shapes and kinds of
        numbers (those of the traced precision or another)."""
        template, params = self.template, pack(params, name)
        if jax.tree.structure(params) != self.treedef:
            _check.same_structure(template, params, names=("the traced parameters", name))
        leaves = jax.tree.leaves(params)
        for leaf, type_, path in zip(leaves, self.leaf_types, self.leaf_names, strict=True):
            if np.shape(leaf) != type_.shape:
                raise ValueError(
                    f"{name}: leaf {path!r} has shape {np.shape(leaf)}, expected {type_.shape}"
                )
            if leaf.dtype != type_.dtype and _kind(leaf.dtype) != _kind(type_.dtype):
                raise ValueError(
                    f"{name}: leaf {path!r} has dtype {leaf.dtype}, expected {type_.dtype} (or "
                    "another precision of it) as in the traced parameters"
                )
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
            _check.has_values(params, name)
        return leaves

    def check_parameters(self, **trees: Params) -> list[Params]:
        """The trees packed; raise unless each has the traced structure and shapes and finite
        floats."""
        for name, params in trees.items():
            self.flatten(params, name)
        return [_check.parameters(params, name) for name, params in trees.items()]

    def inputs(self, x: Any) -> Any:
        """Inputs, marked `mcjax.Shared` where those of the trace were.

        **Raises:** `ValueError` if the function fails on inputs of their shapes.
        """
        marked = mark_like(x, self.input_types)
        if all(map(is_array, jax.tree.leaves(marked))) and not _alike(marked, self.input_types):
            types = jax.tree.map(type_of, marked)
            params = jax.tree.unflatten(self.treedef, self.leaf_types)
            apply = self.apply_fn
            _check_model.output_types(
                lambda params, x: apply(unpack(params), unmark(x)), params, types, "x: apply_fn"
            )
        return marked


def _alike(x: Any, types: Any) -> bool:
    """Whether inputs have the structure and, but for axis 0, the shapes of those of the trace."""
    if jax.tree.structure(x) != jax.tree.structure(types):
        return False
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(types), strict=True)
    return all(np.shape(v)[1:] == t.shape[1:] and np.ndim(v) == len(t.shape) for v, t in pairs)


def _kind(dtype: Any) -> Any:
    """Types of one kind differ in precision alone."""
    for kind in (jnp.floating, jnp.complexfloating, jnp.integer, jnp.bool_):
        if jnp.issubdtype(dtype, kind):
            return kind
    return dtype


__all__ = ["Structure"]
