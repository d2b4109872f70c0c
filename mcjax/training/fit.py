"""`mcjax.fit`: trains the free points of any path."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._inputs import type_of
from .._lazy import lazily
from .._loops import slow_in_loops
from .._readonly import make_read_only
from .._static import unpack
from .._types import LossFn
from ..path import Path
from .data import BLOCK_BYTES
from .driver import State, Trainer, copied, run, warn_unless_finite

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")

# Steps taken together when batches come from an iterator.
_BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Fit:
    """A trained path.

    - `path`: the path with its free points trained
    - `losses`: (steps,) or (epochs,) mean loss over the sampled t of each
    - `state`: optimiser state and key, to go on with `fit(…, state=fit.state)`
    - `unit`: what a loss is of, `"step"` or `"epoch"`
    """

    path: Path
    losses: np.ndarray
    state: Any
    unit: str = "step"

    def __post_init__(self) -> None:
        make_read_only(self, "losses")

    @property
    def finite(self) -> bool:
        """Whether no loss is NaN or infinite."""
        return bool(np.isfinite(self.losses).all())

    @property
    def status(self) -> str:
        """`"trained"`, or from which loss on they are not finite."""
        if self.finite:
            return "trained"
        return f"not finite from {self.unit} {int(np.argmin(np.isfinite(self.losses)))} on"

    def summary(self) -> str:
        """How many losses there are, and how they fell: means of as many first as last ones."""
        n = len(self.losses)
        text = f"{n} {self.unit}{'s' * (n != 1)}, loss "
        few = max(1, min(10, n // 2))
        first, last = self.losses[:few].mean(), self.losses[-few:].mean()
        text += f"{last:.4f}" if n == 1 else f"{first:.4f} -> {last:.4f}"
        return text if self.finite else f"{text}; {self.status}"


@_check.on_host
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
    (tatro2020, Algorithm 2). The end points never move. Steps run in one loop of XLA's (those of
    convolutional networks on a CPU one by one, which is faster there).

    **Arguments:**
    - `path`: a path with free points (`Bezier`, `PolygonalChain`, …)
    - `loss_fn`: (params, batch) → scalar, as `mcjax.training.MeanLoss`; the same object, or an
      equal one, compiles only once
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
    _check.random_key(key)
    blocks = _blocks(batches)
    trainer, first = _trainer(path, loss_fn, optimizer, _check.positive(samples, "samples"), blocks)
    begun = trainer.init(path.free(), key)
    if state is not None:
        begun = copied(State(begun.trained, *state))

    def all_blocks(_: int) -> Iterator[Any]:
        yield first
        yield from blocks

    ended, losses = run(trainer, begun, 1, all_blocks, given=path)
    warn_unless_finite(losses, "step")
    return Fit(path.with_free(ended.trained), losses, (ended.optimizer, ended.key))


def check_interval(interval: Any, name: str = "interval") -> tuple[float, float]:
    """Where t is drawn from.

    **Raises:** `ValueError` for what is no part of [0, 1].
    """
    try:
        low, high = map(float, interval)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not 0 <= low < high <= 1:
        raise ValueError(f"{name} must be (low, high) with 0 ≤ low < high ≤ 1, got {interval!r}")
    return low, high


@dataclasses.dataclass(frozen=True)
class PathObjective:
    """The mean loss at random t of an interval, of free points; a path with others is given."""

    loss_fn: LossFn
    samples: int
    interval: tuple[float, float] = (0.0, 1.0)

    def __call__(self, free: Any, batch: Any, draw: Any, path: Path) -> jax.Array:
        moved = path.with_free(free)
        low, high = self.interval
        ts = jax.random.uniform(draw, (self.samples,), minval=low, maxval=high)

        def at(t: Any) -> jax.Array:
            return self.loss_fn(unpack(moved.at(t)), batch)

        if self.samples == 1:  # no batched products where there is nothing to batch
            return at(ts[0])
        if jax.default_backend() == "cpu":
            return sum(map(at, ts), jnp.zeros(())) / self.samples
        return jnp.mean(jax.vmap(at)(ts))


def _trainer(
    path: Path, loss_fn: LossFn, optimizer: Any, samples: int, blocks: Iterator[Any]
) -> tuple[Trainer, Any]:
    """(what a step is, the first block), both checked."""
    path.free()  # raises where there is nothing to train
    first = next(blocks, None)
    if first is None:
        raise ValueError("batches is empty: there is nothing to fit on")
    batch = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], type_of(v).dtype), first[0])

    def loss(p: Path, batch: Any) -> Any:
        return loss_fn(unpack(p.at(0.0)), batch)

    out = jax.eval_shape(loss, path, batch)
    if getattr(out, "shape", None) != ():
        raise ValueError(f"loss_fn must return a scalar, got {out}")
    stepwise = slow_in_loops(loss, path, batch)
    return Trainer(PathObjective(loss_fn, samples), optimizer, stepwise=stepwise), first


def _blocks(batches: Any) -> Iterator[tuple[Any, int]]:
    """(stack of batches, how many of them count), all stacks of one shape."""
    leaves = [] if isinstance(batches, Iterator | list) else jax.tree.leaves(batches)
    if leaves and all(hasattr(v, "shape") for v in leaves):
        yield from _slices(batches, _check.rows(batches, "batches"))
    elif isinstance(batches, Iterable):
        block: list[Any] = []
        for batch in batches:
            block.append(batch)
            if len(block) == _BLOCK:
                yield _stack(block), _BLOCK
                block = []
        if block:
            filled = block + block[-1:] * (_BLOCK - len(block))
            yield _stack(filled), len(block)
    else:
        raise ValueError(
            f"batches must be a pytree of arrays or an iterable of batches, got {type(batches)}"
        )


def _slices(batches: Any, n: int) -> Iterator[tuple[Any, int]]:
    """All steps at once, or where they are on the host and large, so many at a time."""
    leaves = jax.tree.leaves(batches)
    size = n
    if not any(isinstance(v, jax.Array) for v in leaves):
        size = max(1, min(n, BLOCK_BYTES * n // max(1, sum(v.nbytes for v in leaves))))
    if size == n:
        yield batches, n
        return
    for first in range(0, n, size):
        start = min(first, n - size)
        last = first + size <= n
        block = jax.tree.map(lambda v, s=start: v[s : s + size], batches)
        if not last:  # the last stack starts earlier: its first steps have been taken
            block = jax.tree.map(lambda v, s=first - start: np.roll(v, -s, 0), block)
        yield block, min(size, n - first)


def _stack(batches: list[Any]) -> Any:
    def one(*leaves: Any) -> Any:
        on_host = not any(isinstance(v, jax.Array) for v in leaves)
        return (np if on_host else jnp).stack(leaves)

    return jax.tree.map(one, *batches)
