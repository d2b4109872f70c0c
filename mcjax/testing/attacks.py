"""The contract of attacks."""

from __future__ import annotations

import copy
from typing import Any

import jax
import numpy as np

from .. import _check_model
from .._static import pack, unpack
from .._types import ApplyFn, Params
from ..attacks import Attack, Attacked
from ..network import Network
from ..tasks import CLASSIFICATION, Task
from ._require import require, require_equal, require_error, require_same, require_value

# How many of the images must come out the same where they were batched otherwise: attacks that go
# by signs of gradients tell small differences of floats.
_ALIKE = 0.9


def check_attack(
    attack: Attack,
    model: ApplyFn | Network,
    params: Params,
    x: Any,
    y: Any,
    *,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
) -> None:
    """Raise `AssertionError` unless an attack keeps the contract of `mcjax.attacks.Attack`.

    - a value: nothing can be set, a copy looks alike, is equal and hashes alike; attacking leaves
      it as it is, and the inputs too
    - inputs keep their shape and type, are finite and stay within the bounds; those that were
      misclassified before are not moved
    - success is what the network says at the inputs that came out: another class than the label,
      or the target, where there is a targeted form (else a target is refused)
    - the same key gives the same inputs, to the bit; an input by itself what it gives among others
      (for nine of ten, as floats differ by the batch)
    - `perturb` under `jit` is what the call does, and where `done` says so a step changes nothing

    **Arguments:**
    - `model`, `params`: a small network, of three classes or more for the targeted form
    - `x`, `y`: a dozen inputs within the attack's bounds, or more, most of them classified right
    - `key`: of the attack (default `jax.random.key(0)`); `task`: as of the attack

        >>> import dataclasses, jax.numpy as jnp, numpy as np, mcjax
        >>> @dataclasses.dataclass(frozen=True)
        ... class Darker(mcjax.attacks.Attack):
        ...     by: float = 0.1
        ...     length = 3
        ...     targets = False
        ...
        ...     def init(self, aim, key):
        ...         return aim.images
        ...
        ...     def advance(self, aim, state):
        ...         return jnp.clip(state - self.by, *aim.bounds)
        ...
        ...     def moved(self, state):
        ...         return state
        >>> x = np.random.default_rng(0).uniform(size=(20, 4)).astype("f")
        >>> f = lambda p, x: x @ p["w"]
        >>> mcjax.testing.check_attack(Darker(), f, {"w": jnp.eye(4)}, x, x.argmax(1))
    """
    before, given = copy.copy(attack), jax.tree.map(np.array, pack((params, x, y)))
    require_value(attack, before, "attack")
    y = np.asarray(y)
    draws = jax.random.key(0) if key is None else key
    whole = max(len(y), 2)

    def run(chunk: int, target: Any = None) -> Attacked:
        options: dict[str, Any] = {"task": task, "key": draws, "chunk": chunk, "target": target}
        return attack(model, params, x, y, **options)

    made, again, apart = run(whole), run(whole), run(max(len(y) // 3, 1))
    require_equal(attack, before, "the attack after attacking")
    require_same(jax.tree.map(np.asarray, pack((params, x, y))), given, "params, x and y after it")
    _check_inputs(attack, made, x)
    _check_success(model, params, made, task)
    require(np.array_equal(made.x, again.x), "the same key must give the same inputs")
    _require_alike(attack, apart.x, made.x, "in other chunks")
    _check_pure(attack, model, params, made, draws, task)
    target = _targets(made)
    if attack.targets:
        _check_success(model, params, run(whole, target), task)
    else:
        require_error(lambda: run(whole, target), ValueError, "a target without a targeted form")


def _check_inputs(attack: Attack, made: Attacked, x: Any) -> None:
    """Shape, type, bounds; what was not attacked."""
    require(made.x.shape == np.shape(x), f"inputs of shape {np.shape(x)} became {made.x.shape}")
    require(made.x.dtype == x.dtype, f"inputs of type {x.dtype} became {made.x.dtype}")
    require(np.isfinite(made.x).all(), "attacked inputs must be finite")
    images = made.x.astype(np.float64) * attack.std + attack.mean
    low, high = attack.bounds
    slack = 1e-5 * (high - low)
    inside = images.min() >= low - slack and images.max() <= high + slack
    require(inside, f"images lie in [{images.min():.6g}, {images.max():.6g}], outside the bounds")
    same = np.array_equal(made.x[~made.attacked], np.asarray(x)[~made.attacked])
    require(same, "an input that was misclassified before must stay as it is")
    require(made.attacked.sum() > 1, "two inputs or more must be classified right, to be attacked")


def _classes(model: Any, params: Params, x: Any, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(n,) predicted, and by how much the likeliest class is ahead."""
    outputs = _check_model.apply_fn_of(model)(unpack(pack(params)), x)
    logits = np.asarray(task.outputs(outputs), np.float64)
    two = np.sort(logits, 1)[:, -2:]
    return logits.argmax(1), two[:, 1] - two[:, 0]


def _check_success(model: Any, params: Params, made: Attacked, task: Task) -> None:
    """Status against the network itself, where the classes are not as good as equal."""
    classes, ahead = _classes(model, params, made.x, task)
    sure = ahead > 1e-4
    require(not made.success[~made.attacked].any(), "what was not attacked must be no success")
    wanted = classes != made.y if made.target is None else classes == made.target
    wrong = np.flatnonzero(sure & made.attacked & (made.success != wanted))
    what = "another class" if made.target is None else "the target"
    if len(wrong):
        i = wrong[0]
        said = f"example {i} is {made.status[i]!r}, and the network gives class {classes[i]}"
        require(False, f"{said} (label {made.y[i]}): success is {what}")


def _require_alike(attack: Attack, x: np.ndarray, other: np.ndarray, what: str) -> None:
    near = 1e-3 * (attack.bounds[1] - attack.bounds[0]) / min(attack.std)
    apart = np.abs(x.astype(np.float64) - other).reshape(len(x), -1).max(1)
    share = float(np.mean(apart <= near))
    require(share >= _ALIKE, f"{what} {1 - share:.0%} of the inputs come out differently")


def _check_pure(
    attack: Attack, model: Any, params: Params, made: Attacked, key: jax.Array, task: Task
) -> None:
    """`perturb` under jit, of those that were attacked; steps after the end."""
    rows = np.flatnonzero(made.attacked)
    x, y = np.asarray(made.clean)[rows], made.y[rows]
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(rows)
    apply, packed = _check_model.apply_fn_of(model), pack(params)

    def after(packed: Params, x: Any) -> Any:
        aim = attack.aim(apply, unpack(packed), x, y, task, True)
        state = attack.advance(aim, attack.init(aim, keys))
        done, moved = attack.done(state), attack.moved(state)
        return done, moved, attack.moved(attack.advance(aim, state))

    done, moved, further = jax.jit(after)(packed, x)
    if done is not None:
        done = np.asarray(done)
        require(done.shape == (len(rows),), f"done() has shape {done.shape}, one an image is due")
        same = np.array_equal(np.asarray(moved)[done], np.asarray(further)[done])
        require(same, "an image that is done must stay as it is in a further step")

    def perturbed(packed: Params, x: Any) -> Any:
        return attack.perturb(apply, unpack(packed), x, y, key=keys, task=task)

    found = np.asarray(jax.jit(perturbed)(packed, x))
    _require_alike(attack, found, made.x[rows], "perturb under jit:")


def _targets(made: Attacked) -> np.ndarray:
    """Classes that are not the labels, among those that the network gives."""
    classes = np.unique(np.r_[made.y, made.before, made.predicted])
    return np.array([classes[classes != c][0] if (classes != c).any() else 1 - c for c in made.y])


__all__ = ["check_attack"]
