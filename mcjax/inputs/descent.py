"""Inputs that move to lower loss, many at once, free or inside hyperplanes (vrabel2024, App. A)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled, remembered
from .._inputs import type_of
from .._loops import slow_in_loops
from .._static import unpack
from .._survivors import advance, batches
from .._tree import at_least_single
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
        try:
            fits = math.isfinite(value) and (value > 0 or (penalty and value == 0))
        except TypeError:  # no number, or one that is being traced
            fits = False
        if not fits:
            kind = "≥ 0" if penalty else "positive"
            raise ValueError(f"{name} must be {kind} and finite, got {value!r}")
    object.__setattr__(how, "bounds", as_bounds(how.bounds))


@dataclasses.dataclass(frozen=True)
class Descent:
    """What is lowered, and how.

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

    @property
    def program(self) -> Program:
        return Program(
            self.model, self.task, self.objective, self.transform, self.how.bounds,
            rough=bool(self.how.roughness),
        )  # fmt: skip

    @property
    def weights(self) -> Weights:
        return Weights(self.how.learning_rate, self.how.deviation, self.how.roughness)


@dataclasses.dataclass(frozen=True)
class Program:
    """What the steps are compiled for: the same for other weights, numbers of steps and δ."""

    model: ApplyFn | Network
    task: Task
    objective: Callable[[Any, Any], Any] | None
    transform: Callable[[Any, jax.Array], Any] | None
    bounds: Bounds | None
    rough: bool  # without its penalty a step is cheaper


class Weights(NamedTuple):
    """The numbers in the steps."""

    learning_rate: Any
    deviation: Any
    roughness: Any


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
    set aside. When a point stops depends on its own loss only, not on who is beside it.
    """
    found = np.array(fixed.start)
    for part, rows in batches(len(found), plan.chunk):
        found[part] = _together(plan, params, jax.tree.map(lambda v, p=part: v[p], fixed), rows)
    return found


def _together(plan: Descent, params: Params, fixed: Fixed, rows: np.ndarray) -> np.ndarray:
    found, below = np.array(fixed.start), np.asarray(fixed.below)
    fixed = jax.tree.map(lambda v: jnp.asarray(v[rows]), fixed)
    moved, program, weights = fixed.start, plan.program, plan.weights
    leaves, structure = jax.tree.flatten((params, weights, fixed, moved))
    in_loop = remembered(_runs_in_loops, program, structure, tuple(map(type_of, leaves)))

    def step(state: Any, count: int) -> Any:
        fixed, moved, of_adam = state
        steps = (
            compiled(_steps, program, count) if in_loop else partial(_one_by_one, program, count)
        )
        return fixed, *steps(params, weights, fixed, moved, of_adam)

    def look(going: np.ndarray, at: np.ndarray, state: Any) -> np.ndarray:
        fixed, moved, _ = state
        found[going] = np.asarray(moved)[at]
        losses = compiled(_losses, plan.model, plan.task)(params, moved, fixed.labels)
        return ~(np.asarray(losses)[at] <= below[going])

    state = fixed, moved, _adam(weights).init(moved.astype(at_least_single(moved.dtype)))
    advance(state, len(found), step, look, steps=plan.how.steps, block=plan.how.block)
    return found


def _runs_in_loops(program: Program, structure: Any, types: tuple[Any, ...]) -> bool:
    params, _, fixed, moved = jax.tree.unflatten(structure, types)
    return not slow_in_loops(partial(_slope, program), params, fixed, moved, 0)


def losses_of(
    model: ApplyFn | Network, task: Task, params: Params, x: Any, labels: Any, chunk: int
) -> np.ndarray:
    """(n,): the least loss of each input to any of its labels."""
    losses, found = compiled(_losses, model, task), []
    for part, rows in batches(len(x), chunk):
        some = jax.tree.map(lambda v, p=part, r=rows: jnp.asarray(np.asarray(v[p])[r]), (x, labels))
        found.append(np.asarray(losses(params, *some))[: part.stop - part.start])
    return np.concatenate(found)


def _adam(weights: Weights) -> Any:
    import optax

    return optax.adam(weights.learning_rate)


def _losses(model: ApplyFn | Network, task: Task, params: Params, x: Any, labels: Any) -> Any:
    """(n,): the least loss to any of the labels."""
    return _least(model, task.losses, params, x, labels)


def _least(model: ApplyFn | Network, of: Any, params: Params, x: Any, labels: Any) -> Any:
    outputs = _check_model.apply_fn_of(model)(unpack(params), x)
    return jnp.min(jnp.stack([of(outputs, y) for y in labels]), 0)


def _slope(program: Program, params: Params, fixed: Fixed, b: Any, count: Any) -> Any:
    """Of the sum over points of what is lowered, of which each sees its own, after some steps."""
    lowered = program.objective or program.task.losses

    def total(b: Any) -> Any:
        if program.transform is not None:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, count))(fixed.keys)
            b = jax.vmap(program.transform)(b, keys)
        return jnp.sum(_least(program.model, lowered, params, b, fixed.labels))

    return jax.grad(total)(b)


def _penalties(program: Program, weights: Weights, fixed: Fixed, b: Any) -> Any:
    """The sum over points of what is paid for moving."""
    moved = b - fixed.start
    total = weights.deviation * jnp.sum(moved**2) / (b.size // len(b))
    if program.rough and b.ndim > 2:
        apart = [jnp.diff(moved, axis=axis) for axis in range(1, b.ndim - 1)]
        total += weights.roughness * sum(jnp.sum(_huber(d, weights.learning_rate)) for d in apart)
    return total


def _huber(x: Any, width: Any) -> Any:
    """|x| − width / 2, and x² / (2 width) where |x| is below the width.

    The slope of |x| is ±1 by how a sum was rounded where x is 0, which differences of neighbours
    are again and again, as Adam's first steps are all of one length.
    """
    size = jnp.abs(x)
    near = jnp.minimum(size, width)
    return near * ((size - near / 2) / width)


def _update(
    program: Program, weights: Weights, fixed: Fixed, b: Any, slope: Any, state: Any
) -> Any:
    """Adam's (update, state), penalties counted in."""
    slope += jax.grad(partial(_penalties, program, weights, fixed))(b)
    # Squares of slopes vanish in half precision, and so does what is added to their roots.
    slope = slope.astype(at_least_single(b.dtype))
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its integer of steps
        return _adam(weights).update(slope, state, b)


