"""Whether what the points of a part of a family share is worth a program of its own.

Legs of one path differ in what moves, and a program that shares what does not is one a leg. A
program for points, whatever they are, is one for all legs. A leg has its own where it saves more
time than compiling takes, both estimated from the model's program alone: the choice, and with it
the roundings of a result, do not depend on how busy a machine is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from functools import cached_property
from typing import Any

import jax

from .._types import ApplyFn
from ..network import chunks
from ..network.model import Model
from ..path import Family
from ..path._base import type_at
from ..path.sharing import saved_work

# Tracing, lowering and compiling, of a program and of an equation: as measured for MLPs of 6 and 12
# layers and a ResNet20 (264 equations, 2 s).
_PROGRAM_SECONDS, _EQUATION_SECONDS = 0.5, 0.006
# Multiply-adds a second: measured on two cores of a CPU with a ResNet20 of 8 channels, and guessed
# for an accelerator: none was at hand.
_CPU_RATE, _ACCELERATOR_RATE = 2e10, 1e13


@dataclasses.dataclass(frozen=True)
class Worth:
    """What a program of its own costs and saves.

    - `family`, `coordinates`, `x`: the whole family, and inputs (or their types)
    - `replaced`: numbers of leaves that do not come from the family
    - `examples`: how many are gone through, None if nobody knows: batches are gone through once
    - `programs`: how many are compiled for a part
    """

    apply_fn: ApplyFn
    family: Family
    coordinates: Any
    x: Any
    chunk: int
    replaced: Collection[int]
    examples: int | None
    programs: int = 1

    def pays(self, part: Family, coordinates: Any) -> bool:
        """Whether sharing saves more than compiling costs."""
        if self.examples is None:
            return False
        saved = saved_work(part, self.model, self.replaced, coordinates)
        seconds = saved * self.examples / self.chunk / self._rate
        return seconds > self.programs * self._compiling

    @cached_property
    def model(self) -> Model:
        types = type_at(self.family, self.coordinates)
        return Model.of(self.apply_fn, types, chunks.types(self.x, self.chunk))

    @property
    def _rate(self) -> float:
        return _CPU_RATE if jax.default_backend() == "cpu" else _ACCELERATOR_RATE

    @property
    def _compiling(self) -> float:
        equations = sum(1 for _ in self.model.program.all_equations())
        return _PROGRAM_SECONDS + _EQUATION_SECONDS * equations
