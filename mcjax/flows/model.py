"""A global connection model: trained on a set of networks, it connects any two like them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import paramax

from .._tree import linear_combination
from .._types import Params
from ..network.network import Network
from ..path import Path, static, time
from .architecture import Architecture, skeleton, with_arrays
from .rows import Rows


class FlowPath(Path):
    """ψ(t) = ν⁻¹[cos(π/2 t) ν(X) + sin(π/2 t) ν(Y)] for the neurons X, Y of two networks (Eq. 7).

    ν(X) and ν(Y) are computed once. Parameters that belong to no neuron go along a segment.
    Made by `ConnectionModel.connect`.
    """

    costly = True
    a: Params
    b: Params
    latent_a: Mapping[str, jax.Array]
    latent_b: Mapping[str, jax.Array]
    arrays: Mapping[str, list[jax.Array]]
    architecture: Architecture = static()
    rows: Rows = static()

    def __init__(
        self, a: Params, b: Params, arrays: Mapping[str, list[jax.Array]],
        architecture: Architecture, rows: Rows,
    ) -> None:  # fmt: skip
        self._set(a=a, b=b, arrays=dict(arrays), architecture=architecture, rows=rows)
        for dim in rows.dims.values():
            skeleton(architecture, dim)
        for name, params in (("latent_a", a), ("latent_b", b)):
            found = {g: _to_latent(architecture, self.arrays[g], r)
                     for g, r in rows.take(params).items()}  # fmt: skip
            self._set(**{name: found})

    def at(self, t: Any) -> Params:
        t = time(t)
        cosine, sine = jnp.sin(jnp.pi / 2 * (1 - t)), jnp.sin(jnp.pi / 2 * t)
        rows = {
            g: from_latent(
                self.architecture, self.arrays[g], cosine * self.latent_a[g] + sine * latent
            )
            for g, latent in self.latent_b.items()
        }
        line = linear_combination((1 - t, t), (self.a, self.b))
        # ν⁻¹(ν(X)) is X to rounding only.
        return jax.tree.map(
            lambda end, inside: jnp.where((t == 0) | (t == 1), end, inside),
            line,
            self.rows.put(rows, line),
        )


def _bijection(architecture: Architecture, arrays: list[jax.Array], dim: int) -> Any:
    return paramax.unwrap(with_arrays(architecture, dim, arrays))


def _to_latent(architecture: Architecture, arrays: list[jax.Array], rows: jax.Array) -> jax.Array:
    return jax.vmap(_bijection(architecture, arrays, rows.shape[1]).transform)(rows)


def from_latent(architecture: Architecture, arrays: list[jax.Array], z: jax.Array) -> jax.Array:
    return jax.vmap(_bijection(architecture, arrays, z.shape[1]).inverse)(z)


@dataclasses.dataclass(frozen=True)
class ConnectionModel:
    """A trained ν for each group of a network; `mcjax.save` and `mcjax.load` keep it.

    - `method`: which it is for: `"iaf-flow"`, `"realnvp-flow"`, `"realnvp-bijection"`
    - `architecture`: of every ν; `arrays`: group name → its arrays; `rows`: what makes up a neuron
    - `losses`: (steps,) training loss; `metadata`: how it was trained
    """

    method: str
    architecture: Architecture
    rows: Rows
    arrays: Mapping[str, list[jax.Array]]
    losses: np.ndarray
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def connect(self, network: Network, a: Params, b: Params) -> FlowPath:
        """The path between two networks of the kind that the model was trained on.

        **Raises:** `ValueError` where neurons have rows of another length than the model's.
        """
        a, b = network.check_parameters(a=a, b=b)
        rows = Rows.of(network)
        if rows != self.rows:
            raise ValueError(
                f"the connection model is for neurons with rows of {_describe(self.rows)}; this "
                f"network has {_describe(rows)}: train a model on networks of its architecture"
            )
        return FlowPath(a, b, self.arrays, self.architecture, self.rows)


def _describe(rows: Rows) -> str:
    return ", ".join(f"{n} ({group})" for group, n in rows.dims.items()) or "no neurons"
