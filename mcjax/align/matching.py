"""The result of an aligner."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Matching:
    """Permutations of network b's units that match network a's, and what they gain.

    - `permutations`: group name → index array; `network.permute(permutations, b)` aligns b to a
    - `before`, `after`: the objective at the identity and at the permutations, per group and
      `"total"`; higher is better unless `minimised`
    - `status`: `"exact"` (each assignment solved to optimality in one go), `"local optimum"`
      (coordinate descent), with `sweeps` done
    - `dead`: group name → number of units that never vary in a or b
    """

    permutations: Mapping[str, np.ndarray]
    before: Mapping[str, float]
    after: Mapping[str, float]
    method: str
    status: str = "exact"
    minimised: bool = False
    sweeps: int = 1
    dead: Mapping[str, int] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def summary(self) -> str:
        """The objective before and after, a line a group."""
        names = [*(n for n in self.after if n != "total"), "total"]
        width = max(map(len, names))
        lines = [f"{self.method}: {self.status}"]
        for name in names:
            dead = f"  ({self.dead[name]} dead units)" if self.dead.get(name) else ""
            lines.append(
                f"{name:<{width}}  {self.before[name]:12.5g} -> {self.after[name]:12.5g}{dead}"
            )
        return "\n".join(lines)
