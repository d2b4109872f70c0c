"""A point of high loss led around the barrier, inside a hyperplane (vrabel2024, App. A)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled
from .._loops import slow_in_loops
from .._static import unpack
from .._types import ApplyFn, Params
from ..network import Network
from ..tasks import Task


@dataclasses.dataclass(frozen=True)
class Bypass:
    """How barriers are bypassed; the defaults are vrabel2024's.

    B, the point of highest loss of a segment AC, moves by Adam on

        ℓ(B′) + deviation · mean((B′ − B)²) + roughness · Σ |Δ(B′ − B)|,

    its *updates* projected into the hyperplane orthogonal to AC (the authors project gradients
    before Adam, whose steps leave it). The mean is over all numbers of an input. Δ are the
    differences of neighbours along each axis but the first and the last (examples, channels); their
    absolute values are *summed*, so `roughness` is per pixel difference and acts more on larger
    images. Inputs that are vectors have no neighbours, and no such term. Then AB′ and B′C are
    treated as AC was.

    - `delta`: δ, the loss that a path should stay below
    - `depth`: rounds; a path has 2^depth segments at most
    - `inserted`: points that a path gets at most, the highest segments first
    - `points`: points at which the loss is looked at on each segment, ends included
    - `steps`: of Adam for each point at most; `block`: steps between two looks at the loss
    - `margin`: a point stops at a loss of margin · δ
    - `learning_rate`, `deviation`, `roughness`: as above

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

    def __post_init__(self) -> None:
        for name in ("depth", "inserted", "points", "steps", "block"):
            _check.positive(getattr(self, name), name)
        if self.points < 3:
            raise ValueError(f"points must be 3 or more, got {self.points}")
        for name in ("delta", "learning_rate"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("deviation", "roughness"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be ≥ 0 and finite, got {value}")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must lie in (0, 1], got {self.margin}")

    def optimizer(self) -> Any:
        """Adam, as the authors ran it."""
        import optax

        return optax.adam(self.learning_rate)


@dataclasses.dataclass(frozen=True)
class Descent:
    """What the steps are compiled for; `chunk`: points that move together, at most."""

    model: ApplyFn | Network
    task: Task
    how: Bypass
    chunk: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed:
    """What does not move: the points B, the unit vectors along AC, the labels; rows of them."""

    start: Any
    normal: Any
    labels: Any


def lead_around(plan: Descent, params: Params, fixed: Fixed) -> np.ndarray:
    """B′ for each B of shape (n, …).

    Points advance together in blocks of steps. Between blocks those whose loss is low enough are
    set aside, and once the others fit into half the batch, a power of two, they alone go on. When a
    point stops depends on its own loss only, not on who is beside it.
    """
    n = len(fixed.start)
    found = np.array(fixed.start)
    most = 1 << (plan.chunk.bit_length() - 1)
    for first in range(0, n, most):
        part = slice(first, min(first + most, n))
        found[part] = _together(plan, params, jax.tree.map(lambda v, p=part: v[p], fixed))
    return found


def _together(plan: Descent, params: Params, fixed: Fixed) -> np.ndarray:
    found = np.array(fixed.start)
    going = at = np.arange(len(found))  # which go on, and in which row of the batch each is
    rows = _filled(at)
    fixed = jax.tree.map(lambda v: jnp.asarray(v)[rows], fixed)
    moved = fixed.start
    state = plan.how.optimizer().init(moved)
    in_loop = not slow_in_loops(jax.grad(lambda b: _objective(plan, params, fixed, b)), moved)
    taken = 0
    while taken < plan.how.steps:
        count = min(plan.how.block, plan.how.steps - taken)
        for _ in range(1 if in_loop else count):
            step = compiled(_steps, plan, count if in_loop else 1)
            moved, state = step(params, fixed, moved, state)
        taken += count
        found[going] = np.asarray(moved)[at]
        losses = np.asarray(compiled(_losses, plan)(params, moved, fixed.labels))[at]
        high = ~(losses <= plan.how.margin * plan.how.delta)
        going, at = going[high], at[high]
        if not len(going):
            break
        rows = _filled(at)
        if len(rows) < len(moved):
            moved, state, fixed = _take((moved, state, fixed), rows)
            at = np.arange(len(going))
    return found


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows, as many as a power of two, the first of them repeated."""
    size = 1 << (len(rows) - 1).bit_length()
    return np.r_[rows, np.full(size - len(rows), rows[0])]


def _take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda v: v[rows] if jnp.ndim(v) else v, tree)  # the count of steps is one


def _losses(plan: Descent, params: Params, x: Any, labels: Any) -> Any:
    """(n,): the least loss to any of the labels."""
    outputs = _check_model.apply_fn_of(plan.model)(unpack(params), x)
    return jnp.min(jnp.stack([plan.task.losses(outputs, y) for y in labels]), 0)


def _objective(plan: Descent, params: Params, fixed: Fixed, b: Any) -> Any:
    """The sum over points, of which each sees its own part."""
    moved, how = b - fixed.start, plan.how
    total = jnp.sum(_losses(plan, params, b, fixed.labels))
    total += how.deviation * jnp.sum(moved**2) / (b.size // len(b))
    if how.roughness and b.ndim > 2:
        total += how.roughness * sum(
            jnp.sum(jnp.abs(jnp.diff(moved, axis=axis))) for axis in range(1, b.ndim - 1)
        )
    return total


def _steps(plan: Descent, count: int, params: Params, fixed: Fixed, b: Any, state: Any) -> Any:
    import optax

    optimizer = plan.how.optimizer()

    def step(_: Any, carry: Any) -> Any:
        b, state = carry
        gradient = jax.grad(lambda b: _objective(plan, params, fixed, b))(b)
        update, state = optimizer.update(gradient, state, b)
        return optax.apply_updates(b, project(update, fixed.normal)), state

    return step(0, (b, state)) if count == 1 else jax.lax.fori_loop(0, count, step, (b, state))


def project(update: Any, normal: Any) -> Any:
    """Rows of an update without their part along unit vectors."""
    axes = tuple(range(1, update.ndim))
    along = jnp.sum(update * normal, axes, keepdims=True)
    return update - along * normal


__all__ = ["Bypass", "Descent", "Fixed", "lead_around", "project"]
