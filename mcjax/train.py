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

from ._tree import stack, unstack
from ._types import ApplyFn, Params
from .network.model import Model
from .protocol import Protocol, cross_entropy_of

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def train(
    apply_fn: ApplyFn,
    init: Callable[[jax.Array], Params],
    data: tuple[np.ndarray, np.ndarray],
    seeds: Sequence[int],
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    *,
    augment: Augment | None = None,
    directory: str | Path | None = None,
    progress: Callable[[int, np.ndarray], None] | None = None,
) -> list[Params]:
    """Networks trained from different seeds, all in one vmapped scan an epoch.

    (Convolutional networks on a CPU: one after the other, step by step, which is faster there.)

    Initialisation and order of the data come from the seed alone, so a network does not depend
    on which others are trained beside it. With a `directory` every epoch is checkpointed
    (orbax); a call with the same arguments goes on after the last one and gives, bit for bit,
    what an uninterrupted one gives.

    **Arguments:**
    - `init`: key → parameters
    - `data`: (x, y), x batched on axis 0
    - `seeds`: one network each
    - `augment`: (key, batch of x) → batch of x, as `mcjax.data.crop_and_flip`
    - `progress`: called after each epoch with (epoch, mean loss of each network)

    **Returns:** a list of parameters, one for each seed.

    **Raises:** `ValueError` if the data are fewer than one batch, or `directory` holds the
    checkpoints of another run.

        >>> import numpy as np
        >>> from mcjax.models import MLP
        >>> from mcjax.train import Protocol, train
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = train(model.apply, lambda key: model.init(key, x), (x, y), seeds=(0, 1),
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
    checkpoints = None if directory is None else _Checkpoints(directory, seeds, protocol)
    first = 0
    if checkpoints is not None:
        first, state = checkpoints.restore(state)
    for epoch in range(first, protocol.epochs):
        state, losses = _epoch(apply_fn, protocol, augment, state, keys, epoch, x, y)
        if checkpoints is not None:
            checkpoints.save(epoch + 1, state)
        if progress is not None:
            progress(epoch, np.asarray(losses))
    if checkpoints is not None:
        checkpoints.close()
    return unstack(state[0], len(seeds))


def _epoch(apply_fn: ApplyFn, protocol: Protocol, augment, state: Any, keys, epoch, x, y):
    """One epoch of all networks: (state, mean loss of each)."""
    if not _slow_in_loops(apply_fn, state[0], x):
        return _scanned(apply_fn, protocol, augment, state, keys, epoch, x, y)
    states, losses = unstack(state, len(keys)), []
    for i, key in enumerate(keys):
        total = jnp.zeros(())
        for number, indices in enumerate(_order(protocol, key, epoch, len(x))):
            states[i], loss = _one_step(
                apply_fn, protocol, augment, states[i], number, key, epoch, indices, x, y
            )
            total = total + loss
        losses.append(total / (number + 1))
    return stack(states), jnp.stack(losses)


def _slow_in_loops(apply_fn: ApplyFn, params: Any, x: Any) -> bool:
    """Whether to step from the host, network by network: convolutions on a CPU.

    There XLA's gradients of convolutions are some 16 times slower inside a loop or a vmap.
    """
    if jax.default_backend() != "cpu":
        return False
    one = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), params)
    program = Model.of(apply_fn, one, jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype)).program
    return any(e.name == "conv_general_dilated" for e in program.all_equations())


@partial(jax.jit, static_argnames=("protocol", "n"))
def _order(protocol: Protocol, key, epoch, n: int) -> jax.Array:
    """(steps, batch) indices of an epoch's batches."""
    steps = n // protocol.batch
    shuffled = jax.random.permutation(jax.random.fold_in(key, epoch + 1), n)
    return shuffled[: steps * protocol.batch].reshape(steps, protocol.batch)


def _step(apply_fn, protocol: Protocol, augment, state, number, key, epoch, indices, x, y):
    """One step of SGD of one network."""
    optimizer = protocol.optimizer(len(x) // protocol.batch * protocol.epochs)
    key = jax.random.fold_in(jax.random.fold_in(key, epoch + 1), number + 1)
    batch = x[indices] if augment is None else augment(key, x[indices])
    params, opt_state = state
    loss, gradient = jax.value_and_grad(cross_entropy_of(apply_fn))(params, (batch, y[indices]))
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss


_STATIC = ("apply_fn", "protocol", "augment")
_one_step = partial(jax.jit, static_argnames=_STATIC, donate_argnames=("state",))(_step)


@partial(jax.jit, static_argnames=_STATIC, donate_argnames=("state",))
def _scanned(apply_fn, protocol: Protocol, augment, state: Any, keys, epoch, x, y):
    def steps_of_all(state, batch):
        number, indices = batch

        def one(state, key, indices):
            return _step(apply_fn, protocol, augment, state, number, key, epoch, indices, x, y)

        return jax.vmap(one)(state, keys, indices)

    orders = jnp.stack([_order(protocol, key, epoch, len(x)) for key in keys], 1)
    state, losses = jax.lax.scan(steps_of_all, state, (jnp.arange(len(orders)), orders))
    return state, jnp.mean(losses, 0)


class _Checkpoints:
    """The state after each epoch, by orbax; only the last is kept."""

    def __init__(self, directory: str | Path, seeds: Sequence[int], protocol: Protocol) -> None:
        import orbax.checkpoint as ocp

        self.ocp = ocp
        self.run = {"seeds": list(seeds), **dataclasses.asdict(protocol)}
        folder = Path(directory).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=1)
        self.manager = ocp.CheckpointManager(folder, options=options)

    def restore(self, state: Any) -> tuple[int, Any]:
        epoch = self.manager.latest_step()
        if epoch is None:
            return 0, state
        restored = self.manager.restore(
            epoch,
            args=self.ocp.args.Composite(
                state=self.ocp.args.StandardRestore(state), run=self.ocp.args.JsonRestore()
            ),
        )
        if restored["run"] != self.run:
            raise ValueError(
                f"the checkpoints in {self.manager.directory} are of another run: "
                f"{restored['run']}, not {self.run}; choose another folder"
            )
        return epoch, restored["state"]

    def save(self, epoch: int, state: Any) -> None:
        args = self.ocp.args
        self.manager.save(
            epoch,
            args=args.Composite(state=args.StandardSave(state), run=args.JsonSave(self.run)),
        )
        self.manager.wait_until_finished()  # the next epoch reuses the state's memory

    def close(self) -> None:
        self.manager.close()
