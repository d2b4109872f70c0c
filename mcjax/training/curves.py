"""Curves trained on data: Bézier curves, polygonal chains, any path with free points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _check, _check_model
from .._lazy import lazily
from .._loops import slow_in_loops
from .._static import unpack
from .._types import ApplyFn
from ..network.network import Network
from ..path import Path
from ..tasks import CLASSIFICATION, Task
from . import identity
from .data import Data, Layout
from .driver import State, Trainer, run, warn_unless_finite
from .fit import Fit, PathObjective, check_interval
from .loss import TrainingLoss
from .protocol import Protocol
from .store import Store

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")


@dataclasses.dataclass(frozen=True)
class Renewed:
    """A path whose arrays that are not free are other ones in every epoch, for `train_curve`.

    - `path`: as the first epoch begins
    - `renew`: (epoch, path as trained so far) → the path of that epoch, called before each: of the
      same class and shapes

        >>> import jax.numpy as jnp, mcjax
        >>> a, b = ({"w": jnp.array(v)} for v in (0.0, 1.0))
        >>> path = mcjax.path.Bezier.between(a, b)
        >>> mcjax.training.Renewed(path, lambda epoch, path: path).path is path
        True
    """

    path: Path
    renew: Callable[[int, Any], Path]


@_check.on_host
def train_curve(
    path: Path | Renewed,
    model: ApplyFn | Network,
    data: tuple[Any, Any],
    protocol: Protocol,
    *,
    key: jax.Array,
    task: Task = CLASSIFICATION,
    optimizer: optax.GradientTransformation | None = None,
    samples: int = 1,
    interval: tuple[float, float] = (0.0, 1.0),
    directory: str | FilePath | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Fit:
    """Train the free points of a path on a data set, epoch after epoch (tatro2020, Alg. 2).

    Minimises E_{t ~ U[0,1]} [ℓ(θ(t)) + λ/2 ‖θ(t)‖²] by SGD, λ the protocol's weight decay (on the
    network at t, as in Garipov et al. 2018). Batch normalisation uses the statistics of each
    batch; give `mcjax.evaluate` inputs to estimate them from along the curve.

    **Arguments:**
    - `path`: with free points, as `Bezier.between(a, b)`; `Renewed`: what is not free is another
      in every epoch (the `Fit` has that of the first)
    - `model`: (params, x) → outputs, or a traced `mcjax.Network`
    - `data`: (x, y), batched on axis 0, arrays or memory maps; a block of them at a time is
      gathered, in the epoch's order
    - `protocol`: epochs, batch, schedule, momentum, weight decay, augmentation, attack
    - `key`: order of the data, draws of t, augmentation and attacks
    - `task`: whose loss is minimised
    - `optimizer`: in place of the protocol's SGD; the same object for the same steps compiles
      only once
    - `samples`: t's per step (see `mcjax.fit`)
    - `interval`: t is drawn uniformly between these
    - `directory`: keep the state after each epoch; the same call goes on after the last one and
      gives, bit for bit, what an uninterrupted one gives. So does one with more epochs, unless the
      rate falls over all of them (see `Protocol`)
    - `progress`: called after each epoch with (epoch, mean loss)

    **Returns:** a `Fit`: the path trained, and the mean loss of each epoch.

    **Raises:** `ValueError` if the data are fewer than one batch, outputs or labels are not the
    task's, `directory` holds another run (other data, model, task, protocol, …: the message says
    what differs) or cannot be written to.

        >>> import jax, numpy as np, mcjax
        >>> from mcjax.models import MLP
        >>> from mcjax.training import Protocol
        >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        >>> model = MLP((4,), 2)
        >>> a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
        >>> fitted = mcjax.training.train_curve(
        ...     mcjax.path.Bezier.between(a, b), model.apply, (x, y), Protocol(3, batch=4),
        ...     key=jax.random.key(0))
        >>> fitted.losses.shape
        (3,)
    """
    _check.random_key(key)
    path, renew = (path.path, path.renew) if isinstance(path, Renewed) else (path, None)
    interval = check_interval(interval)
    apply_fn, whole = _check_model.apply_fn_of(model), Data(data, model)
    steps = whole.steps(protocol.batch)
    point = jax.eval_shape(lambda p: p.at(0.0), path)
    whole.check(task, apply_fn, point, protocol.attack)
    loss = TrainingLoss.of(apply_fn, task, protocol, protocol.weight_decay)
    store = None
    if directory is not None:
        store = Store(directory, {
            "what": f"a curve, {type(path).__name__}",
            **identity.of_training(
                apply_fn, point, whole.x, whole.y, task, protocol, optimizer
            ),
            "path": identity.of_params(path), "key": identity.of_array(key), "samples": samples,
            **({} if interval == (0, 1) else {"interval": list(interval)}),
            **({} if renew is None else {"renew": identity.describe(renew)}),
        })  # fmt: skip
    if optimizer is None:
        plain = dataclasses.replace(protocol, weight_decay=0.0)
        optimizer = plain.optimizer(steps * protocol.epochs)
    batch = (*whole.example(protocol.batch), key)
    stepwise = slow_in_loops(lambda p, b: loss(unpack(p.at(0.0)), b), path, batch)
    objective = CurveObjective(PathObjective(loss, _check.positive(samples, "samples"), interval),
                               whole.layout)  # fmt: skip
    trainer = Trainer(objective, optimizer, stepwise=stepwise)

    def keys(epoch: int) -> list[jax.Array]:
        return list(jax.random.split(jax.random.fold_in(key, epoch), 3))

    def blocks(epoch: int) -> Iterator[Any]:
        order, _, of_batches = keys(epoch)
        each = jax.random.split(of_batches, steps)
        return whole.blocks(_order(whole.n, protocol.batch, order), lambda numbers: each[numbers])

    def renewed(epoch: int, state: State) -> tuple[Path, Any]:
        assert renew is not None
        # What is free comes from the state, whose memory steps use again: none of it is given.
        return renew(epoch, path.with_free(state.trained)).with_free(path.free()), whole.shared

    state, losses = run(
        trainer, trainer.init(path.free(), key), protocol.epochs, blocks,
        given=(path, whole.shared), renew=renew and renewed, keys=lambda epoch: keys(epoch)[1],
        store=store,
        progress=progress and (lambda epoch, found: progress(epoch, float(found.mean()))),
    )  # fmt: skip
    losses = losses.reshape(protocol.epochs, steps).mean(1)
    warn_unless_finite(losses, "epoch")
    return Fit(path.with_free(state.trained), losses, (state.optimizer, state.key), "epoch")


@dataclasses.dataclass(frozen=True)
class CurveObjective:
    """A path's objective on batches of a data set; given are the path and what is shared."""

    objective: PathObjective
    layout: Layout

    def __call__(self, free: Any, batch: Any, draw: Any, given: Any) -> jax.Array:
        (rows, key), (path, shared) = batch, given
        return self.objective(free, (*self.layout.join(rows, shared), key), draw, path)


def _order(n: int, batch: int, key: jax.Array) -> np.ndarray:
    """(steps, batch) numbers of the examples of an epoch, in random order."""
    rng = np.random.default_rng(np.asarray(_check.key_data(key)).tolist())
    steps = n // batch
    return rng.permutation(n)[: steps * batch].reshape(steps, batch)
