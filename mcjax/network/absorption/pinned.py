"""A model some of whose leaves are constants, whatever parameters it is given."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..._static import pack, unpack
from ..._types import ApplyFn, Params


@dataclasses.dataclass(frozen=True)
class Pinned:
    """`apply_fn` with a number in every entry of some leaves, which it then does not read.

    - `pins`: (number of the leaf, the number), …
    """

    apply_fn: ApplyFn
    pins: tuple[tuple[int, float], ...]

    def __call__(self, params: Params, x: Any) -> Any:
        leaves, treedef = jax.tree.flatten(pack(params))
        for i, value in self.pins:
            leaves[i] = jnp.full(leaves[i].shape, value, leaves[i].dtype)
        return self.apply_fn(unpack(jax.tree.unflatten(treedef, leaves)), x)


__all__ = ["Pinned"]
