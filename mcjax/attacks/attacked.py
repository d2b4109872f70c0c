"""The result of an attack: inputs, and what became of each."""

from __future__ import annotations

import collections
import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from .._readonly import make_read_only

SUCCEEDED = "succeeded"
FAILED = "failed"
WRONG = "misclassified before"
BROKEN = "not finite"


@dataclasses.dataclass(frozen=True, eq=False)
class Attacked:
    """Inputs that were attacked: the result of calling an attack.

    - `x`: (n, …) where the attack led them, success or not; an input that was misclassified before
      is unchanged
    - `clean`: (n, …) the inputs themselves; `y`: (n,) their classes
    - `target`: (n,) classes that the network should give, or None
    - `status`: (n,) words, by the network's outputs at `x`:
      `"succeeded"`: another class than `y`, or the target;
      `"failed"`: not so;
      `"misclassified before"`: it was no image of its class to the network, and was not attacked;
      `"not finite"`: an output at `clean` or at `x` is not
    - `before`, `predicted`: (n,) classes at `clean` and at `x`
    - `attack`: what made it

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: x @ p["w"]
        >>> x = jnp.array([[0.5, 0.375], [1.0, 0.0], [0.0, 1.0]])
        >>> made = mcjax.attacks.FGSM(0.25)(f, {"w": jnp.eye(2)}, x, jnp.array([0, 0, 0]))
        >>> made.status.tolist(), made.rate, made.linf.tolist()
        (['succeeded', 'failed', 'misclassified before'], 0.5, [0.25, 0.25, 0.0])
    """

    x: np.ndarray
    clean: Any
    y: np.ndarray
    target: np.ndarray | None
    status: np.ndarray
    before: np.ndarray
    predicted: np.ndarray
    attack: Any

    def __post_init__(self) -> None:
        make_read_only(self, "x", "y", "target", "status", "before", "predicted")

    def __repr__(self) -> str:
        return f"Attacked({len(self.x)} examples by {type(self.attack).__name__}; {self._counts()})"

    @property
    def success(self) -> np.ndarray:
        """(n,): which are adversarial. An attack that failed never is."""
        return self.status == SUCCEEDED

    @property
    def attacked(self) -> np.ndarray:
        """(n,): which were classified right before, and so were attacked."""
        return self.before == self.y

    @property
    def rate(self) -> float:
        """Successes, of those that were attacked; NaN where none was."""
        attacked = int(self.attacked.sum())
        return int(self.success.sum()) / attacked if attacked else float("nan")

    @cached_property
    def l2(self) -> np.ndarray:
        """(n,): how far each has moved in L₂, in units of the attack's bounds."""
        return np.sqrt((self._moved() ** 2).sum(1))

    @cached_property
    def linf(self) -> np.ndarray:
        """(n,): how far each has moved in the maximum norm, in units of the attack's bounds."""
        return np.abs(self._moved()).max(1)

    def _moved(self) -> np.ndarray:
        moved = self.x.astype(np.float64) - np.asarray(self.clean, np.float64)
        return (moved * self.attack.std).reshape(len(moved), -1)

    def summary(self) -> str:
        """How many attacks succeeded, and how far the inputs moved."""
        lines = [f"{len(self.x):,} examples, {self.attack}: {self._counts()}"]
        if self.attacked.any():
            lines.append(f"  rate: {self.rate:.1%} of {self.attacked.sum():,} attacked")
        if self.success.any():
            l2, linf = (np.median(v[self.success]) for v in (self.l2, self.linf))
            lines.append(f"  moved: median L2 {l2:.4g}, maximum norm {linf:.4g}, of the successes")
        return "\n".join(lines)

    def _counts(self) -> str:
        counts = collections.Counter(self.status.tolist())
        return ", ".join(f"{n:,} {word}" for word, n in counts.most_common())


__all__ = ["Attacked"]
