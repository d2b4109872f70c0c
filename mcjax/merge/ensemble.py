"""Several networks as one, averaged in their predictions: WA-ensembles (anokhin2020, Sec. 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._inputs import per_example, unmark
from .._static import pack, unpack
from .._types import ApplyFn, Params
from ..adjust.adjustment import solve_along
from ..adjust.moments import Wanted
from ..adjust.stages import Plan
from ..network.axes import Atom
from ..network.linear import multiply_adds, shared_values
from ..network.model import Model
from ..network.network import Network
from ..network.program import run
from ..path import Partial
from ..tasks import CLASSIFICATION, accuracy


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks whose predictions are averaged, with the parameters that they share.

    - `networks`: parameter trees (packed: `mcjax/_static.py`); the leaves numbered in `shared` are
      the same in all
    - `flops`, `parameters`: multiply-adds for an example and numbers stored, as a share of those
      of as many independent networks
    """

    apply_fn: ApplyFn
    networks: tuple[Params, ...]
    shared: frozenset[int]
    flops: float
    parameters: float

    def __call__(self, x: Any) -> jax.Array:
        """The mean of the networks' softmax outputs, 1/n Σ_k softmax(f(θ_k, x)).

        What the networks share is computed once. Works under jit.
        """
        model = Model.of(self.apply_fn, self.networks[0], x)
        once = shared_values(model.program, model.n_leaves, (), self.shared).fixed
        data, given = jax.tree.leaves(x), {}
        if once is not None:
            leaves = jax.tree.leaves(self.networks[0])
            given = dict(zip(once.frontier, run(once.program, [*leaves, *data])[0], strict=True))
        outputs = [jax.nn.softmax(model.outputs(m, x, given)) for m in self.networks]
        return sum(outputs[1:], outputs[0]) / len(outputs)

    def accuracy(self, data: tuple[Any, Any], chunk: int = 500) -> float:
        """The share of examples whose label is the most probable; NaN where outputs are.

        **Arguments:**
        - `data`: (x, y), y integer classes or rows of probabilities

        **Raises:** `ValueError` for outputs or labels that are no classification's.
        """
        (x, y), n = _check.labelled(data)
        chunk = min(_check.positive(chunk, "chunk"), n)
        outputs = jax.eval_shape(lambda x: self.apply_fn(unpack(self.networks[0]), unmark(x)), x)
        CLASSIFICATION.check(outputs, y)
        apply, labels, right = jax.jit(self), np.asarray(y), 0.0
        for first in range(0, n, chunk):
            some = per_example(lambda v, i=first: jnp.asarray(v[i : i + chunk]), x)
            right += float(accuracy(apply(some), labels[first : first + chunk]).sum())
        return right / n


@_check.on_host
def independent(network: Network, networks: Sequence[Params]) -> Ensemble:
    """The usual ensemble of networks that share nothing."""
    networks = check_networks(network, networks, least=1)
    return Ensemble(network.apply_fn, tuple(networks), frozenset(), 1.0, 1.0)


