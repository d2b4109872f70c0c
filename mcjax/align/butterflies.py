"""Optimal transport between the neurons of two networks (anokhin2020, Sec. 3.4; ferbach2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import _check, _check_model
from .._types import Params
from ..network.network import Network
from ..transport.solution import LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver, as_solver
from .arrays import float_arrays
from .descent import Descent
from .matching import Matching


@_check.on_host
def match_butterflies(
    network: Network,
    a: Params,
    b: Params,
    *,
    solver: Solver = Exact(),
    groups: Sequence[str] | None = None,
    leaves: Sequence[int] | None = None,
) -> Matching:
    """The bijection of b's neurons to a's of least squared Euclidean cost.

    A neuron's *butterfly* is its incoming row, bias and outgoing weights (anokhin2020, Fig. 1);
    P = argmin Σ_i ‖θ_i^a − θ_{P(i)}^b‖² is the optimal transport between the two empirical
    measures of neurons. In a deep network groups are matched one after the other, each on those
    of its weights whose other ends are matched already.

    **Arguments:**
    - `solver`: `mcjax.transport.Exact()` (SciPy) or `mcjax.transport.Sinkhorn(epsilon=…)`: the
      entropic plan of ott-jax, rounded to a permutation. At 2,000 neurons the exact one is the
      faster of the two on a CPU.
    - `groups`: names of the groups to match; the others stay and count as matched
    - `leaves`: numbers of the parameter leaves to compare (default: all), in the order of
      `jax.tree.leaves`

    **Returns:** a `Matching`; the objective is ‖θ_A − P θ_B‖² over all float parameters. One
    group (with those inside it) is matched optimally; several one after the other are a local
    optimum at best.

    **Raises:** `ValueError` for parameters that do not fit the network or are not finite, for
    unknown groups or leaves, and for what is no solver.

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
    _check_model.network(network)
    solver = as_solver(solver)
    a, b = network.check_parameters(a=a, b=b)
    names = tuple(network.groups) if groups is None else _names(groups)
    for name in names:
        _check.one_of(name, tuple(network.groups), "groups")
    chosen = range(len(network.leaf_names)) if leaves is None else leaves
    for leaf in chosen:
        if leaf not in range(len(network.leaf_names)):
            raise ValueError(
                f"leaves must be numbers of 0 … {len(network.leaf_names) - 1}, got {leaf!r}"
            )
    arrays_a, arrays_b = (
        [v if i in chosen else None for i, v in enumerate(float_arrays(network.flatten(p, n)))]
        for p, n in ((a, "a"), (b, "b"))
    )
    outer = {network.groups[n].atom: network.groups[n].outer for n in names}
    descent = Descent(network, arrays_a, arrays_b, outer, solver)
    norms = sum(descent.squares)
    before = _distance(norms, descent.value())
    descent.settle(refine=False)
    in_turn = ", layer by layer" if len(descent.groups) > 1 else ""
    return Matching(
        permutations={**network.identity_permutations(), **descent.found},
        before={"total": before},
        after={"total": _distance(norms, descent.value())},
        method=f"optimal transport of butterflies{in_turn}",
        status=worst(descent.status, OPTIMAL if descent.alone else LOCAL),
        minimised=True,
    )


def _names(groups: Sequence[str]) -> tuple[str, ...]:
    if isinstance(groups, str):
        raise ValueError(f"groups must be a sequence of names, got the string {groups!r}")
    return tuple(groups)


def _distance(norms: float, inner: float) -> float:
    """‖θ_A − θ_B‖², infinite where it is beyond float64."""
    return norms - 2 * inner if math.isfinite(norms) else math.inf
