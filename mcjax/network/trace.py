"""`mcjax.trace`: from a pure function and its parameters to a `Network`."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._inputs import is_shared, per_example, type_of, unmark
from .._tree import named_leaves
from .._types import ApplyFn, Params
from .algebra import Algebra
from .analysis import analyse_used
from .axes import Atom, Axes, Concat, Factor, Family, atoms
from .doubts import BATCH, normalised_by_batch, note_on, warn_of_batch, warn_of_draws, warn_of_state
from .frozen import Analysis, freeze
from .groups import Group, Layer, Place
from .identity import identity_of
from .layers import Contraction, contractions, units
from .network import Network
from .normalisation import normalisations
from .program import Constant, Program, trace_program
from .roles import roles
from .symmetry.discover import with_structures, without
from .verify import verify

# Endings of leaf names that say "this is the weight": dropped from a layer's name.
_WEIGHT_NAMES = ("kernel", "weight", "w", "embedding")


@_check.on_host
def trace(
    apply_fn: ApplyFn,
    params: Params,
    x: Any,
    *,
    frozen: Sequence[str] = (),
    check: bool = True,
) -> Network:
    """Discover a model's unit groups and layers from its jaxpr, and verify them by execution.

    Every axis of every array in the program gets an *axis expression*; contractions,
    element-wise operations, normalisations and reshapes tie them together, what mixes positions
    fixes them. What remains free is a group: its units can be permuted without changing the
    function (tatro2020, Sec. 3; ferbach2023).

    **Arguments:**
    - `apply_fn`: pure function (params, x) → outputs (a pytree of arrays), in evaluation mode
    - `params`: any pytree with float leaves: state that belongs to the network (running
      statistics) is best part of it, as `{"params": …, "batch_stats": …}` or `(model, state)`.
      Leaves that are no arrays (functions and numbers in equinox modules) are part of the model.
      `jax.ShapeDtypeStruct`s are enough (`jax.eval_shape(model.init, …)`)
    - `x`: inputs batched on axis 0 (arrays or `jax.ShapeDtypeStruct`s); two examples are used.
      Scalars belong to all examples, and so does what is marked `mcjax.Shared` (a mask)
    - `frozen`: names of leaves, or of what holds them, that no group may touch (an embedding
      that both networks keep), as `explain()` shows them
    - `check`: run the function under random permutations of all groups

    **Returns:** a `Network`.

    **Raises:** `ValueError` for NaN parameters, no float leaf, an empty batch, leaves of inputs
    of different lengths, an unknown name, or a function that is not pure; `RuntimeError` if a
    group found does not survive execution (a bug in mcjax: please report it).

        >>> import jax, jax.numpy as jnp, mcjax
        >>> params = {"w1": jnp.ones((3, 5)), "b1": jnp.ones(5), "w2": jnp.ones((5, 2))}
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]
        >>> mcjax.trace(f, params, jnp.ones((4, 3))).groups["w1"].size
        5
    """
    _check_model.function(apply_fn, "apply_fn")
    params = _check.parameters(params, "params", types=True)
    try:
        _check.batched(x, "x")
        two = _two(x)
        network = _traced(apply_fn, params, two, frozen)
        retrace = functools.partial(trace, frozen=tuple(frozen), check=check)
        network = dataclasses.replace(network, retrace=retrace)
    except Exception as error:
        note_on(error, apply_fn, params, x)
        raise
    if not check:
        return network
    verification, wrong = verify(network, params, two)
    groups = without(network.groups, wrong) if wrong else network.groups
    identity = network.identity
    if wrong:
        identity = identity.with_more([(name, dataclasses.astuple(f)) for name, f in wrong])
    return dataclasses.replace(network, verification=verification, groups=groups, identity=identity)


def _traced(apply_fn: ApplyFn, params: Params, x: Any, frozen: Sequence[str]) -> Network:
    """The network of packed parameters and two examples, not yet verified."""
    leaves, treedef = jax.tree.flatten(params)
    types = tuple(jax.ShapeDtypeStruct(np.shape(v), jnp.result_type(v)) for v in leaves)
    program = _program(apply_fn, treedef, types, x)
    _check_pure(program, trace_program(apply_fn, treedef, types, x)[0])
    warn_of_draws(program)

    algebra = Algebra()
    names = tuple(n for n, _ in named_leaves(params))
    kept = _frozen(names, frozen)
    leaf_axes = [_leaf_axes(algebra, t, n in kept) for n, t in zip(names, types, strict=True)]
    inputs = _input_axes(algebra, x)
    analysis, resolved = freeze(analyse_used(algebra, program, leaf_axes, inputs), leaf_axes)
    normalised = normalisations(program, len(leaves))

    found = contractions(program, {v: i for i, v in enumerate(program.inputs[: len(leaves)])})
    layer_names = _unique([_layer_name(names[c.weight]) for c in found])
    groups = _groups(analysis, resolved, names, found, layer_names)
    layers = _layers(analysis, resolved, names, found, layer_names, groups)
    of_batch = normalised_by_batch(analysis, layers)
    warn_of_batch(of_batch)
    if not of_batch:  # in training mode both would say the same
        warn_of_state(program, names, len(groups))
    input_types = jax.tree.map(type_of, x)
    described = (treedef, types, *jax.tree.flatten(input_types), sorted(kept), resolved)
    network = Network(
        apply_fn=apply_fn,
        analysis=analysis,
        groups=groups,
        layers=layers,
        leaf_axes=resolved,
        leaf_names=names,
        treedef=treedef,
        leaf_types=types,
        input_types=input_types,
        normalisations=normalised,
        roles=roles(program, len(leaves), normalised),
        identity=identity_of(program, *described),
    )
    return with_structures(network)


def _two(x: Any) -> Any:
    """Two of the examples."""
    if not any(isinstance(v, jax.ShapeDtypeStruct) for v in jax.tree.leaves(x)):
        return jax.tree.map(jnp.asarray, per_example(lambda v: v[:2], x))

    def of_type(v: Any) -> Any:
        return jax.ShapeDtypeStruct((min(v.shape[0], 2), *v.shape[1:]), v.dtype)

    return per_example(of_type, jax.tree.map(type_of, x))


def _frozen(names: Sequence[str], frozen: Sequence[str]) -> set[str]:
    """The leaves that are named, or lie inside what is named."""
    if isinstance(frozen, str):
        raise ValueError(f"frozen must be a list of names, got the string {frozen!r}")
    out: set[str] = set()
    for name in frozen:
        inside = {n for n in names if n == name or str(n).startswith(f"{name}/")}
        if not inside:
            near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.3) or names[:3]
            raise ValueError(
                f"frozen: there is no leaf {name!r}; leaves are named like "
                f"{', '.join(map(repr, near))}"
            )
        out |= inside
    return out


def _program(apply_fn: ApplyFn, treedef: Any, types: Sequence[Any], x: Any) -> Program:
    """The program of the function, with a word on what usually goes wrong."""
    try:
        return trace_program(apply_fn, treedef, types, x)[0]
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise ValueError(
            "apply_fn cannot be traced, nor compiled by jax.jit: it asks for the value of an array "
            "(by an `if`, float(…) or a NumPy function). Use jax.numpy and jax.lax; a flag such "
            "as train=False must be fixed in apply_fn instead of coming with x"
        ) from error
    except Exception as error:
        shapes = jax.tree.map(np.shape, unmark(x))
        error.add_note(
            f"mcjax.trace called apply_fn(params, x) on two of the examples, x of shape {shapes}: "
            "inputs must have their examples on axis 0, and any number of them must do"
        )
        raise


def _check_pure(first: Program, second: Program) -> None:
    """Two traces of a pure function are the same program with the same constants."""

    def summary(program: Program):
        return [(e.name, [program.shape(o) for o in e.inputs]) for e in program.all_equations()]

    same = summary(first) == summary(second)
    if same:
        pairs = zip(first.all_equations(), second.all_equations(), strict=True)
        same = all(
            _same_constant(a, b)
            for e, f in pairs
            for a, b in zip(e.inputs, f.inputs, strict=True)
            if isinstance(a, Constant) and isinstance(b, Constant)
        )
    if not same:
        raise ValueError(
            "apply_fn is not pure: tracing it twice with the same arguments gave two different "
            "programs. It must depend on (params, x) alone, not on Python state, global counters "
            "or NumPy's random numbers"
        )


def _same_constant(a: Constant, b: Constant) -> bool:
    try:
        return np.array_equal(np.asarray(a.value), np.asarray(b.value), equal_nan=True)
    except TypeError:
        return np.shape(a.value) == np.shape(b.value)


def _leaf_axes(algebra: Algebra, leaf: jax.ShapeDtypeStruct, frozen: bool) -> Axes:
    if frozen:
        return tuple(algebra.atom(n, why="frozen by the caller") for n in leaf.shape)
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return tuple(algebra.atom(n, why="not floating-point") for n in leaf.shape)
    axes = tuple(algebra.atom(n) for n in leaf.shape)
    everything = frozenset(f for e in axes for f in e if isinstance(f, Atom))
    for expr in axes:
        for atom in atoms(expr):
            # Until proved otherwise, an axis may be permuted differently for each index of others.
            atom.over = everything - {atom}
    return axes


def _input_axes(algebra: Algebra, x: Any) -> list[Axes]:
    out = []
    for v in jax.tree.leaves(x, is_leaf=is_shared):
        first = "axis 0 of an input" if is_shared(v) else BATCH
        for leaf in jax.tree.leaves(v):
            names = [first, *(f"axis {d} of an input" for d in range(1, np.ndim(leaf)))]
            axes = zip(np.shape(leaf), names)
            out.append(tuple(algebra.atom(n, why=why) for n, why in axes))
    return out


# -- names ---------------------------------------------------------------------------------


def _layer_name(leaf: str) -> str:
    parts = leaf.split("/")
    if len(parts) > 1 and parts[0] == "params":
        parts = parts[1:]
    if len(parts) > 1 and parts[-1] == "value":  # nnx variables
        parts = parts[:-1]
    if len(parts) > 1 and parts[-1] in _WEIGHT_NAMES:
        parts = parts[:-1]
    return "/".join(parts)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with `:1`, `:2`, … behind it, as far as that name is free."""
    taken, out = set(names), []
    seen: set[str] = set()
    for name in names:
        candidates = (f"{name}:{n}" for n in itertools.count(1))
        unique = name if name not in seen else next(c for c in candidates if c not in taken)
        seen.add(unique)
        taken.add(unique)
        out.append(unique)
    return out