def _after(program: Program, fixed: Fixed, b: Any, update: Any) -> Any:
    """The points after an update, where they may be."""
    import optax

    if fixed.normal is not None:
        update = project(update, fixed.normal)
    return inside(optax.apply_updates(b, update), program.bounds, fixed.start, fixed.normal)


def _steps(
    program: Program, count: int, params: Params, weights: Weights, fixed: Fixed, b: Any, state: Any
) -> Any:
    def step(_: Any, carry: Any) -> Any:
        b, state = carry
        slope = _slope(program, params, fixed, b, _taken(state))
        update, state = _update(program, weights, fixed, b, slope, state)
        return _after(program, fixed, b, update), state

    return jax.lax.fori_loop(0, count, step, (b, state))


def _one_by_one(
    program: Program, count: int, params: Params, weights: Weights, fixed: Fixed, b: Any, state: Any
) -> Any:
    """The same from the host, in three programs: XLA makes loops of reductions inside element-wise
    operations of the whole on a CPU, and they take five times as long as one after the other."""
    slope, update, after = (compiled(part, program) for part in (_slope, _update, _after))
    for _ in range(count):
        change, later = update(weights, fixed, b, slope(params, fixed, b, _taken(state)), state)
        b, state = after(fixed, b, change), later
    return b, state


def _taken(state: Any) -> Any:
    import optax

    return optax.tree_utils.tree_get(state, "count")


def project(update: Any, normal: Any) -> Any:
    """Rows of an update without their part along unit vectors."""
    axes = tuple(range(1, update.ndim))
    along = jnp.sum(update * normal, axes, keepdims=True)
    return update - along * normal


__all__ = ["Descent", "Fixed", "Steps", "check_steps", "descend", "losses_of", "project"]
