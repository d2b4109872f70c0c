"""The one loop that trains: networks, curves, flows, permutations.

A `Trainer` says what a step is, as a pure function of state and batch; `run` takes the steps,
part after part (an epoch, a block of steps), and keeps the state after each part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._compiled import compiled_for
from .._lazy import lazily
from .._tree import is_inexact, unstack
from .store import Store

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")


class State(NamedTuple):
    """What a step changes.

    - `trained`: the pytree that is trained
    - `optimizer`: its optimiser's state
    - `key`: of the random draws inside steps, or None
    """

    trained: Any
    optimizer: Any
    key: Any = None


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Steps along the gradient of an objective; hashable, so compiled once for equal ones.

    - `objective`: (trained, batch, key, given) → scalar; equal objectives must do the same
    - `optimizer`: any optax transformation
    - `several`: whether states, batches and losses have an axis of things trained side by side
      (after that of the steps), which share only what is given
    - `stepwise`: take steps one by one from the host (see `slow_in_loops`), not in a loop of XLA's

        >>> import jax.numpy as jnp, optax
        >>> from mcjax.training.driver import Trainer
        >>> trainer = Trainer(lambda p, batch, key, given: (p - batch) ** 2, optax.sgd(0.5))
        >>> state, loss = trainer.step(trainer.init(jnp.zeros(())), jnp.ones(()))
        >>> float(loss), float(state.trained)
        (1.0, 1.0)
    """

    objective: Callable[[Any, Any, Any, Any], jax.Array]
    optimizer: optax.GradientTransformation
    several: bool = False
    stepwise: bool = False

    def init(self, trained: Any, key: Any = None) -> State:
        """The state before the first step; all copies, as steps use their state's memory again."""
        begin = jax.vmap(self.optimizer.init) if self.several else self.optimizer.init
        return copied(State(trained, begin(_floats(trained)), key))

    def step(self, state: State, batch: Any, given: Any = None) -> tuple[State, jax.Array]:
        """(state, loss) after one step; what is not floating-point stays. Pure."""
        trained, optimizer, key = state
        draw = None
        if key is not None:
            key, draw = jax.random.split(key)

        def objective(floats: Any) -> jax.Array:
            return self.objective(_with_floats(floats, trained), batch, draw, given)

        floats = _floats(trained)
        loss, gradient = jax.value_and_grad(objective)(floats)
        updates, optimizer = self.optimizer.update(gradient, optimizer, floats)
        floats = optax.apply_updates(floats, updates)
        return State(_with_floats(floats, trained), optimizer, key), loss

    def advance(
        self, state: State, block: Any, count: int, given: Any = None
    ) -> tuple[State, jax.Array]:
        """(state, losses) after the first `count` batches of a block, whose leading axis is steps.

        The memory of the state given is used again. The losses after `count` mean nothing.
        """
        if self.several and self.stepwise:
            return _in_turn(self, state, block, count, given)
        advance = _one_by_one if self.stepwise else _looped
        return advance(self, state, block, count, given)


def copied(state: State) -> State:
    """A state of other memory."""

    def copy(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.copy(leaf)
        data = jnp.copy(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))

    return jax.tree.map(copy, state)


def _floats(tree: Any) -> Any:
    return jax.tree.map(lambda v: v if is_inexact(v) else None, tree)


def _with_floats(floats: Any, tree: Any) -> Any:
    return jax.tree.map(
        lambda new, old: old if new is None else new, floats, tree, is_leaf=lambda v: v is None
    )


@compiled_for("trainer", donate_argnames="state")
def _looped(trainer: Trainer, state: State, block: Any, count: Any, given: Any):
    step = jax.vmap(trainer.step, (0, 0, None)) if trainer.several else trainer.step
    steps = len(jax.tree.leaves(block)[0])
    side_by_side = (len(jax.tree.leaves(state)[0]),) if trainer.several else ()
    losses = jnp.zeros((steps, *side_by_side), jnp.result_type(float))

    def one(i, carry):
        state, losses = carry
        batch = jax.tree.map(lambda v: jax.lax.dynamic_index_in_dim(v, i, keepdims=False), block)
        state, loss = step(state, batch, given)
        return state, losses.at[i].set(loss.astype(losses.dtype))

    return jax.lax.fori_loop(0, count, one, (state, losses))


