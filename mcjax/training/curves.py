"""Curves trained on data: Bézier curves, polygonal chains, any path with free points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import jax
import numpy as np
import optax

from .._types import ApplyFn
from ..attacks import PGD
from ..path import Path
from .fit import Fit, fit
from .protocol import Augment, Protocol, training_loss
from .state import TrainingState


def train_curve(
    path: Path,
    apply_fn: ApplyFn,
    data: tuple[Any, Any],
    protocol: Protocol,
    *,
    key: jax.Array,
    optimizer: optax.GradientTransformation | None = None,
    samples: int = 1,
    augment: Augment | None = None,
    attack: PGD | None = None,
    directory: str | FilePath | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Fit:
    """Train the free points of a path on a data set, epoch after epoch (tatro2020, Alg. 2).

    Minimises E_{t ~ U[0,1]} [ℓ(θ(t)) + λ/2 ‖θ(t)‖²] by SGD, λ the protocol's weight decay (on the
    network at t, as in Garipov et al. 2018). Batch normalisation uses the statistics of each
    batch; `mcjax.evaluate` estimates them again at every t.

    **Arguments:**
    - `path`: with free points, as `Bezier.between(a, b)`
    - `data`: (x, y), batched on axis 0; what does not fill a last batch sits out the epoch
    - `protocol`: epochs, batch, schedule, momentum, weight decay
    - `key`: order of the data, draws of t, augmentation and attacks
    - `optimizer`: in place of the protocol's SGD; the same object for the same steps compiles
      only once
    - `samples`: t's per step (see `mcjax.fit`)
    - `augment`: (key, batch of x) → batch of x
    - `attack`: robust training: at every t the batch is attacked (Sec. 5)
    - `directory`: keep the state after each epoch; the same call goes on after the last one and
      gives, bit for bit, what an uninterrupted one gives
    - `progress`: called after each epoch with (epoch, mean loss)

    **Returns:** a `Fit`: the path trained, and the mean loss of each epoch.

    **Raises:** `ValueError` if the data are fewer than one batch, or `directory` holds another
    run.

        >>> import jax, numpy as np, mcjax
        >>> from mcjax.models import MLP
        >>> from mcjax.training.protocol import Protocol
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
        >>> fitted = mcjax.training.train_curve(
        ...     mcjax.path.Bezier.between(a, b), model.apply, (x, y), Protocol(3, batch=4),
        ...     key=jax.random.key(0))
        >>> fitted.losses.shape
        (3,)
    """
    x, y = (np.asarray(v) for v in data)
    steps = len(x) // protocol.batch
    if not steps:
        raise ValueError(f"x: {len(x)} examples are fewer than one batch of {protocol.batch}")
    loss = training_loss(apply_fn, augment, attack, protocol.weight_decay)
    if optimizer is None:
        optimizer = dataclasses.replace(protocol, weight_decay=0.0).optimizer(
            steps * protocol.epochs
        )
    state = (path.free(), optimizer.init(path.free()), np.zeros(protocol.epochs, np.float32))
    run = {
        "key": np.asarray(jax.random.key_data(key)).tolist(), "samples": samples,
        "attack": repr(attack),
        **dataclasses.asdict(protocol),
    }  # fmt: skip
    kept = None if directory is None else TrainingState(directory, run)
    first, state = (0, state) if kept is None else kept.restore(state)
    for epoch in range(first, protocol.epochs):
        state = _epoch(path, loss, (x, y), protocol, optimizer, samples, key, epoch, state)
        if kept is not None:
            kept.save(epoch + 1, state)
        if progress is not None:
            progress(epoch, float(state[2][epoch]))
    if kept is not None:
        kept.close()
    free, opt_state, losses = state
    return Fit(path.with_free(free), losses, opt_state, bool(np.isfinite(losses).all()))


def _epoch(
    path: Path, loss: Any, data: Any, protocol: Protocol, optimizer: optax.GradientTransformation,
    samples: int, key: jax.Array, epoch: int, state: Any,
) -> Any:  # fmt: skip
    """(free points, optimizer state, losses) after one more epoch."""
    free, opt_state, losses = state
    order, draws, of_batches = jax.random.split(jax.random.fold_in(key, epoch), 3)
    fitted = fit(
        path.with_free(free), loss, _batches(data, protocol.batch, order, of_batches), optimizer,
        key=draws, samples=samples, state=(opt_state, draws),
    )  # fmt: skip
    losses = np.array(losses)
    losses[epoch] = fitted.losses.mean()
    return fitted.path.free(), fitted.state[0], losses


def _batches(data: Any, batch: int, order: jax.Array, key: jax.Array) -> Iterator[Any]:
    """(x, y, key) of an epoch, in random order."""
    x, y = data
    rng = np.random.default_rng(np.asarray(jax.random.key_data(order)).tolist())
    steps = len(x) // batch
    shuffled = rng.permutation(len(x))[: steps * batch].reshape(steps, batch)
    for indices, k in zip(shuffled, jax.random.split(key, steps), strict=True):
        yield x[indices], y[indices], k