# -- groups and layers ---------------------------------------------------------------------


def _groups(
    analysis: Analysis,
    leaf_axes: Sequence[Axes],
    leaf_names: Sequence[str],
    found: Sequence[Contraction],
    layer_names: Sequence[str],
) -> dict[str, Group]:
    """Every free atom on a parameter axis, named after the first layer that writes it."""
    places: dict[Atom, list[Place]] = {}
    for leaf, axes in zip(leaf_names, leaf_axes, strict=True):
        for axis, expr in enumerate(axes):
            for atom in atoms(expr):
                if atom.size and not atom.fixed:
                    places.setdefault(atom, []).append(Place(leaf, axis))
    names: dict[Atom, str] = {}
    for contraction, name in zip(found, layer_names, strict=True):
        for atom in units(analysis, contraction.output):
            if atom in places:
                names.setdefault(atom, name)
    for atom, where in places.items():
        names.setdefault(atom, _layer_name(where[0].leaf))
    ordered = [a for a in names if a in places]
    unique = dict(zip(ordered, _unique([names[a] for a in ordered]), strict=True))
    outer = {a: _outer(a, leaf_axes) for a in ordered}
    return {
        unique[a]: Group(
            name=unique[a],
            size=a.size,
            shape=(*(int(o.size) for o in outer[a]), int(a.size)),
            over=tuple(unique.get(o) for o in outer[a]),
            places=tuple(dict.fromkeys(places[a])),
            atom=a,
            outer=outer[a],
        )
        for a in ordered
    }


