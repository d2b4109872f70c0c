"""Weight matching: match units by their parameters (Ainsworth et al. 2023, Algorithm 1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._types import Params
from ..network.axes import Atom, atoms
from ..network.network import Network
from ..symmetry.permutation import compose
from .assignment import clusters
from .matching import Matching
from .parameters import Arrays, Products, float_arrays, inner_product, move, settle

_MAX_SWEEPS = 100


def match_weights(
    network: Network, a: Params, b: Params, *, key: jax.Array | None = None, restarts: int = 1
) -> Matching:
    """Permutations P that maximise ⟨θ_A, P θ_B⟩ by coordinate descent (Git Re-Basin, Alg. 1).

    Each step matches one group (with those inside it) exactly, all others held, on the sum over
    every parameter that touches it; sweeps in random order until none improves. This finds local
    optima: the first start matches layer after layer from the input with `match_butterflies`,
    further restarts begin at the identity with other orders, and the best is kept.

    **Arguments:**
    - `a`, `b`: parameters of the traced structure
    - `key`: order of the groups; the same key gives the same result (default `jax.random.key(0)`)
    - `restarts`: number of starts, at least 1

    **Returns:** a `Matching`; the objective is the inner product of the float parameters.

    **Raises:** `ValueError` for parameters that do not fit the network or hold NaN.

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
    network.check_parameters(a=a, b=b)
    key = jax.random.key(0) if key is None else key
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)  # old-style keys are their data
    rng = np.random.default_rng(np.asarray(key).ravel().tolist())
    arrays_a, arrays_b = (float_arrays(network.flatten(p, n)) for p, n in ((a, "a"), (b, "b")))
    outer = {g.atom: g.outer for g in network.groups.values()}
    groups = clusters(outer)
    before = inner_product(arrays_a, arrays_b)
    best: tuple[float, dict[str, np.ndarray], int] = (-np.inf, {}, 0)
    for start in range(restarts):
        products = Products(network, arrays_a, groups)
        first = settle(network, products, arrays_b, groups) if start == 0 else ({}, arrays_b)
        found, aligned, sweeps = _descend(network, products, groups, *first, rng)
        value = inner_product(arrays_a, aligned)
        if value > best[0]:
            best = (value, found, sweeps)
    value, found, sweeps = best
    return Matching(
        permutations={**network.identity_permutations(), **found},
        before={"total": before},
        after={"total": value},
        method="weight matching",
        status="local optimum",
        sweeps=sweeps,
        metadata={"restarts": restarts},
    )


def _descend(
    network: Network,
    products: Products,
    groups: list[list[Atom]],
    found: dict[str, np.ndarray],
    current: Arrays,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], Arrays, int]:
    """Coordinate descent from permutations and b permuted: (permutations, b permuted, sweeps)."""
    identity = network.identity_permutations()
    stale = set(range(len(groups)))  # clusters whose neighbours have moved since last matched
    neighbours = _neighbours(network, groups)
    for sweep in range(1, _MAX_SWEEPS + 1):
        order = [i for i in rng.permutation(len(groups)) if i in stale]
        if not order:
            return found, current, sweep - 1
        for i in order:
            stale.discard(i)
            names = [network.by_atom[atom].name for atom in groups[i]]
            problem = products.problem(current, i)
            before = problem.value({network.groups[n].atom: identity[n] for n in names})
            solved, value = problem.solve()
            if value - before <= 1e-6 * abs(before) + 1e-12:
                continue
            delta = {n: solved[network.groups[n].atom] for n in names}
            moved = move(network, delta, current)
            if _twice(network, groups[i]):
                gain = inner_product(products.a, moved) - inner_product(products.a, current)
                if gain <= 0:
                    continue  # a group on two axes of one parameter: the gain was not real
            current = moved
            products.moved(i, delta, current)
            found.update(compose(network, delta, {n: found.get(n, identity[n]) for n in names}))
            stale |= neighbours[i]
    return found, current, _MAX_SWEEPS


def _neighbours(network: Network, groups: list[list[Atom]]) -> list[set[int]]:
    """For each cluster, those that share a parameter with it."""
    of = {atom: i for i, cluster in enumerate(groups) for atom in cluster}
    out: list[set[int]] = [set() for _ in groups]
    for axes in network.leaf_axes:
        here = [of[x] for e in axes for x in atoms(e) if x in of]
        for i in set(here):
            out[i] |= {j for j in here if j != i}
            if here.count(i) > 1:
                out[i].add(i)
    return out


def _twice(network: Network, cluster: list[Atom]) -> bool:
    return any(
        sum(x is atom for e in axes for x in atoms(e)) > 1
        for axes in network.leaf_axes
        for atom in cluster
    )
