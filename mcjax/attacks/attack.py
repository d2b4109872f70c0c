"""What every attack is: adversarial inputs step by step, under `jit`; and attacking a data set."""

from __future__ import annotations

import abc
import dataclasses
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._inputs import on_auto_axes, unmark
from .._static import unpack
from .._tree import at_least_single
from .._types import ApplyFn, Params
from ..network import Network
from ..tasks import CLASSIFICATION, Task, require
from .aim import Aim
from .attacked import Attacked
from .driver import Plan, attacked


@dataclasses.dataclass(frozen=True)
class Attack(abc.ABC):
    """Adversarial inputs of a network: the base of every attack, and of one of your own.

    An attack is a frozen value that says in `init`, `advance` and `moved` how images move. They are
    in the units of `bounds`, whatever the network's inputs are standardised to, and every image
    moves by itself: neither the network's outputs (batch normalisation with its running statistics)
    nor what the attack does may depend on who is beside it.

    - `bounds`: least and greatest value that an image may have
    - `mean`, `std`: for each channel (the last axis), how images were standardised:
      x = (image − mean) / std

    **Raises:** `ValueError` for empty bounds, a mean or a std that is not finite, a std of 0.
    """

    bounds: tuple[float, float] = dataclasses.field(default=(0.0, 1.0), kw_only=True)
    mean: tuple[float, ...] = dataclasses.field(default=(0.0,), kw_only=True)
    std: tuple[float, ...] = dataclasses.field(default=(1.0,), kw_only=True)

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not (low < high and math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"bounds must be (least, greatest), both finite, got {self.bounds}")
        if not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not all(s > 0 and math.isfinite(s) for s in self.std):
            raise ValueError(f"std must be positive and finite, got {self.std}")
        _check.positive(self.length, "steps")

    # -- what a kind of attack says of itself --------------------------------------------------

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """The number of steps, at most."""

    @abc.abstractmethod
    def init(self, aim: Aim, key: jax.Array) -> Any:
        """The state before the first step: a pytree of arrays with a row for each image.

        `key`: a random key, or one for each image.
        """

    @abc.abstractmethod
    def advance(self, aim: Aim, state: Any) -> Any:
        """The state after one more step, pure; an image that is done stays as it is."""

    @abc.abstractmethod
    def moved(self, state: Any) -> jax.Array:
        """(n, …): the images that the attack has come to."""

    def done(self, state: Any) -> jax.Array | None:
        """(n,) whether a step would change nothing any more; None: nobody is before the last."""
        return None

    targets = True
    """Whether there is a targeted form."""
    block = 10
    """After how many steps images that are done are set aside."""
    hard_labels = True
    """Whether labels must be integer classes."""

    # -- what all of them do -------------------------------------------------------------------

    @_check.on_host
    def __call__(
        self,
        model: ApplyFn | Network,
        params: Params,
        x: Any,
        y: Any,
        *,
        target: Any = None,
        task: Task = CLASSIFICATION,
        key: jax.Array | None = None,
        chunk: int = 256,
    ) -> Attacked:
        """Adversarial inputs of a data set, and which of them the network takes for another class.

        Compiled once, in blocks of steps; images advance together, and those that are done leave
        the batch. An image that is misclassified as it is stays as it is.

        **Arguments:**
        - `model`: (params, x) → outputs, or a `Network`; outputs of an input must not depend on
          those beside it
        - `params`: its parameters
        - `x`: (n, …) inputs in the attack's bounds, a memory map too; `y`: (n,) their classes
        - `target`: the class that the network should give, one or for each example; default: any
          but `y`
        - `task`: for outputs that hold the logits somewhere, `CLASSIFICATION.reading(…)`
        - `key`: of what is random (default `jax.random.key(0)`); that of example n comes from
          `fold_in(key, n)`, whatever the chunks
        - `chunk`: examples at a time; on a CPU few of them (64) suit convolutions, as what is
          computed of them stays in its caches

        **Returns:** an `Attacked`, a status for each example.

        **Warns:** if no example is classified right, so that there is nothing to attack.

        **Raises:** `ValueError` for inputs that are no floats, not finite or outside the bounds;
        for labels or targets that are no classes of the network, or a target that is the label; for
        a target where an attack has no targeted form.
        """
        (x, y), _ = _check.labelled(on_auto_axes((unmark(x), unmark(y))))
        self.check(x)
        _check.finite(x, "x")
        packed, classes = _checked_model(model, params, x, y, require(task))
        targets = None if target is None else self._targets(target, np.asarray(y), classes)
        draws = jax.random.key(0) if key is None else _check.random_key(key)
        plan = Plan(self, model, task, targets is not None)
        chunk = _check.positive(chunk, "chunk")
        made = attacked(plan, packed, x, np.asarray(y), targets, draws, chunk)
        if not made.attacked.any():
            warnings.warn(
                f"none of {len(made.x)} examples is classified right, so there is nothing to "
                "attack; are y and the preparation of x those of the training?", stacklevel=3,
            )  # fmt: skip
        return made

    def _targets(self, target: Any, y: np.ndarray, classes: int) -> np.ndarray:
        """(n,) targets."""
        if not self.targets:
            raise ValueError(f"target: {type(self).__name__} has no targeted form")
        found = np.asarray(target)
        if not np.issubdtype(found.dtype, np.integer) or found.shape not in ((), y.shape):
            raise ValueError(
                f"target must be a class, or one for each of {len(y)} examples, got {found.dtype} "
                f"of shape {found.shape}"
            )
        found = np.broadcast_to(found, y.shape)
        if found.min() < 0 or found.max() >= classes:
            raise ValueError(
                f"target: classes lie in [{found.min()}, {found.max()}], expected 0 to "
                f"{classes - 1}, as the logits have {classes}"
            )
        if (found == y).any():
            same = np.flatnonzero(found == y)
            raise ValueError(
                f"target: that of example {same[0]} is its label {y[same[0]]} ({len(same)} such "
                "examples)"
            )
        return found

    def perturb(
        self,
        apply_fn: ApplyFn,
        params: Params,
        x: jax.Array,
        y: Any,
        *,
        key: jax.Array,
        task: Task = CLASSIFICATION,
        target: Any = None,
    ) -> jax.Array:
        """Where the attack moves inputs; traces under jit and vmap, and knows no success.

        **Arguments:**
        - `x`: inputs in the attack's bounds; `y`: their labels
        - `key`: of what is random; or a key for each example, whose attack then does not depend on
          the examples beside it
        - `task`: whose loss it is
        - `target`: labels that the network should give in place of `y`

        **Returns:** inputs of the shape and type of `x`, within the bounds.
        """
        aim = self.aim(apply_fn, params, x, y if target is None else target, task, target is None)
        state = self.init(aim, key)
        if self.done(state) is None:
            for _ in range(self.length):  # no loop of XLA's: convolutions are slow in them on a CPU
                state = self.advance(aim, state)
        else:
            state = self._until_done(aim, state)
        return jax.lax.stop_gradient(self.inputs(self.moved(state), x.dtype))

    def _until_done(self, aim: Aim, state: Any) -> Any:
        def going(carry: Any) -> jax.Array:
            done: Any = self.done(carry[1])
            return (carry[0] < self.length) & ~jnp.all(done)

        def step(carry: Any) -> Any:
            return carry[0] + 1, self.advance(aim, carry[1])

        return jax.lax.while_loop(going, step, (0, state))[1]

    def aim(
        self, apply_fn: ApplyFn, params: Params, x: Any, labels: Any, task: Task, untargeted: bool
    ) -> Aim:
        """What the attack is given for inputs x."""
        labels, dtype = unmark(labels), x.dtype
        if self.hard_labels and not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
            raise ValueError(
                f"y: {type(self).__name__} needs integer classes, got {jnp.result_type(labels)}"
            )
        if not (untargeted or self.targets):
            raise ValueError(f"target: {type(self).__name__} has no targeted form")
        return Aim(
            lambda images: apply_fn(params, self.inputs(images, dtype)),
            self.images(x), labels, not untargeted, self.bounds, task,
        )  # fmt: skip

    def images(self, x: Any) -> jax.Array:
        """Inputs in the units of the bounds, within them."""
        wide = at_least_single(x.dtype)
        x = jnp.asarray(x, wide)
        mean, std = (_channels(v, x) for v in (self.mean, self.std))
        return jnp.clip(x * std + mean, *self.bounds)

    def inputs(self, images: jax.Array, dtype: Any) -> jax.Array:
        """Images as the network takes them."""
        mean, std = (_channels(v, images) for v in (self.mean, self.std))
        return ((images - mean) / std).astype(dtype)

    def check(self, x: Any) -> None:
        """Raise unless inputs are one array of numbers within the attack's bounds."""
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                "x: an attack moves inputs that are one array of floats; apply_fn can close over "
                f"what else it needs (got {jax.tree.map(jnp.result_type, x)})"
            )
        for name in ("mean", "std"):
            count, channels = len(getattr(self, name)), (np.shape(x) or (0,))[-1]
            if count not in (1, channels):
                raise ValueError(
                    f"{name}: {count} values for inputs of shape {np.shape(x)}; expected one, or "
                    f"one for each of {channels} channels (the last axis)"
                )
        axes = tuple(range(np.ndim(x) - 1))  # of few values even where x does not fit in memory
        with np.errstate(over="ignore"):
            low, high = (
                np.asarray(f(axis=axes), np.float64) * self.std + np.asarray(self.mean)
                for f in (x.min, x.max)
            )
        if not (low.min() >= self.bounds[0] - 1e-4 and high.max() <= self.bounds[1] + 1e-4):
            raise ValueError(
                f"x: values lie in [{low.min():.4g}, {high.max():.4g}], outside the attack's "
                f"bounds {self.bounds}; give mean and std if the inputs are standardised"
            )


def _channels(values: tuple[float, ...], like: jax.Array) -> jax.Array:
    """One value, or one for each channel (the last axis), as an array of as many axes."""
    return jnp.asarray(values, like.dtype).reshape([1] * (like.ndim - 1) + [-1])


def _checked_model(
    model: ApplyFn | Network, params: Params, x: Any, y: Any, task: Task
) -> tuple[Params, int]:
    """The parameters, packed, and the number of classes."""
    apply, packed = _check_model.apply_fn_of(model), _check.parameters(params, "params")
    types = _check_model.output_types(lambda p, x: apply(unpack(p), x), packed, x)
    logits = jax.eval_shape(task.outputs, types)
    task.check(logits, y)
    if not np.issubdtype(y.dtype, np.integer) or getattr(logits, "ndim", 0) != 2:
        raise ValueError(
            "y: whether an attack succeeds is known of integer classes and logits of shape "
            f"(examples, classes); the task {task.name!r} takes others. `perturb` moves inputs "
            "under any task"
        )
    return packed, logits.shape[1]


__all__ = ["Attack"]
