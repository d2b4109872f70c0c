"""What is known of a traced model: its unit groups and its layers, and what acts on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import pack, unpack
from .._tree import is_held
from .._types import Params, Permutations
from ..symmetry.permutation import identity, random
from .absorption.absorb import Absorption, absorb
from .activations import group_activations, layer_values
from .axes import Atom, Concat, Expr, Factor, Family, atoms
from .doubts import normalised_by_batch, say_of_batch
from .groups import Group, Layer, Place
from .mixing import Matrices, check_doubly_stochastic, check_matrices, mix_leaf
from .permuting import touches
from .rules.constants import KNOWN
from .structure import Structure
from .symmetry.factors import KINDS
from .taps import multiplies_data
from .verify import Verification

_SHOWN = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Network(Structure):
    """A model traced by `mcjax.trace`: groups, layers, and actions on parameters.

    Nothing in it changes. Two networks are equal, and have the same hash, if their content is:
    the program that their functions are for two examples, structure and types of parameters and
    inputs, and what may be permuted. So a network can be a static argument of `jax.jit`, and a
    second trace of one model compiles nothing that the first has compiled.

    - `groups`: name → `Group`
    - `layers`: `Layer`s in topological order
    - `roles`: what each leaf is for: `"weight"`, `"bias"`, `"scale"`, `"mean"` and `"variance"`
      of batch normalisation, or `"other"`; found from the program, not from names
    - `input_types`: types of the inputs that were traced, marked `mcjax.Shared` where they were
    - `absorption`: what `absorbed` has moved to make this network of another; None if it was
      traced
    - `retrace`: (apply_fn, params, x) → another network, traced with the same options
    """

    verification: Verification | None = dataclasses.field(default=None, kw_only=True)
    absorption: Absorption | None = dataclasses.field(default=None, kw_only=True)
    retrace: Callable[..., Network] | None = dataclasses.field(
        default=None, kw_only=True, repr=False
    )

    def flatten(self, params: Params, name: str) -> list[Any]:
        leaves = super().flatten(params, name)
        if self.absorption is not None:
            self.absorption.check(dict(zip(self.leaf_names, leaves, strict=True)), name)
        return leaves

    # -- permutations ----------------------------------------------------------------------

    def identity_permutations(self) -> dict[str, np.ndarray]:
        """The permutations that change nothing."""
        return identity(self._shapes())

    def random_permutations(self, key: jax.Array) -> dict[str, jax.Array]:
        """Uniformly random permutations of every group (each outer index its own)."""
        return random(self._shapes(), key)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: group.shape for name, group in self.groups.items()}

    def permute(self, permutations: Permutations, params: Params) -> Params:
        """Reorder units: unit i of the result is unit `permutations[group][i]` of `params`.

        The function computed stays the same (to rounding); parameters move bitwise (NumPy's that
        JAX would round, of 64 bits, stay NumPy's).

        **Arguments:**
        - `permutations`: group name → index array of the group's `shape`; absent groups stay.
          For a dependent group of shape (outer, size), entry [i, j] is the unit inside the outer
          unit that comes to stand at i. A `mcjax.Action` will do, too.
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
        permutations = self.check_permutations(permutations)
        leaves = self.flatten(params, "params")
        # On a CPU the host moves arrays without compiling a gather for every shape.
        host = jax.default_backend() == "cpu" and all(
            _check.is_concrete(v) for v in (*leaves, *permutations.values())
        )
        xp = np if host else jnp
        given = {self.groups[n].atom: xp.asarray(p) for n, p in permutations.items()}
        moved = {
            i: self.permute_leaf(given, xp.asarray(leaf), axes)
            for i, (leaf, axes) in enumerate(zip(leaves, self.leaf_axes, strict=True))
            if touches(axes, given)
        }
        # All in one call: some hundred of them take as long as the copies.
        moved |= jax.device_put({i: leaf for i, leaf in moved.items() if is_held(leaf.dtype)})
        out = [moved.get(i, leaf) for i, leaf in enumerate(leaves)]
        permuted = jax.tree.unflatten(self.treedef, out)
        return permuted if pack(params) is params else unpack(permuted)

    def mix(self, matrices: Matrices, params: Params, *, check: bool = True) -> Params:
        """Units mixed by matrices: unit i of the result is Σ_j D[i, j] · unit j.

        For permutation matrices this is `permute`; for other doubly stochastic ones, the relaxed
        permutations of tatro2020 (App. E), the function changes. Differentiable in both.

        **Arguments:**
        - `matrices`: group name → (*group.shape, size); absent groups stay
        - `params`: parameters of the traced structure
        - `check`: whether the matrices must be doubly stochastic (not seen under `jit`)

        **Raises:** `ValueError` for an unknown group, a matrix of another shape, and, with
        `check`, for what is not doubly stochastic.

            >>> import jax.numpy as jnp, mcjax
            >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
            >>> params = {"w1": jnp.array([[1.0, 3.0]]), "w2": jnp.ones((2, 1))}
            >>> network = mcjax.trace(f, params, jnp.ones((2, 1)))
            >>> network.mix({"w1": jnp.full((2, 2), 0.5)}, params)["w1"].tolist()
            [[2.0, 2.0]]
        """
        check_matrices(self.groups, matrices)
        if check:
            check_doubly_stochastic(matrices)
        given = {self.groups[n].atom: m for n, m in matrices.items()}
        out = [
            mix_leaf(self.by_atom, given, leaf, axes) if touches(axes, given) else leaf
            for leaf, axes in zip(self.flatten(params, "params"), self.leaf_axes, strict=True)
        ]
        mixed = jax.tree.unflatten(self.treedef, out)
        return mixed if pack(params) is params else unpack(mixed)

    def check_permutations(self, permutations: Any) -> Permutations:
        """The index arrays by group, of a mapping or an `Action`.

        **Raises:** `ValueError` for an unknown group, a wrong shape or what is no permutation.
        """
        if not isinstance(permutations, Mapping):
            held = getattr(permutations, "permutations", None)
            if held is None or not hasattr(permutations, "inverse"):  # this only an action has
                hint = "" if held is None else "; pass its .permutations"
                raise ValueError(
                    "permutations must be a mcjax.Action, or map names of groups to index arrays; "
                    f"got a {type(permutations).__name__}{hint}"
                )
            if getattr(permutations, "elements", None):
                raise ValueError(
                    "permutations: this mcjax.Action does more than permute; call it, "
                    "action(params), or pass its .permutations"
                )
            permutations = held
        for name, indices in permutations.items():
            group = self.group(name, "permutations")
            if np.shape(indices) != group.shape:
                raise ValueError(
                    f"permutations[{name!r}] has shape {np.shape(indices)}, expected {group.shape}"
                )
            if _check.is_concrete(indices):
                ordered = np.sort(np.asarray(indices), -1)
                whole = np.issubdtype(ordered.dtype, np.integer)
                if not whole or not (ordered == np.arange(group.size)).all():
                    raise ValueError(
                        f"permutations[{name!r}] is no permutation of 0 … {group.size - 1}"
                        + ("" if whole else f", but of type {ordered.dtype}, expected integers")
                    )
        return permutations

    # -- scales of normalisations -------------------------------------------------------------

    def restricted(self, *kinds: str) -> Network:
        """The network with symmetries of these kinds alone, beside permutations.

        **Arguments:**
        - `kinds`: of factors (`group.structure.factors`) that stay, as `"sign"`; none: permutations

        **Raises:** `ValueError` for a kind that there is not.

            >>> import jax.numpy as jnp, mcjax
            >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
            >>> params = {"w1": jnp.ones((3, 2)), "w2": jnp.ones((2, 1))}
            >>> network = mcjax.trace(f, params, jnp.ones((2, 3)))
            >>> [n.groups["w1"].symmetry for n in (network, network.restricted())]
            ['signed permutation', 'permutation']
        """
        for kind in kinds:
            _check.one_of(kind, KINDS, "kinds")
        kept = {"permutation", *kinds}
        groups = {n: dataclasses.replace(g, structure=g.structure.only(kept))
                  for n, g in self.groups.items()}  # fmt: skip
        identity = self.identity.with_more(("restricted", sorted(kept)))
        return dataclasses.replace(self, groups=groups, identity=identity)

    def absorbed(self, params: Params, *, untie: bool = False) -> tuple[Network, Params]:
        """The same function with scales moved into the weights beside them, so that groups grow.

        What y = s ⊙ h + β is for a normalised h (RMSNorm, LayerNorm), and only weights read it,
        W y + b, these take the scale up: W ← W diag(s), s ← 1, and β ← β / s, or b ← b + W β and
        β ← 0 if every layer that reads β is dense and has a bias. The units of a residual stream
        can then be rotated: `group.symmetry` becomes `"orthogonal"` where RMSNorm admitted
        permutations and signs, and where LayerNorm subtracts a mean the group has the rotations
        that keep the constant vector, a factor `"orthogonal fixing ones"`. A scale that would not
        make a group larger stays, and so does one that something else reads.

        The leaves keep their places: the new parameters run in `apply_fn` as it was, which gives
        the same outputs to rounding. The new network takes what it moved for the constants that
        it is (`absorption.scales`, `.biases`), whatever parameters it is given. A unit whose scale
        is zero is dead afterwards, too: it is taken out of what reads it.

        **Arguments:**
        - `untie`: give a layer that reads a scale by a tied weight (an embedding that also
          classifies) a weight of its own, so that it can take the scale up. The parameters are
          then `{"params": the tree as it was, "untied": {name: weight}}`: they do not go back

        **Returns:** (network, parameters); `network.absorption.summary()` says what was moved,
        what was not, and why. A second call traces nothing.

        **Raises:** `ValueError` for parameters of another structure, and where a scale is zero
        whose β nothing else can take up; `RuntimeError` if the function changed (a bug in mcjax).

            >>> import jax, jax.numpy as jnp, mcjax
            >>> def f(p, x):
            ...     h = x @ p["in"]
            ...     return (h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-6) * p["s"]) @ p["out"]
            >>> params = {"in": jnp.eye(3), "s": jnp.array([2.0, -1.0, 3.0]), "out": jnp.eye(3)}
            >>> network, moved = mcjax.trace(f, params, jnp.ones((4, 3))).absorbed(params)
            >>> moved["out"].diagonal().tolist(), moved["s"].tolist()
            ([2.0, -1.0, 3.0], [1.0, 1.0, 1.0])
            >>> network.groups["in"].symmetry
            'orthogonal'
        """
        return absorb(self, params, untie)

    @property
    def form(self) -> str:
        """In which form parameters are, `"plain"` or `"absorbed (…)"`: another one has other
        segments between the same functions. Results say it."""
        return "plain" if self.absorption is None else self.absorption.form

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
        _check.one_of(tap, ("post", "pre"), "tap")
        return group_activations(self, *self._at_hand(params, x), tap)

    def layer_inputs(self, params: Params, x: Any) -> dict[str, jax.Array]:
        """Layer name → what the layer's weight is applied to (inside a scan, stacked first)."""
        return layer_values(self, *self._at_hand(params, x), "input")

    def layer_outputs(self, params: Params, x: Any) -> dict[str, jax.Array]:
        """Layer name → what the layer computes, the bias added where it follows directly."""
        return layer_values(self, *self._at_hand(params, x), "biased")

    def _at_hand(self, params: Params, x: Any) -> tuple[Params, Any]:
        """Parameters and inputs as a compiled program takes them."""
        _check.batched(self.inputs(x), "x")
        self.flatten(params, "params")
        return pack(params), self.inputs(x)

    # -- what was understood ---------------------------------------------------------------

    def explain(self) -> str:
        """Each group's symmetry, what makes it no larger and how its factors act on leaves (as
        `group.structure.summary`); a table of every leaf: the groups on its axes, and why what is
        fixed is fixed."""
        width = max((len(n) for n in self.leaf_names), default=0)
        lines = [
            f"{_counted(self.groups, 'group')}, {_counted(self.layers, 'layer')}, "
            f"{self.verification or 'not verified by execution'}"
        ]
        if self.analysis.unknown:
            names = ", ".join(self.analysis.unknown)
            lines.append(f"primitives not understood (their axes are fixed): {names}")
        fixed = [f for axes in self.leaf_axes for e in axes for f in atoms(e) if f.fixed]
        if any((f.why or "").startswith(KNOWN) for f in fixed):
            lines.append(
                "arrays that apply_fn closes over fix axes: put them into the parameters if they "
                "belong to the network"
            )
        lines += self.normalisations.describe(self.leaf_names)
        lines += say_of_batch(normalised_by_batch(self.analysis, self.layers))
        lines += self.absorption.summary().splitlines() if self.absorption else []
        for group in self.groups.values():
            limit = f" ({group.structure.limit})" if group.structure.limit else ""
            lines.append(f"{group.name} {group.shape}: {group.symmetry}{limit}")
            for factor in group.structure.factors[1:]:
                beside = "" if factor.primary else "and "  # what `symmetry` leaves out
                lines.append(f"  {beside}{factor.describe(self.leaf_names, _SHOWN)}")
        if self.groups and multiplies_data(self.analysis.program, len(self.leaf_types)):
            lines.append(
                "not searched for: if embeddings are rotary, queries and keys also keep a "
                "rotation of each rotated plane"
            )
        constants = self._constants()
        for name, role, axes in zip(self.leaf_names, self.roles, self.leaf_axes, strict=True):
            described = constants.get(name) or " × ".join(map(self._describe, axes)) or "scalar"
            lines.append(f"{name:<{width}}  {role:<8}  {described}")
        return "\n".join(lines)

    def _constants(self) -> dict[str, str]:
        """Leaves that this network takes for constants, since `absorbed` has moved them."""
        moved = self.absorption
        if moved is None:
            return {}
        where = "the weights beside it have taken it up"
        return {
            **dict.fromkeys(moved.scales, f"1 everywhere: {where}"),
            **dict.fromkeys(moved.biases, f"0 everywhere: {where}"),
        }

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

    def __copy__(self) -> Network:
        return self

    def __deepcopy__(self, memo: Any) -> Network:
        return self  # nothing in it changes

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Network holds a traced program and your function, and cannot be pickled; pickle "
            "the parameters and trace again: mcjax.trace(apply_fn, params, x)"
        )

    def __repr__(self) -> str:
        absorbed = ", absorbed" if self.absorption else ""
        counts = f"{_counted(self.groups, 'group')}, {_counted(self.layers, 'layer')}"
        return f"Network({counts}{absorbed})"


def _counted(things: Sized, word: str) -> str:
    """1 group, 2 groups."""
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"


__all__ = ["Group", "Layer", "Network", "Place"]
