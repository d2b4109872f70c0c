"""An attack that knows the detector by loss curves (vrabel2024, App. B.3, attacked)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._types import ApplyFn, Params
from ..attacks import PGD, Aim
from ..network import Network
from ..tasks import CLASSIFICATION, Task
from .features import templates_of, watch


@dataclasses.dataclass(frozen=True, eq=False)
class Templates:
    """Images that loss curves lead to, row c that of class c; equal and hashed by content."""

    images: np.ndarray

    def __post_init__(self) -> None:
        images = np.array(self.images)
        images.flags.writeable = False
        object.__setattr__(self, "images", images)

    @functools.cached_property
    def digest(self) -> str:
        """Of type, shape and values."""
        told = f"{self.images.dtype} {self.images.shape}".encode()
        return hashlib.sha256(told + self.images.tobytes()).hexdigest()[:12]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Templates) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Templates({len(self.images)} classes, {self.digest})"


@dataclasses.dataclass(frozen=True)
class AdaptivePGD(PGD):
    """`PGD` that lowers the loss curve which `LossCurve` looks at, too.

    It goes along the sign of the gradient of

        ℓ(f(x), y) − weight · mean_t ℓ(f((1 − t) x + t x_c), c),

    c the likeliest class at x other than y (of a targeted attack the target), x_c its template:
    the network shall see c in x, and from there on to the template of c. An attacker who knows the
    detector is what a detector must be tested on (Tramèr et al. 2020); vrabel2024 has none.

    - `templates`: of the detector, as `AdaptivePGD.against` takes them from the same reference
    - `weight`: of the curve; `points`: t's of it, ends included
    - `epsilon`, `step`, `steps`, `bounds`, `mean`, `std`: as of `PGD`

    **Raises:** `ValueError` for no templates, a weight that is negative, one point, and as `PGD`.
    """

    templates: Templates = None  # type: ignore[assignment]  # fields of PGD have defaults
    weight: float = 1.0
    points: int = 8

    hard_labels = True

    def __post_init__(self) -> None:
        if not isinstance(self.templates, Templates):
            raise ValueError("templates are needed: make the attack by AdaptivePGD.against(…)")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ValueError(f"weight must be ≥ 0 and finite, got {self.weight}")
        if _check.positive(self.points, "points") < 2:
            raise ValueError(f"points must be 2 or more, got {self.points}")
        super().__post_init__()

    @classmethod
    @_check.on_host
    def against(
        cls,
        model: ApplyFn | Network,
        params: Params,
        reference: tuple[Any, Any],
        *,
        task: Task = CLASSIFICATION,
        chunk: int = 1024,
        **options: Any,
    ) -> AdaptivePGD:
        """The attack on detectors by `LossCurve` that `detect` makes with the same reference.

        **Arguments:** as of `mcjax.inputs.detect`; `options`: of the attack.

        **Raises:** `ValueError` if `reference` lacks a class or holds others, for options out of
        range, and of the attack on inputs or a network that the templates are not of.

            >>> import jax.numpy as jnp, numpy as np, mcjax
            >>> x = np.random.default_rng(0).uniform(0.2, 0.8, (300, 2)).astype("f")
            >>> y, net = (x[:, 1] > x[:, 0]).astype(int), {"w": 9 * jnp.eye(2)}
            >>> f = lambda p, x: x @ p["w"]
            >>> attack = mcjax.inputs.AdaptivePGD.against(
            ...     f, net, (x[200:], y[200:]), epsilon=0.3, step=0.05, steps=10)
            >>> made = attack(f, net, x[:200], y[:200])
            >>> made.rate > 0.5, float(made.linf.max()) < 0.301
            (True, True)
        """
        (x, y), _ = _check.labelled(reference, "reference")
        watched = watch(model, params, (x, y), task, chunk)
        classes = watched.classes(x)
        found = templates_of(watched, x, np.asarray(y))
        missing = sorted(set(range(classes)) - set(found))
        if missing:
            raise ValueError(f"reference: it has no image of class {missing[0]} of {classes}")
        return cls(templates=Templates(np.stack([found[c] for c in range(classes)])), **options)

    def raised(self, aim: Aim, images: jax.Array) -> jax.Array:
        logits = aim.logits(images)
        fits = logits.shape[1], *images.shape[1:]
        if self.templates.images.shape != fits:
            raise ValueError(
                f"templates: {self.templates.images.shape} are of another detector; this network "
                f"and these inputs need {fits}"
            )
        towards = aim.labels if aim.targeted else likeliest_other(logits, aim.labels)
        to = self.images(self.templates.images)[towards][:, None]
        t = jnp.linspace(0, 1, self.points, dtype=images.dtype)
        t = t.reshape(1, -1, *[1] * (images.ndim - 1))
        line = (1 - t) * images[:, None] + t * to
        outputs = aim.outputs(line.reshape(-1, *images.shape[1:]))
        losses = aim.task.losses(outputs, jnp.repeat(towards, self.points))
        return aim.losses(images) - self.weight * losses.reshape(-1, self.points).mean(1)


def likeliest_other(logits: jax.Array, labels: Any) -> jax.Array:
    """(n,): the class of the highest logit that is not the label."""
    own = jnp.arange(logits.shape[1])[None] == labels[:, None]
    return jnp.argmax(jnp.where(own, -jnp.inf, logits), 1)


__all__ = ["AdaptivePGD", "Templates"]
