"""Segment, arc and transport: methods by themselves, and how a stage moves layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from .._types import Params
from ..align import Matching, match_butterflies
from ..network.network import Network
from ..path import Arc as ArcPath
from ..path import Linear as Segment
from ..path import Path
from ..transport.solvers import Exact, Solver, as_solver
from .arc import neuron_mean
from .problem import Connection, Method, Problem


class Motion(Method):
    """A method that can also move a part of the parameters, on a leg of `LayerByLayer`."""

    def match(
        self,
        network: Network,
        a: Params,
        b: Params,
        groups: Sequence[str] | None = None,
        leaves: Sequence[int] | None = None,
    ) -> Matching | None:
        """The order of b's units in which a leg ends, None if it stays.

        **Arguments:**
        - `groups`: names of the groups that move; `leaves`: numbers of the leaves that do
          (default: all)
        """
        return None

    def between(
        self, network: Network, a: Params, b: Params, groups: Sequence[str] | None = None
    ) -> Params | None:
        """What the path from a to b needs besides its ends: the mean of an arc.

        **Arguments:**
        - `groups`: names of the groups that move (default: all)
        """
        return None

    def path(self, a: Any, b: Any, middle: Any) -> Path:
        """The path from a to b; `middle` is what `between` returned."""
        return Segment(a, b)

    def connect(self, problem: Problem) -> Connection:
        p = problem
        matching = self.match(p.network, p.a, p.b)
        if matching is None:
            return Connection(self.path(p.a, p.b, self.between(p.network, p.a, p.b)))
        moved = p.network.permute(matching.permutations, p.b)
        path = self.path(p.a, moved, self.between(p.network, p.a, moved))
        return Connection(path, matching.permutations, matching.status)


@dataclasses.dataclass(frozen=True, repr=False)
class Linear(Motion):
    """The segment θ(t) = (1 − t) θ_A + t θ_B (anokhin2020, Eq. 5)."""

    label = "Linear"
    source = "anokhin2020, Eq. 5"


@dataclasses.dataclass(frozen=True, repr=False)
class Arc(Motion):
    """θ(t) = µ + cos(π/2 t) (θ_A − µ) + sin(π/2 t) (θ_B − µ), µ the mean over the neurons of both
    networks (anokhin2020, Eq. 6 and Prop. 1)."""

    label = "Arc"
    source = "anokhin2020, Eq. 6"

    def between(
        self, network: Network, a: Params, b: Params, groups: Sequence[str] | None = None
    ) -> Params | None:
        return neuron_mean(network, a, b, groups)

    def path(self, a: Any, b: Any, middle: Any) -> Path:
        return ArcPath(a, b, middle)


@dataclasses.dataclass(frozen=True, repr=False)
class OT(Motion):
    """The segment to B with its neurons transported to A's (anokhin2020, Sec. 3.4).

    P = argmin Σ_i ‖θ_i^A − θ_P(i)^B‖² over a neuron's butterfly, its incoming row, bias and
    outgoing weights; see `mcjax.align.match_butterflies`.

    - `solver`: `mcjax.transport.Exact()` or `mcjax.transport.Sinkhorn(epsilon=…)`
    """

    solver: Solver = Exact()

    label = "OT"
    source = "anokhin2020, Sec. 3.4"
    moves_end = True

    def __post_init__(self) -> None:
        as_solver(self.solver)

    def match(
        self,
        network: Network,
        a: Params,
        b: Params,
        groups: Sequence[str] | None = None,
        leaves: Sequence[int] | None = None,
    ) -> Matching | None:
        return match_butterflies(network, a, b, solver=self.solver, groups=groups, leaves=leaves)


def arrays(leaves: Sequence[Any], which: Sequence[int]) -> list[jax.Array]:
    """Some of the leaves, as JAX's arrays."""
    return jax.device_put([leaves[i] for i in which])  # which compiles nothing


__all__ = ["OT", "Arc", "Linear", "Motion", "arrays"]
