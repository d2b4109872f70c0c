"""Layers matched one after the other by what comes into their units (ferbach2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._tree import at_least_single, is_inexact
from .._types import Params
from ..adjust.second_moments import LayerMoment, second_moments
from ..network.action import Action
from ..network.network import Layer, Network
from ..network.units import choose
from ..transport.solution import LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver, as_solver
from ..transport.terms import clusters
from .butterflies import match_butterflies
from .matching import Matching

_NONE = "no layer writes it that reads only what is matched before"


@_check.on_host
def match_incoming(
    network: Network,
    a: Params,
    b: Params,
    x: Any = None,
    *,
    both: bool = False,
    solver: Solver = Exact(),
    chunk: int | None = None,
) -> Matching:
    """Permutations of each layer's units by their incoming weights, layers in order.

    P_ℓ = argmin Σ_i (w_i^A − w_{P(i)}^B)ᵀ Σ (w_i^A − w_{P(i)}^B), that is argmax ⟨W_A Σ, P W_B⟩,
    with B's inputs in the order that the layers before have been matched to, and

    - Σ = 1 without `x`: the naive weight matching of ferbach2023;
    - Σ = E[z zᵀ] with `x`: the uncentred second moment of what the layer reads in network A, so
      that weights count as far as data uses them; an embedding reads one-hot vectors of tokens, and
      its rows count as often as their tokens come;
    - with `both`, the mean of A's and B's, Σ = ½ (Σ_A + P Σ_B Pᵀ), B's in the order that the layer
      before has been matched to: then A and B may be exchanged. (Not in the paper.)

    Biases and outgoing weights do not count. A group that several layers write is matched on all of
    those whose inputs are matched before it.

    **Arguments:**
    - `a`, `b`: parameters of the traced structure
    - `x`: inputs batched on axis 0; one pass for each network where moments fit in 1 GiB. Random
      ones, where there are no data, say what the layers before do to them.
    - `both`: moments of both networks, which needs `x`
    - `solver`: of the assignments
    - `chunk`: examples at a time; default: as many as fit in 128 MiB

    **Returns:** a `Matching`; `before` and `after` are for each group W₂² between the two networks'
    incoming weights in the metric Σ (the mean over units), the layers before it matched. Its
    `statuses` say whether a group's coupling is optimal given those before it; the whole is no
    optimum of anything but for one group.

    **Raises:** `ValueError` for parameters that do not fit or are not finite, for inputs that are
    empty or not finite, for `both` without `x`, and with `x` for layers that have no second moment
    (inside loops, shared weights).

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a, b = {"w1": w1, "w2": w2}, {"w1": w1[:, ::-1], "w2": w2[::-1]}
        >>> x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
        >>> network = mcjax.trace(f, a, x)
        >>> mcjax.align.match_incoming(network, a, b, x).permutations["w1"].tolist()
        [3, 2, 1, 0]
    """
    _check_model.network(network)
    solver = as_solver(solver)
    a, b = network.check_parameters(a=a, b=b)
    if both and x is None:
        raise ValueError("both: the moments of both networks are over inputs, and x is None")
    order, left = written_in_order(network)
    layers = [k for _, layers in order for k in layers]
    metric = _Metric(network, (a, b) if both else (a,), x, layers, chunk)
    found = dict(network.identity_permutations())
    before, after, statuses = {}, {}, dict.fromkeys(left, "unmatched")
    moved = b
    for names, layers in order:
        leaves = sorted({metric.leaf(k) for k in layers})
        label = "+".join(names)
        size = max(int(np.prod(network.groups[n].shape)) for n in names)
        inputs = Action.of(network, found)
        before[label] = metric.distance(a, moved, inputs, names, leaves) / size
        weights = metric.times(a, inputs, leaves)
        step = match_butterflies(
            network, weights, moved, solver=solver, groups=names, leaves=leaves
        )
        chosen = {n: np.asarray(step.permutations[n]) for n in names}
        moved, found = network.permute(chosen, moved), found | chosen
        after[label] = metric.distance(a, moved, inputs, names, leaves) / size
        statuses.update(dict.fromkeys(names, step.status))
    for of in (before, after):
        of["total"] = sum(of.values())
    one = worst(*(s for s in statuses.values() if s != "unmatched"), OPTIMAL)
    return Matching(
        permutations=found,
        before=before,
        after=after,
        method="incoming weights" + ("" if x is None else " in the metric of the inputs"),
        status="incomplete" if left else one if len(order) < 2 else worst(one, LOCAL),
        minimised=True,
        statuses=statuses,
        unmatched=dict.fromkeys(left, _NONE),
    )


def written_in_order(network: Network) -> tuple[list[tuple[list[str], list[int]]], list[str]]:
    """(groups matched together, numbers of the layers to match them by) in order, and the rest."""
    together = [
        [network.by_atom[atom].name for atom in cluster]
        for cluster in clusters({g.atom: g.outer for g in network.groups.values()})
    ]
    order, matched = [], set()
    while True:
        ready = [
            (min(layers), names, layers)
            for names in together
            if (layers := _written(network.layers, set(names), matched)) and names[0] not in matched
        ]
        if not ready:
            return order, [n for n in network.groups if n not in matched]
        _, names, layers = min(ready, key=lambda r: r[0])
        order.append((names, layers))
        matched.update(names)


def _written(layers: Sequence[Layer], names: set[str], matched: set[str]) -> list[int]:
    """Layers that write units of these groups and read only units that are matched."""
    return [
        k for k, layer in enumerate(layers)
        if names.intersection(layer.groups_out) and matched.issuperset(layer.groups_in)
    ]  # fmt: skip


class _Metric:
    """Inner products of incoming weights in the metric of what layers read in A, or in A and B.

    B's inputs stand in B's order, and `inputs` is the action that puts them in A's.
    """

    def __init__(
        self, network: Network, of: Sequence[Params], x: Any, layers: Sequence[int],
        chunk: int | None,
    ) -> None:  # fmt: skip
        self.network = network
        wanted = sorted(set(layers))  # none, where no layer has two units
        self.moments = [
            {self.leaf(m.layer): m for m in second_moments(network, params, x, wanted, chunk)}
            if x is not None and wanted else {}
            for params in of
        ]  # fmt: skip

    def leaf(self, layer: int) -> int:
        """The number of a layer's weight."""
        return self.network.layers[layer].contraction.weight

    def times(self, params: Params, inputs: Action, leaves: Sequence[int]) -> Params:
        """The parameters with Σ W in the place of these weights W."""
        products = [self._times(params, self.moments[0], leaves)]
        for moments in self.moments[1:]:
            products.append(inputs(self._times(inputs.inverse()(params), moments, leaves)))
        # Counters and keys are no part of it.
        mean = lambda *v: sum(v) / len(v) if is_inexact(v[0]) else v[0]  # noqa: E731
        return jax.tree.map(mean, *products)

    def _times(
        self, params: Params, moments: Mapping[int, LayerMoment], numbers: Sequence[int]
    ) -> Params:
        leaves, treedef = jax.tree.flatten(params)
        for i in moments.keys() & set(numbers):
            weights = moments[i].times(moments[i].weights(leaves[i]))
            wide = np.asarray(leaves[i], at_least_single(leaves[i].dtype))  # Σ W may be large
            leaves[i] = moments[i].form.place(wide, weights)
        return jax.tree.unflatten(treedef, leaves)

    def distance(
        self, a: Params, b: Params, inputs: Action, names: Sequence[str], leaves: Sequence[int]
    ) -> float:
        """Σ ‖w^A − w^B‖²_Σ over the entries of these leaves that hold units of these groups."""
        apart, treedef = jax.tree.flatten(a)
        of_b = jax.tree.leaves(b)
        for i in leaves:
            v = np.asarray(apart[i], np.float64) - np.asarray(of_b[i], np.float64)
            apart[i] = choose(self.network, i, names, v, np.zeros_like(v))
        products = self.times(jax.tree.unflatten(treedef, apart), inputs, leaves)
        metric = jax.tree.leaves(products)
        return sum(float(np.vdot(apart[i], metric[i])) for i in leaves)


__all__ = ["match_incoming", "written_in_order"]
