"""What decides on a random program: its pool of arrays, its parameters, its operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SIZES = (2, 3, 4, 6)
_INPUTS = ((2, 4), (2, 4), (2, 3, 4), (2, 4, 4), (2, 3, 2, 3))
_LARGEST, _MOST_AXES = 1500, 5
_COMPLEX = 0.03  # of the parameters

Pool = Sequence[Any]
Step = Callable[[Sequence[Any], Pool], Any]


class UnfitError(Exception):
    """The operation does not apply to what was picked."""


class Builder:
    """Runs once to decide on the operations; the decisions then form a pure function."""

    def __init__(self, seed: int, steps: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.steps: list[Step] = []
        self.params: list[np.ndarray] = []
        self.inputs = [self.rng.normal(size=self.choose(_INPUTS))]
        if self.chance(0.3):  # tokens
            self.inputs.append(self.rng.integers(0, 4, (2, int(self.choose(SIZES)))))
        self.pool = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in self.inputs]
        self.names: list[str] = []
        if self.chance(0.7):
            OPERATIONS["dense0"](self)
        for _ in range(steps):
            self.step()

    # -- decisions -------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def below(self, n: int, first: int = 0) -> int:
        """One of first … n − 1."""
        if n <= first:
            raise UnfitError
        return int(self.rng.integers(first, n))

    def size(self) -> int:
        return self.choose(SIZES)

    def pick(self, least: int = 2, most: int = _MOST_AXES) -> int:
        """A member of the pool with so many axes; later ones are likelier."""
        fit = [i for i, v in enumerate(self.pool) if least <= v.ndim <= most]
        if not fit:
            raise UnfitError
        weights = np.arange(1, len(fit) + 1, dtype=float)
        return fit[int(self.rng.choice(len(fit), p=weights / weights.sum()))]

    def axis(self, i: int) -> int:
        """An axis of a member, seldom the batch."""
        return 0 if self.chance(0.08) else self.below(self.pool[i].ndim, 1)

    def shape(self, i: int) -> tuple[int, ...]:
        return tuple(self.pool[i].shape)

    def divisor(self, n: int) -> int:
        """A proper divisor of n."""
        found = [d for d in range(2, n) if n % d == 0]
        if not found:
            raise UnfitError
        return self.choose(found)

    # -- what a program is made of ---------------------------------------------------------

    def param(self, *shape: int) -> int:
        """A new parameter, or an old one of that shape (weight tying)."""
        same = [i for i, p in enumerate(self.params) if p.shape == shape]
        if same and self.chance(0.2):
            return self.choose(same)
        value = self.rng.normal(size=shape) / max(shape[0] if shape else 1, 1) ** 0.5
        if self.chance(_COMPLEX):
            value = value + 1j * self.rng.normal(size=shape)
        self.params.append(value)
        return len(self.params) - 1

    def weight(self, *shape: int) -> Callable[[Sequence[Any]], Any]:
        """A parameter, or a function of parameters alone, as a function of all parameters."""
        from .weights import derived

        if self.chance(0.25):
            made = derived(self, shape)
            if made is not None:
                return made
        w = self.param(*shape)
        return lambda p: p[w]

    def constant(self, *shape: int) -> np.ndarray:
        """A known array, often the same along blocks, in signs of zero, or twice in a program."""
        n = int(np.prod(shape))
        kind = self.below(8)
        if kind == 0:
            flat = np.ones(n) * 0.7
        elif kind == 1:
            flat = np.where(np.arange(n) % 2, 0.0, -0.0)
        elif kind == 2:
            flat = np.where(np.arange(n) < n // 2, 0.4, 1.7)
        elif kind == 3:
            flat = np.arange(n) * 1.0
        elif kind == 4:
            flat = np.eye(1, n, self.below(n))[0]
        elif kind == 5:  # the same vector along all other axes
            return np.broadcast_to(np.linspace(0.3, 1.1, shape[-1]), shape)
        elif kind == 6:
            flat = np.cos(np.arange(n))
        else:
            flat = self.rng.normal(size=n)
        return flat.reshape(shape)

    def add(self, function: Step) -> None:
        """Append an operation (params, pool) → array if it runs and stays small."""

        def wide(params, pool):
            return _wide(function(params, pool))

        try:
            value = jax.eval_shape(wide, self.params, self.pool)
            fits = value.size <= _LARGEST and 0 < value.ndim <= _MOST_AXES and value.size
        except Exception:  # whatever jax says of what does not fit together
            return
        if fits:
            self.steps.append(wide)
            self.pool.append(value)

    def step(self) -> None:
        name = self.choose(list(OPERATIONS))
        before = len(self.steps)
        try:
            OPERATIONS[name](self)
        except UnfitError:
            return
        self.names += [name] * (len(self.steps) - before)

    def function(self) -> Callable:
        steps, n = list(self.steps), len(self.inputs)
        read = [*range(len(self.pool))[-3:], *(self.pick(1) for _ in range(2))]
        plain, seldom = self.below(5) == 0, self.below(5)

        def apply_fn(params, inputs):
            pool = list(inputs)
            for step in steps:
                pool.append(step(params, pool))
            assert len(pool) == n + len(steps)
            # Sums over everything keep every symmetry; a plain output fixes its axes.
            outputs = [jnp.sum(_bounded(pool[i])) for i in read]
            if plain:
                outputs.append(_bounded(pool[-1]))
            elif seldom == 0:
                outputs.append(jnp.sum(_bounded(pool[-1]), -1))
            return outputs

        return apply_fn


def _wide(v):
    """Numbers of 64 bits: what is computed from narrower ones is rounded more than is allowed."""
    for kind, dtype in ((jnp.complexfloating, complex), (jnp.floating, float)):
        if jnp.issubdtype(v.dtype, kind):
            return v.astype(dtype)
    return v.astype(int)


def _bounded(v):
    """Large values, and those that are not finite, do not hide the others."""
    return jnp.sin(2 * v / (1 + jnp.abs(v)) + 0.3)


OPERATIONS: dict[str, Callable[[Builder], None]] = {}


def operation(weight: int = 1):
    def register(function):
        for i in range(weight):
            OPERATIONS[f"{function.__name__}{i}"] = function
        return function

    return register
