"""How alike the corresponding units of two networks are, layer by layer (tatro2020, Fig. 1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _check, _check_model
from .._types import Params
from ..network.moments import Moments, moments
from ..network.network import Network
from ..network.pools import pools_of
from .activations import TAPS, checked_inputs, correlations


@_check.on_host
def correlation_signature(
    network: Network, a: Params, b: Params, x: Any, tap: str = "post", *, chunk: int = 500
) -> dict[str, float]:
    """The mean correlation of corresponding units, for every activation that units stand on.

    1/n Σ_i corr(z_i^a, z_i^b) (Eq. 3), over the batch and all positions. Align b first
    (`network.permute`) to see what alignment gains.

    **Arguments:** as `match_activations`.

    **Returns:** activation → mean correlation, in the order of the network; an activation is
    named after its groups, with a number where a group stands on several (a residual stream).

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a = {"w1": w1, "w2": w2}
        >>> x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
        >>> network = mcjax.trace(f, a, x)
        >>> mcjax.align.correlation_signature(network, a, a, x)
        {'w1': 1.0}
    """
    _check_model.network(network)
    _check.one_of(tap, TAPS, "tap")
    a, b = network.check_parameters(a=a, b=b)
    inputs, out = checked_inputs(network, x, chunk), dict[str, float]()
    which = range(len(pools_of(network, inputs, tap, ())[0]))
    for found in moments(network, a, b, inputs, tap, (), which):
        name = "+".join(network.by_atom[u].name for u in found.units)
        number = sum(k.split(" (")[0] == name for k in out) + 1
        label = f"{name} ({number})" if number > 1 else name
        out[label] = round(_mean_of_corresponding(found), 6)
    return out


def _mean_of_corresponding(found: Moments) -> float:
    units = math.prod(u.size for u in found.units)
    matrix = correlations(found).reshape(-1, units, units)
    return float(np.mean(np.diagonal(matrix, axis1=1, axis2=2)))
