"""`Network.absorbed`: the plan, which is the network's alone, and parameters moved by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import _check
from ..._compiled import remembered
from ..._static import pack, unpack
from ..._types import Params
from ..draws import Parameter, draw_inputs, vocabularies
from ..structure import Structure
from ..verify import deviation, tolerance_of
from ..wide import Wide, on_host, widen
from .biases import Fold, folds
from .flow import Flow
from .pinned import Pinned
from .scales import Step, candidates, steps
from .untied import Untied, uses_of

_DRAWS = 2
_OFF = 1e-3  # sums of ones along a path are 1 to rounding
_SHOWN = 4  # names in a line
Read = Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class Absorption:
    """In which form a network is: scales that the weights beside them have taken up.

    - `scales`: names of the leaves that are 1 in this network, whatever parameters it is given
    - `biases`: of those that are 0
    - `refused`: name of a scale that stays → why
    - `untied`: weights that have become leaves of their own
    """

    scales: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    refused: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    untied: tuple[str, ...] = ()

    def check(self, leaves: Mapping[str, Any], name: str) -> None:
        """Raise unless parameters, by leaf, are absorbed: the network does not read these leaves.

        Tracers are not looked at.
        """
        values = dict.fromkeys(self.scales, 1.0) | dict.fromkeys(self.biases, 0.0)
        at_hand = {leaf: leaves[leaf] for leaf in values if _check.is_concrete(leaves[leaf])}
        with jax.transfer_guard("allow"):
            found = jax.device_get(at_hand)
        for leaf, array in found.items():
            off = np.abs(np.asarray(array, np.float32) - values[leaf]).max(initial=0)
            if not off <= _OFF:
                raise ValueError(
                    f"{name}: leaf {leaf!r} is not {values[leaf]:g} everywhere, and this network, "
                    "from `absorbed`, does not read it: these parameters are of another "
                    "function here. Take what `absorbed` returns, of every network"
                )

    @property
    def form(self) -> str:
        """`"absorbed (so many scales, …)"`, `"plain"` where nothing was."""
        counts = {"scales": self.scales, "biases": self.biases, "weights untied": self.untied}
        found = ", ".join(f"{len(of)} {what}" for what, of in counts.items() if of)
        return f"absorbed ({found})" if found else "plain"

    def summary(self) -> str:
        """A line on what was absorbed, and one for each reason why something was not."""
        lines = [f"absorbed: {len(self.scales)} scales, {len(self.biases)} biases"]
        if not self.scales:
            lines = ["nothing absorbed" if self.refused else "nothing to absorb: no unit is scaled"]
        if self.untied:
            lines.append(f"untied: {_listed(self.untied)}")
        by: dict[str, list[str]] = {}
        for name, why in self.refused.items():
            by.setdefault(why, []).append(name)
        return "\n".join([*lines, *(f"not {_listed(n)}: {why}" for why, n in by.items())])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What becomes of each leaf of a network's parameters.

    - `pins`: number of a leaf → what all of its entries are
    - `steps`, `folds`: what other leaves take up
    """

    network: Structure
    pins: Mapping[int, float]
    steps: tuple[Step, ...]
    folds: tuple[Fold, ...]
    absorption: Absorption

    def leaf(self, number: int, read: Read) -> Any:
        """A leaf after the absorption; `read` gives leaves as they were."""
        leaf = read(number)
        if number in self.pins:
            xp: Any = np if isinstance(leaf, np.ndarray) else jnp
            return xp.full_like(leaf, self.pins[number])
        dtype = leaf.dtype
        for fold in self.folds:
            if fold.target == number:
                leaf = fold.apply(read(fold.source), read(fold.weight), leaf)
        for step in self.steps:
            if number in dict(step.factor.moves):
                scale = read(step.scale)
                leaf = leaf.astype(jnp.result_type(leaf, scale))
                with np.errstate(divide="ignore", invalid="ignore"):
                    element = step.element(self.network, scale)
                    scaled = step.apply(self.network, element, number, leaf)
                xp: Any = np if isinstance(leaf, np.ndarray) else jnp
                leaf = xp.where(leaf == 0, leaf, scaled)  # where the scale is zero, too
        return leaf.astype(dtype)

    def changes(self, number: int) -> bool:
        return (
            number in self.pins
            or any(f.target == number for f in self.folds)
            or any(number in dict(s.factor.moves) for s in self.steps)
        )


def absorb(network: Any, params: Params, untie: bool) -> tuple[Any, Params]:
    """`Network.absorbed`, for a `Network`."""
    leaves = network.flatten(params, "params")
    if untie and (apart := remembered(_untied, network)) is not None:
        own = apart.apply_fn.params(pack(params), leaves)
        absorbed, moved = absorb(apart, own if pack(params) is params else unpack(own), False)
        names = tuple(use.name for use in apart.apply_fn.uses)
        absorption = dataclasses.replace(absorbed.absorption, untied=names)
        return dataclasses.replace(absorbed, absorption=absorption), moved
    plan, absorbed = remembered(_planned, network)
    if not plan.pins:
        kept = network.absorption or plan.absorption
        return dataclasses.replace(network, absorption=kept), params
    concrete = all(map(_check.is_concrete, leaves))
    xp: Any = np if concrete and jax.default_backend() == "cpu" else jnp
    read = lambda i: xp.asarray(leaves[i])  # noqa: E731
    moved = [
        jax.device_put(plan.leaf(i, read)) if plan.changes(i) else leaf
        for i, leaf in enumerate(leaves)
    ]
    if concrete:
        _check_divided(plan, leaves, moved)
    out = jax.tree.unflatten(network.treedef, moved)
    return absorbed, out if pack(params) is params else unpack(out)


