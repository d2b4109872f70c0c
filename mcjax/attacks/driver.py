"""A data set attacked: in batches whose images advance together, and leave once they are done."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check_model
from .._compiled import compiled, remembered
from .._inputs import type_of
from .._loops import slow_in_loops
from .._static import unpack
from .._survivors import advance, batches
from .._types import ApplyFn, Params
from ..network import Network
from ..tasks import Task
from .aim import Aim
from .attacked import BROKEN, FAILED, SUCCEEDED, WRONG, Attacked


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the steps are compiled for; `attack`: an `Attack`."""

    attack: Any
    model: ApplyFn | Network
    task: Task
    targeted: bool

    def aim(self, params: Params, x: Any, labels: Any) -> Aim:
        apply = _check_model.apply_fn_of(self.model)
        return self.attack.aim(apply, unpack(params), x, labels, self.task, not self.targeted)


def attacked(
    plan: Plan, params: Params, x: Any, y: np.ndarray, targets: np.ndarray | None,
    key: jax.Array, chunk: int,
) -> Attacked:  # fmt: skip
    """Inputs attacked where they are classified right, and the classes at what they have become."""
    before, finite = _predicted(plan, params, x, chunk)
    rows = np.flatnonzero((before == y) & finite)
    moved = np.array(x)
    labels = y if targets is None else targets
    for part, every in batches(len(rows), chunk):
        some = rows[part]
        moved[some] = _together(plan, params, moved, labels, some, every, key)
    after = before.copy()
    if len(rows):
        after[rows], finite[rows] = _predicted(plan, params, moved[rows], chunk)
    succeeds = after != y if targets is None else after == targets
    status = np.where(succeeds, SUCCEEDED, FAILED)
    status = np.where(before == y, status, WRONG)
    status = np.where(finite, status, BROKEN)
    return Attacked(moved, x, y, targets, status, before, after, plan.attack)


def _predicted(plan: Plan, params: Params, x: Any, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) classes, and whether all outputs are finite."""
    found = []
    for part, rows in batches(len(x), chunk):
        some = jnp.asarray(np.asarray(x[part])[rows])
        count = part.stop - part.start
        both = compiled(_classes, plan.model, plan.task)(params, some)
        found.append([np.asarray(v)[:count] for v in both])
    classes, finite = (np.concatenate(v) for v in zip(*found, strict=True))
    return classes, finite


def _classes(
    model: ApplyFn | Network, task: Task, params: Params, x: Any
) -> tuple[jax.Array, jax.Array]:
    logits = task.outputs(_check_model.apply_fn_of(model)(unpack(params), x))
    return jnp.argmax(logits, 1), jnp.isfinite(logits).all(1)


def _together(
    plan: Plan, params: Params, x: np.ndarray, labels: np.ndarray, numbers: np.ndarray,
    every: np.ndarray, key: jax.Array,
) -> np.ndarray:  # fmt: skip
    """Some of the inputs, attacked; `numbers`: of the examples; `every`: rows of their batch."""
    attack, found, rows = plan.attack, x[numbers], numbers[every]
    given = jnp.asarray(x[rows]), jnp.asarray(labels[rows])
    state = compiled(_start, plan)(params, given, key, jnp.asarray(rows))
    leaves, structure = jax.tree.flatten((params, given, state))
    in_loop = remembered(_runs_in_loops, plan, structure, tuple(map(type_of, leaves)))

    def step(state: Any, count: int) -> Any:
        given, state = state
        for _ in range(1 if in_loop else count):
            state = compiled(_advance, plan, count if in_loop else 1)(params, given, state)
        return given, state

    def look(going: np.ndarray, at: np.ndarray, state: Any) -> np.ndarray:
        inputs, done = compiled(_look, plan, x.dtype)(state[1])
        found[going] = np.asarray(inputs)[at]
        return np.ones(len(at), bool) if done is None else ~np.asarray(done)[at]

    early = attack.done(state) is not None
    advance(
        (given, state), len(found), step, look, steps=attack.length,
        block=attack.block if early else attack.length,
    )  # fmt: skip
    return found


def _runs_in_loops(plan: Plan, structure: Any, types: tuple[jax.ShapeDtypeStruct, ...]) -> bool:
    arguments = jax.tree.unflatten(structure, types)
    return not slow_in_loops(partial(_advance, plan, 1), *arguments)


def _start(plan: Plan, params: Params, given: Any, key: jax.Array, numbers: jax.Array) -> Any:
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(numbers)
    return plan.attack.init(plan.aim(params, *given), keys)


def _advance(plan: Plan, count: int, params: Params, given: Any, state: Any) -> Any:
    aim = plan.aim(params, *given)
    if count == 1:
        return plan.attack.advance(aim, state)
    return jax.lax.fori_loop(0, count, lambda _, state: plan.attack.advance(aim, state), state)


def _look(plan: Plan, dtype: Any, state: Any) -> tuple[jax.Array, jax.Array | None]:
    return plan.attack.inputs(plan.attack.moved(state), dtype), plan.attack.done(state)


__all__ = ["Plan", "attacked"]
