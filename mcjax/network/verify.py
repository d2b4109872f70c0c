"""Verification by execution: the groups found must leave the outputs unchanged."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..symmetry.matrices import CONDITION
from .draws import Parameter, draw_inputs, vocabularies
from .groups import Group
from .mover import Element, Mover, layers_of
from .program import Program
from .structure import Structure
from .symmetry.act import random_element
from .symmetry.factors import Factor
from .wide import Stack, Wide, on_host

Wrong = tuple[str, Factor]  # of a group, one of its factors
_DRAWS = 3
# Where a program chooses, a mistake shows only when the choice falls on it: more draws.
_CHOOSING = frozenset({"argmax", "argmin", "top_k", "approx_top_k", "sort", "cond", "while"})
_DRAWS_OF_CHOICES = 10
# A wrong group moves the outputs by the order of their size; rounding by far less. What a primitive
# that takes no float64 is run in decides: bits → deviation relative to the largest output.
_TOLERANCE = {64: 1e-7, 32: 2e-3, 16: 0.2}


@dataclasses.dataclass(frozen=True)
class Verification:
    """How a network's groups were verified.

    - `draws`: random parameters, inputs and permutations on which the function was run
    - `rounded`: (primitive, type) of what could not be run in float64
    """

    draws: int
    rounded: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if not self.draws:
            return "nothing to verify"
        where = "".join(f", {name} in {dtype}" for name, dtype in self.rounded)
        return f"verified by execution ({self.draws} random draws in float64{where})"


def verify(network: Structure, params: Any, x: Any) -> tuple[Verification | None, list[Wrong]]:
    """Run the model as it is and under random elements of all groups, on random draws.

    Each draw has parameters, inputs and elements of its own. Zeros, ties and tiny scales,
    which would hide a mistake, are perturbed away. The program runs on the host in float64; leaf
    by leaf, a leaf is perturbed, permuted and widened where it is used.

    **Returns:** (None if nothing could be seen: no output was finite on any draw; the factors
    that change the outputs, of which a warning tells).

    **Raises:** `RuntimeError` naming the groups whose permutations change the outputs.
    """
    if not network.groups:
        return Verification(0), []
    with on_host():
        leaves = [Parameter(v, i) for i, v in enumerate(jax.tree.leaves(params))]
        inputs = jax.tree.leaves(x)
        tokens = vocabularies(network.analysis.program, len(leaves))
        trials = [
            _Trial(network, leaves, draw_inputs(inputs, tokens, seed), seed)
            for seed in range(_draws(network.analysis.program))
        ]
        names = list(network.groups)
        every = [(n, f) for n, g in network.groups.items() for f in _continuous(g)]
        found, wrong = [trial.deviations(names, every) for trial in trials], []
        if _wrong(found):
            found = [trial.deviations(names) for trial in trials]
            if _wrong(found):
                culprits = [n for n in names if _wrong([t.deviations([n]) for t in trials])]
                raise RuntimeError(_message(culprits))
            wrong = [one for one in every if _wrong([t.deviations([], [one]) for t in trials])]
            left = [one for one in every if one not in wrong]
            if _wrong([t.deviations(names, left) for t in trials]):
                wrong = every
            _warn(wrong)
    seen = [f for f in found if f.seen]
    rounded = {name: dtype for trial in trials for name, dtype in trial.rounded.items()}
    types = tuple(sorted((name, str(np.dtype(dtype))) for name, dtype in rounded.items()))
    return (Verification(len(seen), types) if seen else None), wrong


def _draws(program: Program) -> int:
    chooses = any(e.name in _CHOOSING for e in program.all_equations())
    return _DRAWS_OF_CHOICES if chooses else _DRAWS


def _continuous(group: Group) -> list[Factor]:
    return [f for f in group.structure.factors if f.kind != "permutation"]


def _warn(wrong: Sequence[Wrong]) -> None:
    named = ", ".join(f"{name}: {factor.kind}" for name, factor in wrong)
    warnings.warn(
        f"mcjax found symmetries that do not leave the function unchanged ({named}); they are left "
        "out. This is a bug in mcjax: please report it",
        stacklevel=4,
    )


def _message(culprits: Sequence[str]) -> str:
    return (
        "mcjax found unit groups that do not leave the function unchanged "
        f"({', '.join(culprits) or 'only jointly'}). Either apply_fn is not deterministic "
        "(dropout, random numbers, training mode), or this is a bug in mcjax: please report it"
    )


@dataclasses.dataclass(frozen=True)
class _Found:
    """What one draw showed: `inexact` above 1 is wrong, `counts` may differ on a tie."""

    inexact: float
    counts: bool
    seen: bool


def _wrong(found: Sequence[_Found]) -> bool:
    """Real outputs must agree on every draw, integers and booleans on most of them."""
    differ = sum(f.counts for f in found)
    return any(not f.inexact <= 1 for f in found) or 2 * differ > len(found)


class _Shared:
    """What `make` returns for each of n runs, which is held until the last of them has it."""

    def __init__(self, make: Callable[..., Any], n: int) -> None:
        self.make, self.n = make, n
        self.held: dict[Any, list[Any]] = {}

    def __call__(self, *key: Any) -> Any:
        left = self.held.pop(key, None) or [self.make(*key)] * self.n
        value = left.pop()
        if left:
            self.held[key] = left
        return value


@dataclasses.dataclass(frozen=True)
class _Run:
    """What is done to the parameters: units permuted (atom → indices), elements of factors."""

    given: Mapping[Any, np.ndarray]
    elements: Sequence[Element]


class _Trial:
    """One draw of parameters and inputs, and the outputs on them (`expected`, once they are
    compared)."""

    def __init__(
        self, network: Structure, leaves: Sequence[Parameter], inputs: Sequence[Any], seed: int
    ) -> None:
        self.network, self.leaves, self.inputs, self.seed = network, leaves, inputs, seed
        self.rounded: dict[str, Any] = {}
        self.expected: list[Any] | None = None

    def _outputs(self, runs: Sequence[_Run]) -> list[list[Any]]:
        """The outputs of some runs, for all of which each leaf, or turn of one, is drawn once."""
        wide, leaves = Wide(), [self._read(i, runs) for i in range(len(self.leaves))]
        several = [[*of, *self.inputs] for of in zip(*leaves, strict=True)]
        outputs = wide.run_each(self.network.analysis.program, several)
        self.rounded |= wide.rounded
        return outputs

    def _read(self, i: int, runs: Sequence[_Run]) -> list[Callable[[], Any]]:
        """A leaf as each run reads it."""
        whole = _Shared(lambda: self.leaves[i].drawn(self.seed), len(runs))
        turn = _Shared(lambda k: self.leaves[i].drawn(self.seed, k), len(runs))
        movers = [Mover(self.network, i, run.given, run.elements) for run in runs]
        read = [lambda m=m: m(whole()) for m in movers]
        if layers_of(self.network.leaf_axes[i]) is None:
            return read  # type: ignore[return-value]
        return [Stack(r, lambda k, m=m: m.turn(turn(k), k)) for r, m in zip(read, movers)]

    def _compared(self, run: _Run) -> tuple[list[Any], list[Any]]:
        """(Outputs of the model as it is, of a run)."""
        if self.expected is not None:
            return self.expected, self._outputs([run])[0]
        self.expected, actual = self._outputs([_Run({}, ()), run])
        return self.expected, actual

    def deviations(self, names: Sequence[str], factors: Sequence[Wrong] = ()) -> _Found:
        """How the outputs under random permutations of some groups, and random elements of some
        factors, differ."""
        rng = np.random.default_rng(self.seed)
        given = {
            (group := self.network.groups[n]).atom: _permutation(group.shape, rng, not self.seed)
            for n in names
        }
        elements = [
            (group := self.network.groups[n], f, random_element(f.kind, group.shape, rng))
            for n, f in factors
        ]
        expected, actual = self._compared(_Run(given, elements))
        tolerance = tolerance_of(self.rounded)
        if any(f.kind == "general linear" for _, f in factors):
            tolerance *= CONDITION
        worst, counts, seen = 0.0, False, False
        for y, z in zip(expected, actual, strict=True):
            if y.dtype.kind in "fc":
                worst = max(worst, deviation(y, z) / tolerance)
                seen |= bool(np.isfinite(y).any())
            elif y.dtype.kind in "biu":
                counts |= not np.array_equal(y, z)
                seen |= y.size > 0
        return _Found(worst, counts, seen)


def _permutation(shape: tuple[int, ...], rng: np.random.Generator, every: bool) -> np.ndarray:
    """A random permutation that is not the identity, nor, if `every`, is that of an outer index."""
    identity = np.broadcast_to(np.arange(shape[-1]), shape)
    drawn = rng.permuted(identity, axis=-1)
    still = (drawn == identity).all(-1, keepdims=True)
    return np.where(still & (every or still.all()), np.roll(identity, 1, -1), drawn)


def tolerance_of(rounded: Mapping[str, Any]) -> float:
    """The deviation allowed where some primitives were run in these types."""
    bits = min((jnp.finfo(t).bits for t in rounded.values()), default=64)
    return next(v for k, v in _TOLERANCE.items() if bits >= k or k == 16)


def deviation(y: np.ndarray, z: np.ndarray) -> float:
    """The largest deviation relative to the largest entry; infinite where NaN was not expected."""
    finite = np.isfinite(y)
    if not np.array_equal(finite, np.isfinite(z)):
        return float("inf")
    if not finite.all():
        y, z = y[finite], z[finite]
    return float(_largest(y - z) / (_largest(y) or 1.0)) if y.size else 0.0


def _largest(values: np.ndarray) -> Any:
    """The largest modulus; of real numbers without an array of them."""
    if values.dtype.kind == "c":
        return np.abs(values).max()
    return max(values.max(), -values.min())