@compiled_for("trainer", donate_argnames="state")
def _single(trainer: Trainer, state: State, batch: Any, given: Any):
    return trainer.step(state, batch, given)


def _in_turn(trainer: Trainer, state: State, block: Any, count: int, given: Any):
    """Several step by step: one after the other."""
    one = dataclasses.replace(trainer, several=False)
    states = unstack(state, len(jax.tree.leaves(state)[0]))
    found = [
        one.advance(own, jax.tree.map(lambda v, i=i: v[:, i], block), count, given)
        for i, own in enumerate(states)
    ]
    states, losses = zip(*found, strict=True)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), jnp.stack(losses, 1)


def _one_by_one(trainer: Trainer, state: State, block: Any, count: int, given: Any):
    losses = []
    for i in range(count):
        batch = jax.tree.map(lambda v, i=i: v[i], block)
        state, loss = _single(trainer, state, batch, given)
        losses.append(loss)
    return state, jnp.stack(losses)


def run(
    trainer: Trainer,
    state: State,
    parts: int,
    blocks: Callable[[int], Iterable[tuple[Any, int]]],
    *,
    given: Any = None,
    renew: Callable[[int, State], Any] | None = None,
    keys: Callable[[int], Any] | None = None,
    store: Store | None = None,
    every: int = 1,
    progress: Callable[[int, np.ndarray], None] | None = None,
) -> tuple[State, np.ndarray]:
    """(state, losses of all steps) after `parts` parts of a run.

    An interruption (an exception in `progress`, Ctrl-C, a kill) at any moment leaves the last
    state that was kept; the same call goes on after it and gives, bit for bit, what an
    uninterrupted one gives.

    **Arguments:**
    - `blocks`: number of a part → (block of batches, how many of them count), one after the
      other; a function of the number alone
    - `given`: what the objective is given besides
    - `renew`: (number of a part, state before it) → what it is given in this part; it keeps no
      memory of the state, which steps use again
    - `keys`: number of a part → the state's key at its beginning
    - `store`: where the state is kept, after every so many parts and at the end
    - `progress`: called after each part with (its number, the losses of its steps)
    """
    with contextlib.nullcontext() if store is None else store:
        return _run(trainer, state, parts, blocks, given, renew, keys, store, every, progress)


def _run(
    trainer: Trainer, state: State, parts: int, blocks: Any, given: Any, renew: Any, keys: Any,
    store: Store | None, every: int, progress: Any,
) -> tuple[State, np.ndarray]:  # fmt: skip
    first, history = 0, []
    if store is not None:
        first, state, kept = store.restore(state, parts)
        history = [] if kept is None else [kept]
    for part in range(first, parts):
        if keys is not None:
            state = state._replace(key=keys(part))
        if renew is not None:
            given = renew(part, state)
        state, losses = _part(trainer, state, blocks(part), given)
        history.append(losses)
        if store is not None and ((part + 1) % every == 0 or part + 1 == parts):
            store.save(part + 1, state, np.concatenate(history))
        if progress is not None:
            progress(part, losses)
    return state, np.concatenate(history)


def _part(trainer: Trainer, state: State, blocks: Iterable[Any], given: Any) -> Any:
    """The steps of a part; at most two blocks are on their way to the device at a time."""
    history, last = [], None
    for block, count in blocks:
        state, losses = trainer.advance(state, block, count, given)
        if last is not None:
            history.append(np.asarray(last[0])[: last[1]])
        last = losses, count
    if last is not None:
        history.append(np.asarray(last[0])[: last[1]])
    return state, np.concatenate(history) if history else np.zeros(0, np.float32)


def warn_unless_finite(losses: np.ndarray, what: str, stacklevel: int = 4) -> bool:
    """Whether all losses are finite; else a warning that says from which `what` on."""
    bad = ~np.isfinite(losses).reshape(len(losses), -1).all(1)
    if bad.any():
        warnings.warn(
            f"the loss is not finite from {what} {int(np.argmax(bad))} on: lower the learning "
            "rate, or look for what overflows",
            stacklevel=stacklevel,
        )
    return not bad.any()
