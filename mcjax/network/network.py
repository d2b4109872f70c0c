"""What is known of a traced model: its unit groups and its layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._inputs import mark_like
from .._static import pack, unpack
from .._tree import named_leaves
from .._types import ApplyFn, Params, Permutations
from .analysis import Analysis
from .axes import Atom, Axes, Concat, Expr, Factor, Family, atoms
from .blocks import Block, Dim, dependee, map_blocks
from .layers import Contraction
from .normalisation import Normalisations, normalisations
from .rules.constants import KNOWN
from .verify import Verification


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a group stands in the parameters."""

    leaf: str
    axis: int


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Units that may be permuted without changing the network's function.

    `shape` is `(size,)`, or `(*outer, size)` where the permutation may differ for each index of
    outer axes: `over` names those axes (a group, or None for a fixed axis such as the layers of
    a scan).
    """

    name: str
    size: int
    shape: tuple[int, ...]
    over: tuple[str | None, ...]
    places: tuple[Place, ...]
    atom: Atom = dataclasses.field(repr=False)
    outer: tuple[Atom, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A contraction of data with a parameter, in topological order in `Network.layers`.

    `groups_in` are the groups its weight reads, `groups_out` those it writes; `kind` is
    `"dense"`, `"convolution"` or `"embedding"`.
    """

    name: str
    kind: str
    weight: str
    bias: str | None
    groups_in: tuple[str, ...]
    groups_out: tuple[str, ...]
    contraction: Contraction = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A model traced by `mcjax.trace`: groups, layers, and actions on parameters.

    - `groups`: name → `Group`
    - `layers`: `Layer`s in topological order
    - `input_types`: types of the inputs that were traced, marked `mcjax.Shared` where they were
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
    verification: Verification | None

    @cached_property
    def by_atom(self) -> Mapping[Atom, Group]:
        return {g.atom: g for g in self.groups.values()}

    def group_of(self, dim: Dim) -> Group:
        """The group that a dimension of a block holds."""
        return self.by_atom[dim.factor]  # type: ignore[index]

    # -- permutations ----------------------------------------------------------------------

    def identity_permutations(self) -> dict[str, np.ndarray]:
        """The permutations that change nothing."""
        return {
            name: np.broadcast_to(np.arange(g.size), g.shape).copy()
            for name, g in self.groups.items()
        }

    def random_permutations(self, key: jax.Array) -> dict[str, jax.Array]:
        """Uniformly random permutations of every group (each outer index its own)."""
        with jax.transfer_guard("allow"):  # jax.random transfers bounds
            keys = jax.random.split(key, max(len(self.groups), 1))
            return {
                name: jnp.argsort(jax.random.uniform(k, g.shape), axis=-1)
                for (name, g), k in zip(self.groups.items(), keys, strict=False)
            }

    def permute(self, permutations: Permutations, params: Params) -> Params:
        """Reorder units: unit i of the result is unit `permutations[group][i]` of `params`.

        The function computed stays the same (to rounding); parameters move bitwise.

        **Arguments:**
        - `permutations`: group name → index array of the group's `shape`; absent groups stay.
          For a dependent group of shape (outer, size), entry [i, j] is the unit inside the outer
          unit that comes to stand at i.
        - `params`: parameters of the traced structure

        **Raises:** `ValueError` for an unknown group, a wrong shape or what is no permutation.

            >>> import jax, jax.numpy as jnp, mcjax
            >>> params = {"w1": jnp.eye(3), "w2": jnp.arange(6.).reshape(3, 2)}
            >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
            >>> network = mcjax.trace(f, params, jnp.ones((4, 3)))
            >>> moved = network.permute({"w1": jnp.array([2, 0, 1])}, params)
            >>> bool(jnp.allclose(f(moved, jnp.ones((4, 3))), f(params, jnp.ones((4, 3)))))
            True
        """
        self.check_permutations(permutations)
        leaves = self.flatten(params, "params")
        # On a CPU the host moves arrays without compiling a gather for every shape.
        host = jax.default_backend() == "cpu" and all(
            _check.is_concrete(v) for v in (*leaves, *permutations.values())
        )
        xp = np if host else jnp
        given = {self.groups[n].atom: xp.asarray(p) for n, p in permutations.items()}
        out = [
            jax.device_put(self.permute_leaf(given, xp.asarray(leaf), axes))
            if touches(axes, given)
            else leaf
            for leaf, axes in zip(leaves, self.leaf_axes, strict=True)
        ]
        moved = jax.tree.unflatten(self.treedef, out)
        return moved if pack(params) is params else unpack(moved)

    def permute_leaf(self, given: Mapping[Atom, Any], leaf, axes: Axes):
        """One leaf with its units permuted, on the host if it is a NumPy array."""
        if not touches(axes, given):
            return leaf
        xp: Any = np if isinstance(leaf, np.ndarray) else jnp
        vectors = [_axis_indices(expr, given, xp) for expr in axes]
        if all(v is not None for v in vectors):
            for axis, vector in enumerate(vectors):
                if vector is not None and vector.size:
                    leaf = xp.take(leaf, vector, axis=axis)
            return leaf

        def move(block, dims: Block):
            todo = [(i, self.group_of(d)) for i, d in enumerate(dims) if d.factor in given]
            for i, group in sorted(todo, key=lambda pair: len(pair[1].outer)):
                block = _take_block(block, dims, i, group, given[group.atom], xp)
            return block

        return map_blocks(move, leaf, axes)

    def check_permutations(self, permutations: Permutations) -> None:
        if not isinstance(permutations, Mapping):
            hint = "; pass its .permutations" if hasattr(permutations, "permutations") else ""
            raise ValueError(
                "permutations must map names of groups to index arrays, got a "
                f"{type(permutations).__name__}{hint}"
            )
        for name, indices in permutations.items():
            if name not in self.groups:
                raise ValueError(
                    f"permutations: unknown group {name!r}; the groups are "
                    f"{', '.join(map(repr, self.groups)) or 'none'}"
                )
            group = self.groups[name]
            if np.shape(indices) != group.shape:
                raise ValueError(
                    f"permutations[{name!r}] has shape {np.shape(indices)}, expected {group.shape}"
                )
            if _check.is_concrete(indices):
                ordered = np.sort(np.asarray(indices), -1)
                if not (ordered == np.arange(group.size)).all():
                    raise ValueError(
                        f"permutations[{name!r}] is no permutation of 0 … {group.size - 1}"
                    )

    @cached_property
    def normalisations(self) -> Normalisations:
        """Where the model normalises by stored statistics, and which leaves those are."""
        return normalisations(self.analysis.program, len(self.leaf_types))

    @property
    def template(self) -> Params:
        """The types of the (packed) parameters, in their structure."""
        return jax.tree.unflatten(self.treedef, self.leaf_types)

    def flatten(self, params: Params, name: str) -> list[Any]:
        """The arrays of parameters that must have the traced structure and shapes."""
        template, params = self.template, pack(params, name)
        if jax.tree.structure(params) != self.treedef:
            _check.same_structure(template, params, names=("the traced parameters", name))
        leaves = jax.tree.leaves(params)
        for leaf, type_, path in zip(leaves, self.leaf_types, self.leaf_names, strict=True):
            if np.shape(leaf) != type_.shape:
                raise ValueError(
                    f"{name}: leaf {path!r} has shape {np.shape(leaf)}, expected {type_.shape}"
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
        """Inputs, marked `mcjax.Shared` where those of the trace were."""
        return mark_like(x, self.input_types)

    # -- activations -----------------------------------------------------------------------

    def activations(
        self, params: Params, x: Any, tap: str = "post"
    ) -> dict[str, tuple[jax.Array, ...]]:
        """What each group's units compute on x, wherever a layer reads or writes them.

        Post-activations are what consumers read, pre-activations what producers write, batch
        normalisation applied; a group without such a layer (queries and keys have no consumer)
        comes from the other side, or from another value that depends on the data and holds it.
        Works under jit and vmap.

        **Arguments:**
        - `x`: inputs batched on axis 0
        - `tap`: `"post"` or `"pre"`

        **Returns:** group name → arrays of shape (samples, *group.shape), one for each value
        that holds the group (none if no value does); batch, space, time and other units are
        samples.

            >>> import jax, jax.numpy as jnp, mcjax
            >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
            >>> params = {"w1": jnp.ones((3, 5)), "w2": jnp.ones((5, 2))}
            >>> network = mcjax.trace(f, params, jnp.ones((4, 3)))
            >>> network.activations(params, jnp.ones((4, 3)))["w1"][0].shape
            (4, 5)
        """
        from .activations import group_activations

        _check.one_of(tap, ("post", "pre"), "tap")
        return group_activations(self, *self._at_hand(params, x), tap)

    def layer_inputs(self, params: Params, x: Any) -> dict[str, jax.Array]:
        """Layer name → what the layer's weight is applied to (inside a scan, stacked first)."""
        from .activations import layer_values

        return layer_values(self, *self._at_hand(params, x), "input")

    def layer_outputs(self, params: Params, x: Any) -> dict[str, jax.Array]:
        """Layer name → what the layer computes, the bias added where it follows directly."""
        from .activations import layer_values

        return layer_values(self, *self._at_hand(params, x), "biased")

    def _at_hand(self, params: Params, x: Any) -> tuple[Params, Any]:
        """Parameters and inputs as a compiled program takes them."""
        self.flatten(params, "params")
        _check.batched(self.inputs(x), "x")
        return pack(params), self.inputs(x)

    # -- what was understood ---------------------------------------------------------------

    def explain(self) -> str:
        """A table of every leaf: the groups on its axes, and why what is fixed is fixed."""
        width = max((len(n) for n in self.leaf_names), default=0)
        lines = [
            f"{len(self.groups)} groups, {len(self.layers)} layers, "
            f"{self.verification or 'not verified by execution'}"
        ]
        if self.analysis.algebra.unknown:
            names = ", ".join(sorted(self.analysis.algebra.unknown))
            lines.append(f"primitives not understood (their axes are fixed): {names}")
        fixed = [f for axes in self.leaf_axes for e in axes for f in atoms(e) if f.fixed]
        if any((f.why or "").startswith(KNOWN) for f in fixed):
            lines.append(
                "arrays that apply_fn closes over fix axes: put them into the parameters if they "
                "belong to the network"
            )
        lines += self.normalisations.describe(self.leaf_names)
        for name, axes in zip(self.leaf_names, self.leaf_axes, strict=True):
            described = " × ".join(self._describe(e) for e in axes) or "scalar"
            lines.append(f"{name:<{width}}  {described}")
        return "\n".join(lines)

    def _describe(self, expr: Expr) -> str:
        return "·".join(self._describe_factor(f) for f in expr) or "1"

    def _describe_factor(self, factor: Factor) -> str:
        if isinstance(factor, Atom):
            if factor in self.by_atom:
                return f"{self.by_atom[factor].name}({factor.size})"
            return f"fixed({factor.size}: {factor.why})"
        if isinstance(factor, Concat):
            return "[" + " | ".join(map(self._describe, factor.parts)) + "]"
        if isinstance(factor, Family):
            return "{" + ", ".join(map(self._describe, factor.members)) + "}"
        return f"uniform({factor.size})"

    def __repr__(self) -> str:
        return f"Network({len(self.groups)} groups, {len(self.layers)} layers)"


def touches(axes: Axes, given: Mapping[Atom, Any]) -> bool:
    return any(a in given for e in axes for a in atoms(e))


def _axis_indices(expr: Expr, given: Mapping[Atom, Any], xp):
    """Source index of each position of an axis; None if it differs along other axes."""
    if all(isinstance(f, Atom) and f not in given for f in expr):
        return xp.zeros((0,), int)  # nothing moves on this axis
    index = xp.zeros((1,), int)
    for factor in expr:
        if isinstance(factor, Family) or (isinstance(factor, Atom) and _dependent(factor, given)):
            return None
        if isinstance(factor, Concat):
            parts, offset = [], 0
            for part in factor.parts:
                inner = _axis_indices(part, given, xp)
                if inner is None:
                    return None
                length = int(np.prod([f.size for f in part], dtype=int))
                parts.append(offset + (inner if inner.size else xp.arange(length)))
                offset += length
            vector = xp.concatenate(parts)
        elif isinstance(factor, Atom) and factor in given:
            vector = given[factor]
        else:
            vector = xp.arange(factor.size)
        index = (index[:, None] * factor.size + vector[None]).reshape(-1)
    return index


def _dependent(atom: Atom, given: Mapping[Atom, Any]) -> bool:
    return atom in given and given[atom].ndim > 1


def _take_block(block, dims: Block, i: int, group: Group, indices: Any, xp):
    """Permute dimension i of a block, by an index array that may differ along other dimensions."""
    if not group.outer:
        return xp.take(block, indices, axis=i)
    along = [dependee(o, dims[i], dims) for o in group.outer]
    for position, dim in enumerate(along):
        if dims[dim].only is not None:  # the block is one index of that outer axis
            indices = xp.take(indices, xp.array([dims[dim].only]), axis=position)
    order = np.argsort([*along, i])
    shape = [1] * len(dims)
    for dim, n in zip([*along, i], indices.shape, strict=True):
        shape[dim] = n
    indices = xp.transpose(indices, order).reshape(shape)
    full = tuple(d.size for d in dims)
    return xp.take_along_axis(block, xp.broadcast_to(indices, full), axis=i)


def names_of_leaves(params: Params) -> tuple[str, ...]:
    return tuple(n for n, _ in named_leaves(params))


__all__ = ["Group", "Layer", "Network", "Place", "names_of_leaves"]
