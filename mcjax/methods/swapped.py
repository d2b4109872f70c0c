"""A method whose path ends at B with its units permuted, led back to B itself."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import _check
from ..path import Legs, Swaps
from .problem import Connection, Method, Problem, traits_of


@dataclasses.dataclass(frozen=True, repr=False)
class WithSwaps(Method):
    """The path of a method, then the swap stage as its last leg: it ends exactly at B.

    The units of the permuted B go back to their places by transpositions (anokhin2020, Sec. 3.4;
    see `mcjax.path.Swaps`). Nothing is added where no unit has moved.

    - `method`: any method
    - `together`: the number of disjoint swaps at a time; one keeps the loss lowest
    """

    method: Any
    together: int = 1

    def __post_init__(self) -> None:
        traits_of(self.method)
        _check.positive(self.together, "together")

    @property
    def label(self) -> str:
        return f"{traits_of(self.method).label}, swaps"

    @property
    def source(self) -> str:
        return traits_of(self.method).source

    @property
    def needs_inputs(self) -> str:
        return traits_of(self.method).needs_inputs

    @property
    def needs_labels(self) -> bool:
        return traits_of(self.method).needs_labels

    def connect(self, problem: Problem) -> Connection:
        made = self.method.connect(problem)
        if made.elements:
            raise ValueError(
                f"method: swaps lead back what is permuted, and {self.method!r} scaled, signed or "
                "rotated B's units too; pass one that only permutes"
            )
        if not made.moved:
            return dataclasses.replace(made, permutations={})
        stage = Swaps(problem.network, problem.b, made.permutations, together=self.together)
        return dataclasses.replace(made, path=Legs([made.path, stage]), permutations={})


__all__ = ["WithSwaps"]
