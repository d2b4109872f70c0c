"""Weight matching: match units by their parameters (Ainsworth et al. 2023, Algorithm 1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._types import Params, Permutations
from ..network.network import Network
from .descent import Descent
from .matching import Matching
from .parameters import float_arrays, inner_product

_ROUNDING = 1e-7


def match_weights(
    network: Network,
    a: Params,
    b: Params,
    *,
    key: jax.Array | None = None,
    restarts: int = 1,
    init: Matching | Permutations | None = None,
) -> Matching:
    """Permutations P that maximise ⟨θ_A, P θ_B⟩ by coordinate descent (Git Re-Basin, Alg. 1).

    Each step matches one group (with those inside it), all others held, on the sum over every
    parameter that touches it; sweeps in random order until none improves. This finds local
    optima. The start matches layer after layer from the inputs and outputs inwards, as
    `match_butterflies` does, and corrects what has been matched by what comes after.

    A step is an exact assignment (SciPy), with one exception: groups of one outer group that
    stand on one parameter and do not depend on each other (what a grouped convolution reads and
    what it writes) are assigned in turns for each pair of outer units, which may end in a local
    optimum. So no array has more entries than a parameter, or than (units of an axis)².

    **Arguments:**
    - `a`, `b`: parameters of the traced structure
    - `key`: order of the groups; the same key gives the same result (default `jax.random.key(0)`)
    - `restarts`: at least 1; each further one settles every group anew together with all groups
      it shares parameters with, and keeps what is better
    - `init`: where to start from, a matching (of activations, say) or permutations of b's units

    **Raises:** `ValueError` for parameters that do not fit the network or hold NaN, for an `init`
    that is no permutation of its groups.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a, b = {"w1": w1, "w2": w2}, {"w1": w1[:, ::-1], "w2": w2[::-1]}
        >>> x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
        >>> network = mcjax.trace(f, a, x)
        >>> mcjax.align.match_weights(network, a, b).permutations["w1"].tolist()
        [3, 2, 1, 0]
    """
    _check.positive(restarts, "restarts")
    a, b = network.check_parameters(a=a, b=b)
    start = init.permutations if isinstance(init, Matching) else init or {}
    try:
        network.check_permutations(start)
    except ValueError as error:
        raise ValueError(f"init: {error}") from None
    key = jax.random.key(0) if key is None else key
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)  # old-style keys are their data
    rng = np.random.default_rng(np.asarray(key).ravel().tolist())
    arrays_a, arrays_b = (float_arrays(network.flatten(p, n)) for p, n in ((a, "a"), (b, "b")))
    outer = {g.atom: g.outer for g in network.groups.values()}
    descent = Descent(network, arrays_a, arrays_b, outer)
    before = descent.value()
    if init is None:
        descent.settle()
    else:
        descent.go_to(start)
    sweeps = descent.descend(rng)
    norms = [inner_product(v, v) ** 0.5 for v in (arrays_a, arrays_b)]
    for _ in range(restarts - 1):
        if descent.value() >= (1 - _ROUNDING) * norms[0] * norms[1]:
            break  # Cauchy–Schwarz: there is nothing better
        sweeps += descent.block_moves(rng)
    return Matching(
        permutations={**network.identity_permutations(), **descent.found},
        before={"total": before},
        after={"total": descent.value()},
        method="weight matching",
        status="local optimum",
        sweeps=sweeps,
        metadata={"restarts": restarts},
    )
