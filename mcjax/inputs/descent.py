"""Inputs that move to lower loss, many at once, free or inside hyperplanes (vrabel2024, App. A)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled
from .._loops import slow_in_loops
from .._static import unpack
from .._survivors import advance, begun, most
from .._types import ApplyFn, Params
from ..network import Network
from ..tasks import Task
from .bounds import Bounds, as_bounds, inside


class Steps(Protocol):
    """What options say of the steps: see `Bypass` and `Synthesis`."""

    @property
    def steps(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def deviation(self) -> float: ...
    @property
    def roughness(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def delta(self) -> float: ...
    @property
    def bounds(self) -> Bounds | None: ...


def check_steps(how: Steps) -> None:
    """Raise unless every option is in its range; bounds become tuples, for `how` to be hashed."""
    for name in ("steps", "block"):
        _check.positive(getattr(how, name), name)
    for name in ("delta", "learning_rate", "deviation", "roughness"):
        value = getattr(how, name)
        penalty = name in ("deviation", "roughness")
        if not (math.isfinite(value) and (value > 0 or (penalty and value == 0))):
            kind = "≥ 0" if penalty else "positive"
            raise ValueError(f"{name} must be {kind} and finite, got {value}")
    object.__setattr__(how, "bounds", as_bounds(how.bounds))


@dataclasses.dataclass(frozen=True)
class Descent:
    """What the steps are compiled for.

    - `chunk`: points that move together, at most
    - `objective`: (outputs, labels) → (n,), lowered in place of the task's loss
    - `transform`: (input, key) → input, what the network is given in a step in place of an input
    """

    model: ApplyFn | Network
    task: Task
    how: Steps
    chunk: int
    objective: Callable[[Any, Any], Any] | None = None
    transform: Callable[[Any, jax.Array], Any] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed:
    """What does not move; rows of it.

    - `start`: the points; `labels`: theirs; `below`: the loss at which each stops
    - `normal`: unit vectors that the points must not move along, or None
    - `keys`: of the transform, or None
    """

    start: Any
    labels: Any
    below: Any
    normal: Any = None
    keys: Any = None


def descend(plan: Descent, params: Params, fixed: Fixed) -> np.ndarray:
    """Where each of the points (n, …) ends.

    Points advance together in blocks of steps. Between blocks those whose loss is low enough are
    set aside, and once the others fit into half the batch, a power of two, they alone go on. When a
    point stops depends on its own loss only, not on who is beside it.
    """
    n = len(fixed.start)
    found = np.array(fixed.start)
    size = most(plan.chunk)
    for first in range(0, n, size):
        part = slice(first, min(first + size, n))
        found[part] = _together(plan, params, jax.tree.map(lambda v, p=part: v[p], fixed))
    return found


def _together(plan: Descent, params: Params, fixed: Fixed) -> np.ndarray:
    found, below = np.array(fixed.start), np.asarray(fixed.below)
    rows = begun(len(found))
    fixed = jax.tree.map(lambda v: jnp.asarray(v)[rows], fixed)
    moved = fixed.start
    in_loop = not slow_in_loops(jax.grad(lambda b: _objective(plan, params, fixed, b)), moved)

    def step(state: Any, count: int) -> Any:
        fixed, moved, of_adam = state
        for _ in range(1 if in_loop else count):
            steps = compiled(_steps, plan, count if in_loop else 1)
            moved, of_adam = steps(params, fixed, moved, of_adam)
        return fixed, moved, of_adam

    def look(going: np.ndarray, at: np.ndarray, state: Any) -> np.ndarray:
        fixed, moved, _ = state
        found[going] = np.asarray(moved)[at]
        losses = np.asarray(compiled(_losses, plan)(params, moved, fixed.labels))[at]
        return ~(losses <= below[going])

    state = fixed, moved, _adam(plan).init(moved)
    advance(state, len(found), step, look, steps=plan.how.steps, block=plan.how.block)
    return found


def losses_of(plan: Descent, params: Params, x: np.ndarray, labels: Any) -> np.ndarray:
    """(n,): the least loss of each input to any of its labels."""
    parts = [slice(i, i + plan.chunk) for i in range(0, len(x), plan.chunk)]
    losses = compiled(_losses, plan)
    found = [losses(params, x[p], jax.tree.map(lambda v, p=p: v[p], labels)) for p in parts]
    return np.concatenate(found)


def _adam(plan: Descent) -> Any:
    import optax

    return optax.adam(plan.how.learning_rate)


def _losses(plan: Descent, params: Params, x: Any, labels: Any) -> Any:
    """(n,): the least loss to any of the labels."""
    return _least(plan, plan.task.losses, params, x, labels)


def _least(plan: Descent, of: Any, params: Params, x: Any, labels: Any) -> Any:
    outputs = _check_model.apply_fn_of(plan.model)(unpack(params), x)
    return jnp.min(jnp.stack([of(outputs, y) for y in labels]), 0)


def _objective(plan: Descent, params: Params, fixed: Fixed, b: Any, count: Any = 0) -> Any:
    """The sum over points, of which each sees its own part, after `count` steps."""
    moved, how = b - fixed.start, plan.how
    lowered = plan.objective or plan.task.losses
    given = b
    if plan.transform is not None:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, count))(fixed.keys)
        given = jax.vmap(plan.transform)(b, keys)
    total = jnp.sum(_least(plan, lowered, params, given, fixed.labels))
    total += how.deviation * jnp.sum(moved**2) / (b.size // len(b))
    if how.roughness and b.ndim > 2:
        total += how.roughness * sum(
            jnp.sum(jnp.abs(jnp.diff(moved, axis=axis))) for axis in range(1, b.ndim - 1)
        )
    return total


def _steps(plan: Descent, count: int, params: Params, fixed: Fixed, b: Any, state: Any) -> Any:
    import optax

    optimizer = _adam(plan)

    def step(_: Any, carry: Any) -> Any:
        b, state = carry
        taken = optax.tree_utils.tree_get(state, "count")
        gradient = jax.grad(lambda b: _objective(plan, params, fixed, b, taken))(b)
        update, state = optimizer.update(gradient, state, b)
        if fixed.normal is not None:
            update = project(update, fixed.normal)
        b = optax.apply_updates(b, update)
        return inside(b, plan.how.bounds, fixed.start, fixed.normal), state

    return step(0, (b, state)) if count == 1 else jax.lax.fori_loop(0, count, step, (b, state))


def project(update: Any, normal: Any) -> Any:
    """Rows of an update without their part along unit vectors."""
    axes = tuple(range(1, update.ndim))
    along = jnp.sum(update * normal, axes, keepdims=True)
    return update - along * normal


__all__ = ["Descent", "Fixed", "Steps", "check_steps", "descend", "losses_of", "project"]
