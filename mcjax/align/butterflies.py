"""Optimal transport between the neurons of two networks (anokhin2020, Sec. 3.4; ferbach2023)."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _check
from .._types import Params
from ..network.network import Network
from ..transport.assignment import SOLVERS
from .descent import Descent
from .matching import Matching
from .parameters import float_arrays, inner_product


def match_butterflies(
    network: Network,
    a: Params,
    b: Params,
    *,
    solver: str = "exact",
    groups: Sequence[str] | None = None,
    leaves: Sequence[int] | None = None,
) -> Matching:
    """The bijection of b's neurons to a's of least squared Euclidean cost.

    A neuron's *butterfly* is its incoming row, bias and outgoing weights (anokhin2020, Fig. 1);
    P = argmin Σ_i ‖θ_i^a − θ_{P(i)}^b‖² is the optimal transport between the two empirical
    measures of neurons. In a deep network groups are matched one after the other, each on those
    of its weights whose other ends are matched already.

    **Arguments:**
    - `solver`: `"exact"` (SciPy) or `"sinkhorn"`: the entropic plan of ott-jax, rounded to a
      permutation. At 2,000 neurons the exact one is the faster of the two on a CPU.
    - `groups`: names of the groups to match; the others stay and count as matched
    - `leaves`: numbers of the parameter leaves to compare (default: all), in the order of
      `jax.tree.leaves`

    **Returns:** a `Matching`; the objective is ‖θ_A − P θ_B‖² over all float parameters.

    **Raises:** `ValueError` for parameters that do not fit the network or hold NaN.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a, b = {"w1": w1, "w2": w2}, {"w1": w1[:, ::-1], "w2": w2[::-1]}
        >>> x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
        >>> network = mcjax.trace(f, a, x)
        >>> matching = mcjax.align.match_butterflies(network, a, b)
        >>> matching.permutations["w1"].tolist(), matching.after["total"] < 1e-5
        ([3, 2, 1, 0], True)
    """
    a, b = network.check_parameters(a=a, b=b)
    _check.one_of(solver, tuple(SOLVERS), "solver")
    names = tuple(network.groups) if groups is None else tuple(groups)
    for name in names:
        _check.one_of(name, tuple(network.groups), "groups")
    arrays_a, arrays_b = (
        [v if leaves is None or i in leaves else None
         for i, v in enumerate(float_arrays(network.flatten(p, n)))]
        for p, n in ((a, "a"), (b, "b"))
    )  # fmt: skip
    outer = {network.groups[n].atom: network.groups[n].outer for n in names}
    descent = Descent(network, arrays_a, arrays_b, outer)
    norms = inner_product(arrays_a, arrays_a) + inner_product(arrays_b, arrays_b)
    before = norms - 2 * descent.value()
    descent.settle(refine=False, assigner=SOLVERS[solver])
    after = norms - 2 * descent.value()
    status = "layer by layer" if len(descent.groups) > 1 else solver
    if status == "exact" and not descent.exact:
        status = "local optimum"
    return Matching(
        permutations={**network.identity_permutations(), **descent.found},
        before={"total": before},
        after={"total": after},
        method="optimal transport of butterflies",
        status="entropic" if status == "sinkhorn" else status,
        minimised=True,
    )
