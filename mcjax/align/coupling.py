"""Units of networks of different widths coupled layer by layer (OTFusion; ferbach2023)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._readonly import make_read_only
from .._types import Params
from ..network.coupled import Couplings, carried_blocks, carry, check_same
from ..network.network import Network
from ..network.units import units_of
from ..transport import Exact, Problem, Solver, Unbalanced
from ..transport.solvers import as_solver
from .incoming import written_in_order


@dataclasses.dataclass(frozen=True, eq=False)
class Coupled:
    """Couplings of one network's units with another's, and the other at the one's widths.

    - `couplings`: group → (units of A, units of B), of sum 1; with `Unbalanced` what has gone
    - `distances`: group → W₂² between the two networks' incoming weights, those before coupled,
      where the status is `"optimal"`; else the cost of the coupling
    - `statuses`: group → what is known of its coupling, those before it given
    - `params`: B carried to A's widths; `mcjax.path.Linear(a, params)(0.5)` is the fusion
    """

    couplings: Mapping[str, np.ndarray]
    distances: Mapping[str, float]
    statuses: Mapping[str, str]
    params: Params

    def __post_init__(self) -> None:
        make_read_only(self, "couplings", "distances", "statuses")


@_check.on_host
def couple_incoming(
    network: Network, a: Params, other: Network, b: Params, *,
    solver: Solver | Unbalanced = Exact(),
    weights: Mapping[str, tuple[Any, Any]] | None = None,
) -> Coupled:  # fmt: skip
    """Couplings of each layer's units by their incoming weights, of networks of any widths.

    Π_ℓ = argmin Σ_ij Π_ij ‖w_i^A − w_j^B‖² between the two layers' units, B's inputs carried to A's
    units by the layers before; what writes a unit of A is then the mean of what writes those of
    B that are coupled with it, and what reads a unit of B is shared out among those of A (Singh and
    Jaggi 2020, OTFusion: barycentric projection). Of equal widths and with `Exact()` that is the
    permutation of `match_incoming`. Biases and outgoing weights do not count.

    **Arguments:**
    - `network`, `a`: of the one network, whose widths are kept
    - `other`, `b`: of the other, traced from the same model with other widths
    - `solver`: `Exact()`, `Sinkhorn(epsilon=…)` (ott-jax) for soft couplings, or
      `mcjax.transport.Unbalanced(penalty=…)`, where units far from all others, as dead ones may be,
      are left behind: what reads a unit of B is shared out as far as its weight has gone
    - `weights`: group → (weights of A's units, of B's), of one sum; default: uniform. A unit of
      weight 0, as a dead one, is coupled with nothing: of A it is zero then, of B it is left out

    **Returns:** `Coupled`.

    **Raises:** `ValueError` for networks that differ in more than widths, groups inside groups,
    groups that no layer writes which reads only coupled ones, parameters that do not fit or are not
    finite, and weights as `mcjax.transport.solve`.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
        >>> b = {"w1": jnp.repeat(jnp.eye(3), 2, 1), "w2": jnp.repeat(jnp.eye(3), 2, 0) / 2}
        >>> network, other = (mcjax.trace(f, p, jnp.eye(3)) for p in (a, b))
        >>> found = mcjax.align.couple_incoming(network, a, other, b)
        >>> found.params["w2"].round(3).tolist(), round(found.distances["w1"], 6)
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], 0.0)
    """
    for name, one in (("network", network), ("other", other)):
        _check_model.network(one, name)
    check_same(network, other)
    if not isinstance(solver, Unbalanced):
        solver = as_solver(solver)
    given = dict(weights or {})
    for name in given:
        _check.one_of(name, tuple(network.groups), "weights")
    (a,), (b,) = network.check_parameters(a=a), other.check_parameters(b=b)
    order, left = written_in_order(network)
    if left:
        raise ValueError(
            f"network: no layer writes group {left[0]!r} that reads only what is coupled before"
        )
    couplings: dict[str, np.ndarray] = {}
    masses: dict[str, np.ndarray] | None = {} if isinstance(solver, Unbalanced) else None
    distances, statuses = {}, {}
    for (name,), layers in order:
        leaves = sorted({network.layers[k].contraction.weight for k in layers})
        rows = [
            _rows(one, name, leaves, params, known, masses)
            for one, params, known in ((network, a, {}), (other, b, couplings))
        ]
        squares = [np.square(v).sum(1) for v in rows]
        cost = squares[0][:, None] - 2 * rows[0] @ rows[1].T + squares[1]
        of_a, of_b = given.get(name, (None, None))
        problem = Problem(np.maximum(cost, 0), of_a, of_b)
        found = solver.couple(problem)
        total = problem.b.sum() if masses is not None else found.coupling.sum()
        couplings[name] = found.coupling / total
        if masses is not None:
            masses[name] = problem.b / total
        distances[name], statuses[name] = float(found.value / total), found.status
    carried = carry(network, other, couplings, b, masses)
    return Coupled(couplings, distances, statuses, carried)


def _rows(
    network: Network, name: str, leaves: Sequence[int], params: Params, couplings: Couplings,
    masses: Mapping[str, Any] | None,
) -> np.ndarray:  # fmt: skip
    """(units, columns) of what writes a group on these leaves, the groups before carried over."""
    arrays, parts = jax.tree.leaves(params), []
    for leaf in leaves:
        array = np.asarray(arrays[leaf], np.float64)
        moved = carried_blocks(network, leaf, couplings, array, masses)
        for cell in units_of(network, name).cells:
            if cell.leaf == leaf and cell.written:
                (i,) = cell.layout.units
                block = np.moveaxis(moved[cell.block], i, 0)
                parts.append(block.reshape(len(block), -1))
    return np.concatenate(parts, 1)


__all__ = ["Coupled", "couple_incoming"]
