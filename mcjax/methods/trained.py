"""Curves whose free points are trained on data, and connection models, as methods."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from .. import _check
from ..path import Bezier, PolygonalChain
from ..path import Linear as Segment
from ..training.curves import train_curve
from ..training.protocol import Protocol, tatro2020
from .problem import Connection, Method, Problem, traits_of

if TYPE_CHECKING:  # flowjax takes a while to import
    from ..flows import ConnectionModel

# tatro2020's curves: 250 epochs at a tenth of the end points' rate.
CURVES = tatro2020(learning_rate=0.01)


def check_align(align: Any) -> None:
    if align is not None and not traits_of(align, "align").moves_end:
        raise ValueError(
            "align must be a method that brings B's units into another order (OT(), "
            f"WeightMatching(), ActivationMatching()), got {align!r}"
        )


def check_protocol(protocol: Any, name: str = "protocol") -> None:
    if not isinstance(protocol, Protocol):
        raise ValueError(
            f"{name} must be a mcjax.training.Protocol, got a {type(protocol).__name__}"
        )


def end_of(align: Any, problem: Problem) -> Connection:
    """How B is moved to the end of a curve: the connection of the method `align`."""
    if align is None:
        return Connection(Segment(problem.a, problem.b), network=problem.network)
    return dataclasses.replace(align.connect(problem), network=problem.network)


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedCurve(Method):
    """A curve trained from the segment: argmin E_{t ~ U[0,1]} ℓ(θ(t)) over its inner points.

    Quadratic Bézier curves as in tatro2020 (Alg. 2), polygonal chains as in Garipov et al. 2018
    (whose points anokhin2020 counts: "Garipov (3)"); see `mcjax.training.train_curve`.

    - `curve`: a class of paths with free points and `between(a, b, bends)`
    - `bends`: number of free points
    - `protocol`: optimiser, schedule, epochs, augmentation, attack (robust training)
    - `align`: a method whose order of B's units the curve ends at, None for B itself
    - `samples`: t's a step
    """

    curve: Any = Bezier
    bends: int = 1
    protocol: Protocol = CURVES
    align: Any = None
    samples: int = 1

    needs_inputs = "all"
    needs_labels = True

    def __post_init__(self) -> None:
        _check.positive(self.bends, "bends")
        _check.positive(self.samples, "samples")
        check_protocol(self.protocol)
        check_align(self.align)
        if not callable(getattr(self.curve, "between", None)):
            raise ValueError(
                "curve must be a class of paths with free points, mcjax.path.Bezier or "
                f"PolygonalChain, got {self.curve!r}"
            )

    @property
    def label(self) -> str:
        known: dict[Any, str] = {Bezier: "Bézier", PolygonalChain: "Garipov"}
        name = known.get(self.curve) or self.curve.__name__
        if self.curve is not Bezier or self.bends > 1:
            name += f" ({self.bends + 2})"
        return name + ("" if self.align is None else ", aligned")

    @property
    def source(self) -> str:
        return "tatro2020, Alg. 2" if self.curve is Bezier else "Garipov et al. 2018"

    @property
    def moves_end(self) -> bool:
        return self.align is not None

    def connect(self, problem: Problem) -> Connection:
        p = problem
        end = end_of(self.align, p)
        start = self.curve.between(p.a, end.action(p.b), self.bends)
        fitted = train_curve(
            start, p.network, (p.x, p.y), self.protocol, key=p.key, task=p.task,
            samples=self.samples,
        )  # fmt: skip
        status = "trained" if fitted.finite else "not finite"
        return Connection(fitted.path, end.permutations, status, elements=end.elements)


# The kinds of connection models and the names that tables show.
FLOWS = {
    "iaf-flow": "IAF flow",
    "realnvp-flow": "RealNVP flow",
    "realnvp-bijection": "RealNVP bijection",
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Flow(Method):
    """ψ(t) = ν⁻¹[cos(π/2 t) ν(X) + sin(π/2 t) ν(Y)] by a trained ν (anokhin2020, Sec. 3.3, Eq. 7).

    - `model`: a connection model that `mcjax.flows` has trained on networks like the two
    """

    model: ConnectionModel = dataclasses.field(repr=False)

    source = "anokhin2020, Sec. 3.3"

    def __post_init__(self) -> None:
        if not hasattr(self.model, "method") or not hasattr(self.model, "connect"):
            raise ValueError(
                "model must be a connection model, trained with mcjax.flows.train_flow or "
                f"train_bijection or loaded by mcjax.load; got a "
                f"{type(self.model).__name__}"
            )

    @property
    def label(self) -> str:
        return FLOWS.get(self.model.method, self.model.method)

    def connect(self, problem: Problem) -> Connection:
        return Connection(self.model.connect(problem.network, problem.a, problem.b))

    def __repr__(self) -> str:
        return f"Flow(<{self.model.method}>)"


__all__ = ["FLOWS", "Flow", "TrainedCurve"]
