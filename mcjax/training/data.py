"""Data sets that training takes batches of: on the host, on disk, or on the device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._inputs import is_shared, type_of, unmark
from .._static import unpack
from .._types import ApplyFn, Params
from ..attacks import Attack
from ..tasks import Task, require

# How much of a data set is gathered at a time.
BLOCK_BYTES = 64 * 2**20
# Data sets up to this size stay on an accelerator.
_DEVICE_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Layout:
    """How (x, y) is put together of what is batched and what all examples share."""

    treedef: Any
    shared: tuple[bool, ...]

    def join(self, batched: Any, shared: Any) -> tuple[Any, Any]:
        one, other = iter(batched), iter(shared)
        leaves = [next(other) if s else next(one) for s in self.shared]
        return jax.tree.unflatten(self.treedef, leaves)


class Data:
    """(x, y) of which batches are taken; only a block of them is ever copied.

    A traced network in the place of `model` knows which inputs all examples share.

    - `n`: the number of examples
    - `layout`: of batched and shared leaves; `shared`: the latter

    **Raises:** `ValueError` if x and y are not batched alike.
    """

    def __init__(self, data: Any, model: Any = None) -> None:
        if hasattr(model, "groups") and isinstance(data, tuple | list) and len(data) == 2:
            data = (model.inputs(data[0]), data[1])
        (self.x, self.y), self.n = _check.labelled(data)
        leaves, treedef = jax.tree.flatten((self.x, self.y), is_leaf=is_shared)
        flags = tuple(is_shared(v) or not np.shape(v) for v in leaves)
        self.layout = Layout(treedef, flags)
        self.shared = [v for v, s in zip(leaves, flags, strict=True) if s]
        self.given = [v for v, s in zip(leaves, flags, strict=True) if not s]

    @cached_property
    def batched(self) -> list[Any]:
        """The batched leaves, on an accelerator where they are small; else on the host."""
        if jax.default_backend() == "cpu":  # the host's memory: NumPy takes rows without compiling
            return [v if _is_keys(v) else np.asarray(v) for v in self.given]
        small = sum(v.nbytes for v in self.given) <= _DEVICE_BYTES
        return [jax.device_put(v) if small else v for v in self.given]

    def steps(self, batch: int) -> int:
        """The number of batches in an epoch; raise if there is none."""
        if self.n < batch:
            raise ValueError(f"data: {self.n} examples are fewer than one batch of {batch}")
        return self.n // batch

    def check(self, task: Task, apply_fn: ApplyFn, params: Params, attack: Attack | None) -> None:
        """Raise unless outputs and labels are the task's, and inputs those of an attack."""
        require(task)
        _check_model.function(apply_fn, "apply_fn")
        outputs = jax.eval_shape(lambda p, x: apply_fn(unpack(p), unmark(x)), params, self.x)
        _check_model.outputs(outputs)
        task.check(jax.eval_shape(task.outputs, outputs), unmark(self.y))
        if attack is not None:
            attack.check(self.x)

    def rows(self, indices: np.ndarray) -> list[Any]:
        """The examples of these numbers, of every batched leaf; shape (*indices.shape, …)."""
        return [
            v[indices] if isinstance(v, jax.Array) else np.asarray(np.take(v, indices, 0))
            for v in self.batched
        ]

    def example(self, batch: int) -> tuple[Any, Any]:
        """The types of a batch."""
        types = [jax.ShapeDtypeStruct((batch, *v.shape[1:]), type_of(v).dtype) for v in self.given]
        return self.layout.join(types, self.shared)

    def blocks(
        self, order: np.ndarray, beside: Callable[[np.ndarray], Any]
    ) -> Iterator[tuple[Any, int]]:
        """(block, number of steps in it) of an epoch; every block is of the same shape.

        **Arguments:**
        - `order`: (steps, …, batch) numbers of examples
        - `beside`: numbers of steps → what a step is given besides its batch
        """
        steps = len(order)
        one = sum(v.nbytes // len(v) for v in self.given) * math.prod(order.shape[1:])
        parts = -(-steps // max(1, min(steps, BLOCK_BYTES // max(1, one))))
        size = -(-steps // parts)
        for first in range(0, steps, size):
            numbers = np.minimum(np.arange(first, first + size), steps - 1)
            yield (self.rows(order[numbers]), beside(numbers)), min(size, steps - first)


def _is_keys(v: Any) -> bool:
    return jnp.issubdtype(v.dtype, jax.dtypes.prng_key)