def _outer(atom: Atom, leaf_axes: Sequence[Axes]) -> tuple[Atom, ...]:
    """The atoms a group depends on, outermost first."""
    over = atom.over
    if not over:
        return ()
    for axes in leaf_axes:
        order = list(_flat(f for e in axes for f in e))
        if atom in order:
            return tuple(sorted(over, key=lambda o: order.index(o) if o in order else -1))
    return tuple(sorted(over, key=lambda o: o.index))


def _flat(factors) -> Any:
    factor: Factor
    for factor in factors:
        if isinstance(factor, Concat):
            for part in factor.parts:
                yield from _flat(part)
        elif isinstance(factor, Family):
            for member in factor.members:
                yield from _flat(member)
        else:
            yield factor


def _layers(
    analysis: Analysis,
    leaf_axes: Sequence[Axes],
    leaf_names: Sequence[str],
    found: Sequence[Contraction],
    layer_names: Sequence[str],
    groups: dict[str, Group],
) -> tuple[Layer, ...]:
    by_atom = {g.atom: g.name for g in groups.values()}
    out = []
    for contraction, name in zip(found, layer_names, strict=True):
        written = [a for a in units(analysis, contraction.output) if a in by_atom]
        in_weight = {a for e in leaf_axes[contraction.weight] for a in atoms(e)}
        read = units(analysis, contraction.input) if contraction.input is not None else ()
        out.append(
            Layer(
                name=name,
                kind=contraction.kind,
                weight=leaf_names[contraction.weight],
                bias=None if contraction.bias is None else leaf_names[contraction.bias],
                groups_in=tuple(by_atom[a] for a in read if a in by_atom and a in in_weight),
                groups_out=tuple(by_atom[a] for a in written if a in in_weight),
                contraction=contraction,
            )
        )
    return tuple(out)