def _check_divided(plan: Plan, leaves: Sequence[Any], moved: Sequence[Any]) -> None:
    """Raise where a leaf was divided by a scale that is zero."""
    names = plan.network.leaf_names
    for step in plan.steps:
        for i in step.divided:
            if np.isfinite(moved[i]).all() or not np.isfinite(leaves[i]).all():
                continue
            element = np.asarray(step.element(plan.network, np.asarray(leaves[step.scale])))
            unit = int(abs(element).argmin())
            raise ValueError(
                f"params: leaf {names[step.scale]!r} is {element.flat[unit]:.3g} at unit {unit}, "
                f"where {names[i]!r} is added to what it scales, and no bias of a layer takes it up"
            )


# -- the plan ------------------------------------------------------------------------------


def _untied(network: Any) -> Any:
    """The network with a weight of its own for each layer whose tied weight cannot take up the
    scale that it reads; None if no more scales are taken up then."""
    flow, every = Flow(network), candidates(network)
    stay = [i for i in every if not steps(flow, i, [j for j in every if j != i])]
    tied = {c.equation.index for i in stay for c in flow.tied(i)}
    inside = {e.index for e in network.analysis.program.equations}
    uses = uses_of(flow.layers, network.leaf_names, tied & inside)
    if not uses:
        return None
    apply_fn = Untied(network.apply_fn, tuple(uses))
    params = apply_fn.params(network.template, network.leaf_types)
    apart = network.retrace(apply_fn, params, network.input_types)
    taken = [len(remembered(_planned, n)[0].absorption.scales) for n in (network, apart)]
    return apart if taken[1] > taken[0] else None


def _planned(network: Any) -> tuple[Plan, Any]:
    """The plan for a network, and the network that it leads to."""
    names, every = network.leaf_names, candidates(network)
    flow = Flow(network)
    found = {i: steps(flow, i, [j for j in every if j != i]) for i in every}
    refused = {i: flow.reason(i) for i in every if not found[i]}
    made: Any = None
    if len(refused) < len(every):
        # How large the groups would be without any of the scales.
        most = _pinned(network, _plan(network, flow, found, every, refused), check=False)
        for i in every:
            if found[i] and (why := _nothing_gained(network, most, found[i], every)):
                refused[i] = why
    taken = {i: s for i, s in found.items() if i not in refused}
    plan = _plan(network, flow, taken, tuple(taken), {names[i]: w for i, w in refused.items()})
    if taken:
        made = dataclasses.replace(_pinned(network, plan), absorption=plan.absorption)
        _verify(plan, made)
    return plan, made


def _plan(
    network: Structure, flow: Flow, taken: Mapping[int, tuple[Step, ...]],
    pinned: Sequence[int], refused: Mapping[Any, str],
) -> Plan:  # fmt: skip
    every = tuple(s for steps in taken.values() for s in steps)
    beside = dict.fromkeys(leaf for s in every for leaf in s.divided)
    moved = tuple(f for leaf in beside for f in folds(flow, leaf))
    biases = tuple(dict.fromkeys(f.source for f in moved))
    pins = dict.fromkeys(pinned, 1.0) | dict.fromkeys(biases, 0.0)
    names = network.leaf_names
    absorption = Absorption(
        tuple(names[i] for i in pinned), tuple(names[i] for i in biases), MappingProxyType(refused)
    )
    return Plan(network, MappingProxyType(pins), every, moved, absorption)


def _pinned(network: Any, plan: Plan, **options: Any) -> Any:
    apply_fn = Pinned(network.apply_fn, tuple(plan.pins.items()))
    return network.retrace(apply_fn, network.template, network.input_types, **options)


def _nothing_gained(
    network: Structure, most: Structure, steps: Sequence[Step], pinned: Sequence[int]
) -> str:
    """Why a group is not larger without the scales of its units; "" if it is."""
    names = {network.leaf_names[i] for i in pinned}
    places = {p for p in steps[0].group.places if p.leaf not in names}
    now = [g for g in most.groups.values() if places & set(g.places)]
    if any(f.matrices for g in now for f in g.structure.factors):
        return ""
    limits = "; ".join(dict.fromkeys(g.structure.limit for g in now if g.structure.limit))
    return f"without it the units admit no rotation either ({limits or 'they are fixed'})"


def _verify(plan: Plan, absorbed: Structure) -> None:
    """Run both programs in float64 on random draws, scales of either sign.

    **Raises:** `RuntimeError` if they differ.
    """
    network = plan.network
    programs = network.analysis.program, absorbed.analysis.program
    types, inputs = network.leaf_types, jax.tree.leaves(network.input_types)
    scales = {s.scale for s in plan.steps}
    with on_host():
        tokens = vocabularies(programs[0], len(types))
        for seed in range(_DRAWS):

            def read(i: int, seed: int = seed) -> Any:
                drawn = widen(Parameter(types[i], i).drawn(seed))
                sign = np.resize([1.0, -1.0, -1.0], drawn.shape) if i in scales else 1
                return drawn * sign if i in scales else drawn

            wide, given = Wide(), draw_inputs(inputs, tokens, seed)
            made = ([partial(read, i) for i in range(len(types))],
                    [partial(plan.leaf, i, read) for i in range(len(types))])  # fmt: skip
            both = [wide.run(p, [*m, *given]) for p, m in zip(programs, made, strict=True)]
            allowed = tolerance_of(wide.rounded)
            for y, z in zip(*both, strict=True):
                if y.dtype.kind in "fc" and not deviation(y, z) <= allowed:
                    raise RuntimeError(
                        "mcjax moved scales in a way that does not leave the function unchanged "
                        f"({plan.absorption.summary()}). This is a bug in mcjax: please report it"
                    )


__all__ = ["Absorption", "absorb"]
