"""The result of an aligner."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._readonly import make_read_only
from ..network.action import Action
from ..network.network import Network


@dataclasses.dataclass(frozen=True)
class Matching:
    """Permutations of network b's units that match network a's, and what they gain.

    - `permutations`: group name → index array; `network.permute(permutations, b)` aligns b to a,
      where there are no `elements`
    - `elements`: group name → kind of a factor → what is done to the units after they are
      permuted, as in `Action.of`; empty where permutations alone were looked for, or found
    - `before`, `after`: the objective at the identity and at the permutations, per group and
      `"total"`; higher is better unless `minimised`
    - `status`: `"optimal"` (proved: no permutations have a better objective), `"local optimum"`,
      `"stopped at a bound"` (of work), `"entropic"` or `"not converged"` (Sinkhorn's plans,
      rounded), `"heuristic"` (by a solver that proves nothing), `"incomplete"` (some groups, or
      factors of theirs, have not been matched)
    - `statuses`: where groups are solved one by one, group name → one of these, `"unmatched"`
      instead of `"incomplete"`
    - `sweeps`: of coordinate descent
    - `unmatched`: groups that stay as they are, or of which factors do → why
    - `dead`: group name → number of units that never vary in a or b
    """

    permutations: Mapping[str, np.ndarray]
    before: Mapping[str, float]
    after: Mapping[str, float]
    method: str
    status: str
    minimised: bool = False
    sweeps: int = 1
    dead: Mapping[str, int] = dataclasses.field(default_factory=dict)
    statuses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unmatched: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    elements: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_read_only(self, "permutations", "before", "after", "dead", "statuses", "unmatched",
                       "metadata", "elements")  # fmt: skip

    def __repr__(self) -> str:
        moved = [
            f"{name}: {int(np.sum(p != np.arange(np.shape(p)[-1])))} of {np.size(p)} move"
            for name, p in self.permutations.items()
        ]
        return f"Matching({', '.join(moved)}; {self.method}: {self.status})"

    def action(self, network: Network) -> Action:
        """What was found, as an action: `matching.action(network)(b)` aligns b to a."""
        return Action.of(network, self.permutations, self.elements)

    def summary(self) -> str:
        """The objective before and after, a line a group; what is a local optimum or unmatched."""
        names = [*(n for n in self.after if n != "total"), "total"]
        width = max(map(len, names))
        lines = [f"{self.method}: {self.status}"]
        for name in names:
            line = f"{name:<{width}}  {self.before[name]:12.5g} -> {self.after[name]:12.5g}"
            lines.append(line + self._notes(name.split("+")))
        lines += [f"not matched: {name}: {why}" for name, why in self.unmatched.items()]
        return "\n".join(lines)

    def _notes(self, groups: Sequence[str]) -> str:
        notes = [f"{self.dead[g]} dead units" for g in groups if self.dead.get(g)]
        found = dict.fromkeys(self.statuses[g] for g in groups if g in self.statuses)
        notes += [status for status in found if status not in ("optimal", "unmatched")]
        return f"  ({', '.join(notes)})" if notes else ""
