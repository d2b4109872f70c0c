"""`mcjax.fit`: one driver that trains the free points of any path."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import _check
from .._loops import slow_in_loops
from .._static import unpack
from .._tree import stack
from .._types import LossFn
from ..path import Path

# Steps compiled into one scan when batches come from an iterator.
_BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Fit:
    """A trained path.

    - `path`: the path with its free points trained
    - `losses`: (steps,) mean loss over the sampled t at each step
    - `state`: optimizer state and key, to go on with `fit(…, state=fit.state)`
    - `finite`: False if a loss was NaN or infinite (a warning says from which step)
    """

    path: Path
    losses: np.ndarray
    state: Any
    finite: bool

    def summary(self) -> str:
        """First, last and lowest loss."""
        first, last = self.losses[:10].mean(), self.losses[-10:].mean()
        return f"{len(self.losses)} steps, loss {first:.4f} -> {last:.4f}"


def fit(
    path: Path,
    loss_fn: LossFn,
    batches: Any,
    optimizer: optax.GradientTransformation,
    *,
    key: jax.Array,
    samples: int = 1,
    state: Any = None,
) -> Fit:
    """Minimise E_{t ~ U[0,1]} ℓ(θ_φ(t)) over the free points φ of a path (Garipov et al. 2018).

    Each step draws a batch and t's, and steps along the gradient of the mean loss
    (tatro2020, Algorithm 2). The end points never move. Steps run in one `lax.scan` (those of
    convolutional networks on a CPU one by one, which is faster there).

    **Arguments:**
    - `path`: a path with free points (`Bezier`, `PolygonalChain`, …)
    - `loss_fn`: (params, batch) → scalar
    - `batches`: a pytree of arrays with a leading axis of steps, or an iterable of batches of
      one shape (taken 64 at a time)
    - `optimizer`: any optax transformation
    - `key`: draws of t
    - `samples`: t's per step; vmapped, on a CPU one after the other inside the step (products of
      batches of matrices are many times slower there)
    - `state`: of an earlier `Fit`, to go on exactly where it stopped

    **Returns:** a `Fit`.

    **Raises:** `ValueError` for a path without free points, no batches, or a loss that is no
    scalar.

        >>> import jax, jax.numpy as jnp, optax, mcjax
        >>> path = mcjax.path.Bezier.between({"w": jnp.zeros(2)}, {"w": jnp.ones(2)})
        >>> loss = lambda p, batch: jnp.sum((p["w"] - batch) ** 2)
        >>> fitted = mcjax.fit(path, loss, jnp.ones((50, 2)), optax.sgd(0.1), key=jax.random.key(0))
        >>> bool(fitted.losses[-10:].mean() < fitted.losses[:10].mean())
        True
    """
    _check.positive(samples, "samples")
    free = path.free()
    if state is None:
        state = (optimizer.init(free), key)
    losses: list[Any] = []
    stepwise = False
    for block in _blocks(batches):
        if not losses:
            _check_loss(path, loss_fn, block)
            first = jax.tree.map(lambda v: v[0], block)
            stepwise = slow_in_loops(
                lambda p, batch: loss_fn(unpack(p.at(0.0)), batch), path, first
            )
        advance = _one_by_one if stepwise else _steps
        free, state, found = advance(loss_fn, optimizer, samples, path, free, state, block)
        losses.append(found)
    if not losses:
        raise ValueError("batches is empty: there is nothing to fit on")
    history = np.concatenate([np.asarray(v) for v in losses])
    finite = bool(np.isfinite(history).all())
    if not finite:
        step = int(np.argmin(np.isfinite(history)))
        warnings.warn(
            f"the loss is not finite from step {step} on: lower the learning rate", stacklevel=2
        )
    return Fit(path.with_free(free), history, state, finite)


def _blocks(batches: Any) -> Iterator[Any]:
    """Stacks of batches, each to be scanned over."""
    if not isinstance(batches, Iterator | list):
        leaves = jax.tree.leaves(batches)
        if leaves and all(hasattr(v, "shape") for v in leaves):
            _check.rows(batches, "batches")
            yield jax.tree.map(jnp.asarray, batches)
            return
    if not isinstance(batches, Iterable):
        raise ValueError(
            f"batches must be a pytree of arrays or an iterable of batches, got {type(batches)}"
        )
    block: list[Any] = []
    for batch in batches:
        block.append(batch)
        if len(block) == _BLOCK:
            yield stack(block)
            block = []
    if block:
        yield stack(block)


def _check_loss(path: Path, loss_fn: LossFn, block: Any) -> None:
    batch = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), block)
    out = jax.eval_shape(lambda b: loss_fn(unpack(path.at(0.0)), b), batch)
    if getattr(out, "shape", None) != ():
        raise ValueError(f"loss_fn must return a scalar, got {out}")


def _step(loss_fn, optimizer, samples: int, path: Path, carry: Any, batch: Any):
    free, (opt_state, key) = carry
    key, draw = jax.random.split(key)
    ts = jax.random.uniform(draw, (samples,))

    def objective(free):
        moved = path.with_free(free)
        if samples == 1:  # no batched products where there is nothing to batch
            return loss_fn(unpack(moved.at(ts[0])), batch)
        if jax.default_backend() == "cpu":
            return sum(loss_fn(unpack(moved.at(t)), batch) for t in ts) / samples
        return jnp.mean(jax.vmap(lambda t: loss_fn(unpack(moved.at(t)), batch))(ts))

    loss, gradient = jax.value_and_grad(objective)(free)
    updates, opt_state = optimizer.update(gradient, opt_state, free)
    return (optax.apply_updates(free, updates), (opt_state, key)), loss


_STATIC = ("loss_fn", "optimizer", "samples")


@partial(jax.jit, static_argnames=_STATIC)
def _steps(loss_fn, optimizer, samples: int, path: Path, free: Any, state: Any, block: Any):
    step = partial(_step, loss_fn, optimizer, samples, path)
    (free, state), losses = jax.lax.scan(step, (free, state), block)
    return free, state, losses


@partial(jax.jit, static_argnames=_STATIC)
def _single(loss_fn, optimizer, samples: int, path: Path, free: Any, state: Any, batch: Any):
    return _step(loss_fn, optimizer, samples, path, (free, state), batch)


def _one_by_one(loss_fn, optimizer, samples: int, path: Path, free: Any, state: Any, block: Any):
    losses = []
    for i in range(len(jax.tree.leaves(block)[0])):
        batch = jax.tree.map(lambda v, i=i: v[i], block)
        (free, state), loss = _single(loss_fn, optimizer, samples, path, free, state, batch)
        losses.append(loss)
    return free, state, jnp.stack(losses)
