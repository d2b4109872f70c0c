"""The mean of networks whose units have been brought to a common order."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from .. import _check
from .._static import unpack
from .._tree import linear_combination
from .._types import Params, Permutations
from ..align import match_many
from ..network.network import Network
from .ensemble import check_networks


@_check.on_host
def soup(
    network: Network,
    networks: Sequence[Params],
    *,
    permutations: Sequence[Permutations] | None = None,
    key: jax.Array | None = None,
) -> Params:
    """The uniform soup 1/n Σ_i P_i θ_i of networks brought to a common order of units.

    Statistics of batch normalisation are averaged too; estimate them again
    (`mcjax.evaluation.estimate_batch_norm`) before use.

    **Arguments:**
    - `networks`: parameter trees of the traced structure
    - `permutations`: P_i of each network; default: cycle-consistent ones, by
      `mcjax.align.match_many`
    - `key`: of that matching

    **Returns:** one parameter tree.

    **Raises:** `ValueError` for no networks, or not one set of permutations for each.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
        >>> b = {"w1": jnp.eye(3)[:, ::-1], "w2": jnp.eye(3)[::-1]}
        >>> network = mcjax.trace(f, a, jnp.ones((2, 3)))
        >>> bool((mcjax.merge.soup(network, [a, b])["w1"] == a["w1"]).all())
        True
    """
    networks = check_networks(network, networks, least=1)
    if permutations is None and len(networks) > 1:
        permutations = match_many(network, networks, key=key).permutations
    if permutations is not None:
        if len(permutations) != len(networks):
            raise ValueError(
                f"permutations: {len(permutations)} for {len(networks)} networks, expected one "
                "for each"
            )
        networks = [network.permute(p, v) for p, v in zip(permutations, networks, strict=True)]
    return unpack(linear_combination([1 / len(networks)] * len(networks), networks))