@_check.on_host
def wa_ensemble(
    network: Network, networks: Sequence[Params], x: Any, *, layer: int = 1
) -> Ensemble:
    """Networks adjusted to the backbone of the first: WA(layer) of anokhin2020, Sec. 6.

    The features F_1 before a layer come from the first network; the layer of network k is solved
    to give its own outputs from them, W¹_k = W_k F_k F_1⁺, and the rest of network k follows.
    With skip connections every layer that reads the backbone's features is solved.

    If `layer` is 1, the last, outputs are linear in what differs, and the average of the adjusted
    weights is one network of the usual size (whose logits, not probabilities, are averaged).

    **Arguments:**
    - `network`: the traced network
    - `networks`: at least two parameter trees; the first is the backbone
    - `x`: training inputs to solve on, more of them than the layer has units
    - `layer`: counted from the last one, as in the paper: a larger one shares less

    **Returns:** an `Ensemble`; call it on inputs for probabilities.

    **Raises:** `ValueError` for what is no list of at least two networks, networks of another
    architecture, or a layer that there is not or that no group of units comes before.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> draw = lambda k, *shape: jax.random.normal(jax.random.key(k), shape)
        >>> nets = [{"w1": draw(i, 3, 8), "w2": draw(i + 9, 8, 2)} for i in range(3)]
        >>> x = draw(20, 50, 3)
        >>> made = mcjax.merge.wa_ensemble(mcjax.trace(f, nets[0], x), nets, x)
        >>> len(made.networks), round(made.flops, 3), made(x).shape
        (1, 0.333, (50, 2))
    """
    networks = check_networks(network, networks, least=2)
    x = network.inputs(x)
    _check.batched(x, "x")
    _check.finite(x, "x")
    plan, number = Plan(network), len(network.layers) - _check.positive(layer, "layer")
    before = _groups_before(plan, number)
    if number < 1 or not before:
        raise ValueError(
            f"layer: there is no backbone before layer {layer} from the last; the network has "
            f"{len(network.layers)} layers"
        )
    trees = [networks[0], *(_on_backbone(plan, n, networks[0], before, x) for n in networks[1:])]
    flat = [network.flatten(tree, "network") for tree in trees]
    shared = frozenset(i for i, leaves in enumerate(zip(*flat, strict=True))
                       if all(v is leaves[0] for v in leaves))  # fmt: skip
    n, (flops, size) = len(trees), _shares(network, shared)
    if layer == 1:
        mean = [jnp.mean(jnp.stack(leaves), 0) if i not in shared else leaves[0]
                for i, leaves in enumerate(zip(*flat, strict=True))]  # fmt: skip
        merged = jax.tree.unflatten(network.treedef, mean)
        everything = frozenset(range(len(mean)))
        return Ensemble(network.apply_fn, (merged,), everything, 1 / n, 1 / n)
    flops, size = ((share + n * (1 - share)) / n for share in (flops, size))
    return Ensemble(network.apply_fn, tuple(trees), shared, flops, size)


def _on_backbone(
    plan: Plan, member: Params, backbone: Params, before: frozenset[Atom], x: Any
) -> Params:
    """A network with the groups in `before` computed by the backbone."""
    network = plan.network
    leaves: list[Any] = plan.mixed(
        network.flatten(member, "network"), network.flatten(backbone, "backbone"), before
    )
    wanted = [Wanted(n, plan.like(n, before)) for n in plan.solvable if not plan.exact(n, before)]
    path = Partial(jax.tree.unflatten(network.treedef, leaves), ())
    if wanted:
        solved = solve_along(network, path, [0.0], wanted, (member, backbone), x)
        for i, values in solved.leaves.items():
            leaves[i] = jax.device_put(values[0])
    return jax.tree.unflatten(network.treedef, leaves)


def _groups_before(plan: Plan, number: int) -> frozenset[Atom]:
    """The groups first written before a layer."""
    early = [plan.writes(n) for n in range(max(number, 0))]
    found = [s.groups for s in plan.stages if any(s.groups & written for written in early)]
    return frozenset().union(*found)


def _shares(network: Network, shared: frozenset[int]) -> tuple[float, float]:
    """The shares of multiply-adds and of parameters that lie before any leaf that differs."""
    model = Model.of(network.apply_fn, network.template,
                     network.input_types)  # fmt: skip
    program = model.program
    differs = {v for i, v in enumerate(program.inputs[: model.n_leaves]) if i not in shared}
    common = total = 0.0
    for equation in program.equations:
        own = bool(differs.intersection(equation.inputs))
        if own:
            differs.update(equation.outputs)
        if equation.name in ("dot_general", "conv_general_dilated"):
            work = multiply_adds(program, equation)
            total, common = total + work, common + (0 if own else work)
    sizes = [int(np.prod(t.shape)) for t in network.leaf_types]
    return common / max(total, 1.0), sum(sizes[i] for i in shared) / sum(sizes)


def check_networks(network: Network, networks: Sequence[Params], least: int) -> list[Params]:
    """The parameter trees, packed; raise unless they are a sequence of enough of them."""
    _check_model.network(network, "network")
    one = jax.tree.structure(pack(networks, "networks")) == network.treedef
    if isinstance(networks, str) or not isinstance(networks, Sequence) or one:
        got = "one tree of parameters" if one else f"a {type(networks).__name__}"
        raise ValueError(f"networks must be a list of parameter trees, [a, b, …], got {got}")
    if len(networks) < least:
        what = "network" if least == 1 else "networks"
        raise ValueError(f"networks: at least {least} {what} needed, got {len(networks)}")
    return network.check_parameters(**{f"networks[{i}]": p for i, p in enumerate(networks)})


__all__ = ["Ensemble", "independent", "wa_ensemble"]
