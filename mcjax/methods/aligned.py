"""The segment to B once its units are matched to A's, by weights or by activations."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import _check
from .._inputs import per_example
from ..align import Matching, match_activations, match_weights
from ..align.activations import STATISTICS, TAPS
from ..align.whole_group import SYMMETRIES
from ..path import Linear as Segment
from .problem import Connection, Method, Problem


def segment_to(problem: Problem, matching: Matching) -> Connection:
    """The segment from A to B as a matching moves it."""
    moved = matching.action(problem.network)(problem.b)
    return Connection(
        Segment(problem.a, moved), matching.permutations, matching.status,
        elements=matching.elements,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class WeightMatching(Method):
    """The segment to B aligned by its weights: Git Re-Basin (Ainsworth et al. 2023, Alg. 1).

    P maximises ⟨θ_A, P θ_B⟩ by coordinate descent; see `mcjax.align.match_weights`.

    - `restarts`: at least 1; each further one settles every group anew and keeps what is better
    - `symmetry`: `"permutation"`, or `"full"` for scales, signs and matrices too, where the
      network's groups have them (the distance ‖θ_A − g θ_B‖ is made least)
    """

    restarts: int = 1
    symmetry: str = "permutation"

    source = "Ainsworth et al. 2023, Alg. 1"
    moves_end = True

    def __post_init__(self) -> None:
        _check.positive(self.restarts, "restarts")
        _check.one_of(self.symmetry, SYMMETRIES, "symmetry")

    @property
    def label(self) -> str:
        whole = ", full" if self.symmetry == "full" else ""
        return f"Weight matching{whole}"

    def connect(self, problem: Problem) -> Connection:
        p = problem
        matching = match_weights(
            p.network, p.a, p.b, key=p.key, restarts=self.restarts, symmetry=self.symmetry
        )
        return segment_to(p, matching)


@dataclasses.dataclass(frozen=True, repr=False)
class ActivationMatching(Method):
    """The segment to B aligned by what its units compute (tatro2020, Eq. 2 and Alg. 1).

    See `mcjax.align.match_activations`.

    - `statistic`: `"correlation"`, `"covariance"`, `"l2"` or `"inner"`
    - `tap`: `"post"` or `"pre"` activations
    - `examples`: the first so many of x are looked at, None for all (tatro2020 aligns on 10,000
      training images)
    - `symmetry`: `"permutation"`, or `"full"` for scales, signs and matrices too, as far as
      activations show them
    """

    statistic: str = "correlation"
    tap: str = "post"
    examples: int | None = 10_000
    symmetry: str = "permutation"

    source = "tatro2020, Alg. 1"
    needs_inputs = "sample"
    moves_end = True

    def __post_init__(self) -> None:
        _check.one_of(self.statistic, STATISTICS, "statistic")
        _check.one_of(self.tap, TAPS, "tap")
        _check.one_of(self.symmetry, SYMMETRIES, "symmetry")
        if self.examples is not None:
            _check.positive(self.examples, "examples")

    @property
    def label(self) -> str:
        whole = ", full" if self.symmetry == "full" else ""
        return f"Activation matching{whole}"

    def connect(self, problem: Problem) -> Connection:
        p = problem
        some: Any = per_example(lambda v: v[: self.examples], p.x)
        matching = match_activations(
            p.network, p.a, p.b, some, self.statistic, self.tap, symmetry=self.symmetry
        )
        return segment_to(p, matching)


__all__ = ["ActivationMatching", "WeightMatching"]
