"""Inputs of low loss from any start: synthetic modes, targeted attacks (vrabel2024, A, B.5)."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._task import require_function
from .._types import ApplyFn, Params
from ..network import Network
from ..tasks import CLASSIFICATION, Task, require
from .bounds import Bounds, check_inside
from .descent import Descent, Fixed, check_steps, descend, losses_of
from .pairs import checked_labels, checked_model


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """How inputs are optimised; the defaults are those of vrabel2024 for untrained networks.

    From its start x₀ each input moves by Adam on

        ℓ(x) + deviation · mean((x − x₀)²) + roughness · Σ h(Δ(x − x₀)),

    whose terms are those of `mcjax.inputs.Bypass`. From noise, this is feature visualisation by
    optimisation, and a roughness for one of two makes them different; from an image of another
    class with 512 steps of 0.005, a deviation of 0.1 and a roughness of 1e-8 it is the paper's
    targeted attack.

    - `delta`: the loss at which an input stops
    - `steps`: of Adam at most; `block`: steps between two looks at the loss
    - `learning_rate`, `deviation`, `roughness`: as above
    - `surrogate`: in place of lowering ℓ, raise ½ z_y √max(0.1, z_y / ‖z‖) of the logits z
      (App. B.6; its images look more natural); inputs stop by their loss all the same
    - `bounds`: that inputs are kept within, as those of `Bypass`; default: none

    **Raises:** `ValueError` for an option out of range.
    """

    delta: float = 5e-4
    steps: int = 4096
    block: int = 32
    learning_rate: float = 0.05
    deviation: float = 0.0
    roughness: float = 0.0
    surrogate: bool = False
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        check_steps(self)


@dataclasses.dataclass(frozen=True, eq=False)
class Synthesised:
    """Optimised inputs: the result of `mcjax.inputs.synthesise`.

    - `x`: (n, …) inputs; `loss`: (n,) their losses
    - `status`: (n,) words: `"below delta"`; `"budget spent"`: the steps ran out; `"not finite"`
    """

    x: np.ndarray
    loss: np.ndarray
    status: np.ndarray

    def __repr__(self) -> str:
        counts = collections.Counter(self.status.tolist()).most_common()
        return f"Synthesised({len(self.x)}: {', '.join(f'{n:,} {word}' for word, n in counts)})"


@_check.on_host
def synthesise(
    model: ApplyFn | Network,
    params: Params,
    x: Any,
    y: Any,
    how: Synthesis | None = None,
    *,
    below: Any = None,
    transform: Callable[[Any, jax.Array], Any] | None = None,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
    chunk: int = 1024,
) -> Synthesised:
    """Inputs of low loss for given labels, from given starts, many at once.

    With a transform that is drawn anew for each input and step (shifted by a pixel, say), inputs of
    feature visualisation get their loss from features that survive it.

    **Arguments:**
    - `model`, `params`, `task`, `chunk`: as for `mcjax.inputs.interpolate`
    - `x`: (n, …) starts, floats: noise, or images of other classes
    - `y`: labels that the inputs are to get; of (y_a, y_b) the better one counts
    - `how`: options; default `Synthesis()`
    - `below`: (n,) losses at which the inputs stop; default: `how.delta` for all
    - `transform`: (input, key) → input, what the network is given in place of an input in a step;
      losses at which inputs stop are those of the inputs themselves
    - `key`: of the transform (default `jax.random.key(0)`)

    **Returns:** a `Synthesised`, a status for each input.

    **Raises:** `ValueError` for starts that are no finite floats or lie outside `how.bounds`,
    thresholds of another shape, a transform that changes shapes, or a surrogate where the labels
    are no classes.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.concatenate([x, -x], 1) * p["w"]
        >>> found = mcjax.inputs.synthesise(
        ...     f, {"w": jnp.array(3.0)}, jnp.zeros((2, 1)), jnp.array([0, 1]))
        >>> found.status.tolist(), bool(found.x[0, 0] > 1 > -1 > found.x[1, 0])
        (['below delta', 'below delta'], True)
    """
    how, task, chunk = how or Synthesis(), require(task), _check.positive(chunk, "chunk")
    if not isinstance(how, Synthesis):
        raise ValueError(f"how must be a mcjax.inputs.Synthesis, got {how!r}")
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be one array of floats, got {getattr(x, 'dtype', type(x))}")
    _check.batched(x, "x")
    _check.finite(x, "x")
    check_inside(x, how.bounds, "x")
    start = np.asarray(x)
    labels = checked_labels(y, len(start), "inputs")
    stop = np.full(len(start), how.delta) if below is None else np.asarray(below, float)
    if stop.shape != (len(start),) or np.isnan(stop).any():
        raise ValueError(f"below must be {len(start)} losses, got shape {stop.shape}")
    packed = checked_model(model, params, start, labels, task)
    if how.surrogate and not all(
        np.ndim(v) == 1 and jnp.issubdtype(v.dtype, jnp.integer) for v in labels
    ):
        raise ValueError("how: the surrogate is of logits and integer classes; y holds none")
    keys = None if transform is None else _keys(transform, start, key)
    plan = Descent(model, task, how, chunk, surrogate if how.surrogate else None, transform)
    found = descend(plan, packed, Fixed(start, labels, stop, keys=keys))
    losses = losses_of(model, task, packed, found, labels, chunk)
    words = np.where(losses <= stop, "below delta", "budget spent")
    return Synthesised(found, losses, np.where(np.isfinite(losses), words, "not finite"))


def _keys(transform: Any, x: np.ndarray, key: jax.Array | None) -> jax.Array:
    """(n,): a key for each input; raise unless the transform keeps shape and type."""
    draws = jax.random.key(0) if key is None else _check.random_key(key)
    require_function(transform, "transform")
    one = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    made = jax.eval_shape(transform, one, draws)
    if getattr(made, "shape", None) != one.shape or made.dtype != one.dtype:
        raise ValueError(f"transform: (input, key) → {made}, expected the input's own type, {one}")
    return jax.vmap(lambda i: jax.random.fold_in(draws, i))(np.arange(len(x)))


def surrogate(logits: Any, y: Any) -> Any:
    """−½ z_y √max(0.1, z_y / ‖z‖): what feature visualisation lowers."""
    z = jnp.take_along_axis(logits, y[:, None], 1)[:, 0]
    squares = jnp.maximum(jnp.sum(logits**2, 1), jnp.finfo(logits.dtype).tiny)  # all may be 0
    cosine = z / jnp.sqrt(squares)
    return -0.5 * z * jnp.sqrt(jnp.maximum(cosine, 0.1))


__all__ = ["Synthesis", "Synthesised", "synthesise"]
