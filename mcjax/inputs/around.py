"""Options of a point of high loss that is led around its barrier (vrabel2024, App. A)."""

from __future__ import annotations

import dataclasses

from .. import _check
from .bounds import Bounds
from .descent import check_steps


@dataclasses.dataclass(frozen=True)
class Bypass:
    """How barriers are bypassed; the defaults are vrabel2024's.

    B, the point of highest loss of a segment AC, moves by Adam on

        ℓ(B′) + deviation · mean((B′ − B)²) + roughness · Σ h(Δ(B′ − B)),

    its *updates* projected into the hyperplane orthogonal to AC (the authors project gradients
    before Adam, whose steps leave it). The mean is over all numbers of an input. Δ are the
    differences of neighbours along each axis but the first and the last (examples, channels), and
    h(d) = |d| − r / 2, or d² / (2 r) where |d| < r, with r the learning rate (in units of the
    inputs, one step). The paper has |d|, whose slope at 0 is the sign of what rounding leaves, so
    that points would depend on who moves beside them. The h are *summed*, so `roughness` is per
    pixel difference and acts more on larger images. Inputs that are vectors have no neighbours, and
    no such term. Then AB′ and B′C are treated as AC was.

    - `delta`: δ, the loss that a path should stay below
    - `depth`: rounds; a path has 2^depth segments at most
    - `inserted`: points that a path gets at most, the highest segments first
    - `points`: points at which the loss is looked at on each segment, ends included
    - `steps`: of Adam for each point at most; `block`: steps between two looks at the loss
    - `margin`: a point stops at a loss of margin · δ
    - `learning_rate`, `deviation`, `roughness`: as above
    - `bounds`: (least, greatest) value of an input, each a number or one for each channel (the last
      axis), in the units of what the network is given: of images in [0, 1] standardised to
      (image − mean) / std they are (−mean / std, (1 − mean) / std). Points stay within them, and in
      their hyperplanes; default: no bounds, as in the paper

    **Raises:** `ValueError` for an option out of range.
    """

    delta: float = 1e-3
    depth: int = 4
    inserted: int = 15
    points: int = 100
    steps: int = 1024
    block: int = 32
    margin: float = 0.1
    learning_rate: float = 5e-3
    deviation: float = 0.1
    roughness: float = 1e-8
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        check_steps(self)
        for name in ("depth", "inserted", "points"):
            _check.positive(getattr(self, name), name)
        if self.points < 3:
            raise ValueError(f"points must be 3 or more, got {self.points}")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must lie in (0, 1], got {self.margin}")


__all__ = ["Bypass"]
