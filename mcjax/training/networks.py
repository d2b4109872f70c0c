"""Training of end points: several seeds at once, resumable to the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._compiled import compiled_for
from .._inputs import per_example
from .._loops import slow_in_loops
from .._static import pack, unpack
from .._tree import unstack
from .._types import ApplyFn, Params
from ..evaluation import estimate_batch_norm
from ..network.batch_norm import statistics_of
from ..tasks import CLASSIFICATION, Task
from . import identity
from .data import Data, Layout
from .driver import Trainer, run, warn_unless_finite
from .loss import TrainingLoss
from .protocol import Protocol
from .store import Store

# Inputs that statistics of batch normalisation are estimated from.
_SAMPLE = 10_000


@_check.on_host
def train_networks(
    apply_fn: ApplyFn,
    init: Callable[[jax.Array], Params],
    data: tuple[Any, Any],
    seeds: Sequence[int],
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    *,
    task: Task = CLASSIFICATION,
    directory: str | Path | None = None,
    progress: Callable[[int, np.ndarray], None] | None = None,
) -> list[Params]:
    """Networks trained from different seeds, all side by side in one loop of XLA's.

    (Convolutional networks on a CPU: one after the other, step by step, which is faster there.)

    Initialisation and order of the data come from the seed alone, so a network does not depend
    on which others are trained beside it. Batch normalisation uses the statistics of each batch;
    at the end they are estimated from the training inputs (10,000 of them).

    **Arguments:**
    - `apply_fn`: (params, x) → outputs
    - `init`: key → parameters
    - `data`: (x, y), batched on axis 0, arrays or memory maps; a block of them at a time is
      gathered, in the epoch's order
    - `seeds`: one network each
    - `protocol`: epochs, batch, schedule, momentum, weight decay, augmentation, attack
    - `task`: whose loss is minimised
    - `directory`: keep the state after each epoch; the same call goes on after the last one and
      gives, bit for bit, what an uninterrupted one gives. So does one with more epochs, unless the
      rate falls over all of them (see `Protocol`)
    - `progress`: called after each epoch with (epoch, mean loss of each network)

    **Returns:** a list of parameters, one for each seed.

    **Raises:** `ValueError` if the data are fewer than one batch, outputs or labels are not the
    task's, `directory` holds another run (other data, model, task, protocol, …: the message says
    what differs) or cannot be written to.

        >>> import numpy as np
        >>> from mcjax.models import MLP
        >>> from mcjax.training import Protocol, train_networks
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = train_networks(model.apply, lambda key: model.init(key, x), (x, y), seeds=(0, 1),
        ...                       protocol=Protocol(epochs=1, batch=4))
        >>> a["params"]["Dense_0"]["kernel"].shape
        (8, 4)
    """
    if not callable(init):
        raise ValueError(
            f"init must be a function key → parameters, as lambda key: model.init(key, x[:1]); "
            f"got a {type(init).__name__}"
        )
    if not isinstance(seeds, Iterable):
        raise ValueError(f"seeds must be a sequence, one network each, as (0, 1); got {seeds!r}")
    whole, seeds = Data(data), [int(s) for s in seeds]
    if not seeds:
        raise ValueError("seeds is empty: there is no network to train")
    steps = whole.steps(protocol.batch)
    keys = jnp.stack([jax.random.key(s) for s in seeds])
    params = _initial(init, keys)
    first = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), params)
    whole.check(task, apply_fn, first, protocol.attack)
    store = None
    if directory is not None:
        store = Store(directory, {
            "what": "networks",
            **identity.of_training(apply_fn, first, whole.x, whole.y, task, protocol),
            "init": identity.of_params(params), "seeds": seeds,
        })  # fmt: skip
    loss = TrainingLoss.of(apply_fn, task, protocol)
    batch = (*whole.example(protocol.batch), keys[0])
    trainer = Trainer(
        NetworkObjective(loss, whole.layout), protocol.optimizer(steps * protocol.epochs),
        several=True, stepwise=slow_in_loops(loss, first, batch),
    )  # fmt: skip

    def blocks(epoch: int) -> Iterator[Any]:
        order = np.asarray(_order(keys, epoch, whole.n, protocol.batch))
        return whole.blocks(order, lambda numbers: _step_keys(keys, epoch, numbers))

    state, losses = run(
        trainer, trainer.init(params), protocol.epochs, blocks, given=whole.shared, store=store,
        progress=progress and (lambda epoch, found: progress(epoch, found.mean(0))),
    )  # fmt: skip
    warn_unless_finite(losses.reshape(protocol.epochs, steps, -1).mean(1), "epoch")
    networks = unstack(state.trained, len(seeds))
    if statistics_of(apply_fn, networks[0], whole.example(1)[0]):
        sample = per_example(lambda v: v[:_SAMPLE], whole.x)
        networks = [estimate_batch_norm(apply_fn, n, sample) for n in networks]
    return [unpack(n) for n in networks]


@dataclasses.dataclass(frozen=True)
class NetworkObjective:
    """The training loss on batches of a data set; given is what all examples share."""

    loss: TrainingLoss
    layout: Layout

    def __call__(self, params: Params, batch: Any, draw: None, shared: Any) -> jax.Array:
        rows, key = batch
        return self.loss(params, (*self.layout.join(rows, shared), key))


@compiled_for("init", once=True)
def _initial(init: Callable, keys: jax.Array) -> Params:
    return jax.vmap(lambda key: pack(init(key), "init(key)"))(keys)


@partial(jax.jit, static_argnames=("n", "batch"))
def _order(keys: jax.Array, epoch: Any, n: int, batch: int) -> jax.Array:
    """(steps, networks, batch) numbers of the examples of an epoch, in random order."""
    of_epoch = [jax.random.fold_in(key, epoch + 1) for key in keys]
    shuffled = jnp.stack([jax.random.permutation(key, n) for key in of_epoch])
    steps = n // batch
    return shuffled[:, : steps * batch].reshape(-1, steps, batch).swapaxes(0, 1)


@jax.jit
def _step_keys(keys: jax.Array, epoch: Any, numbers: jax.Array) -> jax.Array:
    """(steps, networks) keys of steps of an epoch."""

    def of(number: Any, key: Any) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, epoch + 1), number + 1)

    return jax.vmap(lambda number: jax.vmap(lambda key: of(number, key))(keys))(numbers)
