"""Training of end points: several seeds at once, resumable to the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._loops import slow_in_loops
from .._tree import stack, unstack
from .._types import ApplyFn, Params
from ..attacks import PGD
from ..evaluation import estimate_batch_norm
from ..network.batch_norm import statistics_of
from .protocol import Augment, Protocol, training_loss
from .state import TrainingState


def train_networks(
    apply_fn: ApplyFn,
    init: Callable[[jax.Array], Params],
    data: tuple[np.ndarray, np.ndarray],
    seeds: Sequence[int],
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    *,
    augment: Augment | None = None,
    attack: PGD | None = None,
    directory: str | Path | None = None,
    progress: Callable[[int, np.ndarray], None] | None = None,
) -> list[Params]:
    """Networks trained from different seeds, all in one vmapped scan an epoch.

    (Convolutional networks on a CPU: one after the other, step by step, which is faster there.)

    Initialisation and order of the data come from the seed alone, so a network does not depend
    on which others are trained beside it. With a `directory` every epoch is checkpointed
    (orbax); a call with the same arguments goes on after the last one and gives, bit for bit,
    what an uninterrupted one gives. Batch normalisation uses the statistics of each batch; at the
    end they are estimated from the training inputs (10,000 of them).

    **Arguments:**
    - `init`: key → parameters
    - `data`: (x, y), x batched on axis 0
    - `seeds`: one network each
    - `augment`: (key, batch of x) → batch of x, as `mcjax.data.crop_and_flip`
    - `attack`: adversarial training, each batch attacked (after `augment`)
    - `progress`: called after each epoch with (epoch, mean loss of each network)

    **Returns:** a list of parameters, one for each seed.

    **Raises:** `ValueError` if the data are fewer than one batch, or `directory` holds the
    checkpoints of another run.

        >>> import numpy as np
        >>> from mcjax.models import MLP
        >>> from mcjax.training import Protocol, train_networks
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = train_networks(model.apply, lambda key: model.init(key, x), (x, y), seeds=(0, 1),
        ...              protocol=Protocol(epochs=1, batch=4))
        >>> a["params"]["Dense_0"]["kernel"].shape
        (8, 4)
    """
    x, y = map(jnp.asarray, data)
    steps = len(x) // protocol.batch
    if not steps:
        raise ValueError(f"data: {len(x)} examples are fewer than one batch of {protocol.batch}")
    keys = jnp.stack([jax.random.key(s) for s in seeds])
    optimizer = protocol.optimizer(steps * protocol.epochs)
    params = jax.jit(jax.vmap(init))(keys)
    state = (params, jax.vmap(optimizer.init)(params))
    run = {"seeds": list(seeds), "attack": repr(attack), **dataclasses.asdict(protocol)}
    checkpoints = None if directory is None else TrainingState(directory, run)
    loss_fn = training_loss(apply_fn, augment, attack)
    stepwise = slow_in_loops(loss_fn, unstack(params, 1)[0], (x[:2], y[:2], keys[0]))
    first = 0
    if checkpoints is not None:
        first, state = checkpoints.restore(state)
    for epoch in range(first, protocol.epochs):
        state, losses = _epoch(loss_fn, protocol, stepwise, state, keys, epoch, x, y)
        if checkpoints is not None:
            checkpoints.save(epoch + 1, state)
        if progress is not None:
            progress(epoch, np.asarray(losses))
    if checkpoints is not None:
        checkpoints.close()
    networks = unstack(state[0], len(seeds))
    if statistics_of(apply_fn, networks[0], x[:2]):
        networks = [estimate_batch_norm(apply_fn, n, x[:10_000]) for n in networks]
    return networks


def _epoch(loss_fn, protocol: Protocol, stepwise, state: Any, keys, epoch, x, y):
    """One epoch of all networks: (state, mean loss of each)."""
    if not stepwise:
        return _scanned(loss_fn, protocol, state, keys, epoch, x, y)
    states, losses = unstack(state, len(keys)), []
    for i, key in enumerate(keys):
        total = jnp.zeros(())
        for number, indices in enumerate(_order(protocol, key, epoch, len(x))):
            states[i], loss = _one_step(
                loss_fn, protocol, states[i], number, key, epoch, indices, x, y
            )
            total = total + loss
        losses.append(total / (number + 1))
    return stack(states), jnp.stack(losses)


@partial(jax.jit, static_argnames=("protocol", "n"))
def _order(protocol: Protocol, key, epoch, n: int) -> jax.Array:
    """(steps, batch) indices of an epoch's batches."""
    steps = n // protocol.batch
    shuffled = jax.random.permutation(jax.random.fold_in(key, epoch + 1), n)
    return shuffled[: steps * protocol.batch].reshape(steps, protocol.batch)


def _step(loss_fn, protocol: Protocol, state, number, key, epoch, indices, x, y):
    """One step of SGD of one network."""
    optimizer = protocol.optimizer(len(x) // protocol.batch * protocol.epochs)
    key = jax.random.fold_in(jax.random.fold_in(key, epoch + 1), number + 1)
    params, opt_state = state
    batch = (x[indices], y[indices], key)
    loss, gradient = jax.value_and_grad(loss_fn)(params, batch)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss


_STATIC = ("loss_fn", "protocol")
_one_step = partial(jax.jit, static_argnames=_STATIC, donate_argnames=("state",))(_step)


@partial(jax.jit, static_argnames=_STATIC, donate_argnames=("state",))
def _scanned(loss_fn, protocol: Protocol, state: Any, keys, epoch, x, y):
    def steps_of_all(state, batch):
        number, indices = batch

        def one(state, key, indices):
            return _step(loss_fn, protocol, state, number, key, epoch, indices, x, y)

        return jax.vmap(one)(state, keys, indices)

    orders = jnp.stack([_order(protocol, key, epoch, len(x)) for key in keys], 1)
    state, losses = jax.lax.scan(steps_of_all, state, (jnp.arange(len(orders)), orders))
    return state, jnp.mean(losses, 0)
