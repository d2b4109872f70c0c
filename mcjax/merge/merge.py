"""`mcjax.merge.merge`: one call for every merging method."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._inputs import length, unmark
from .._static import pack, unpack
from .._tree import is_inexact
from .._types import Params, Permutations
from .._version import versions
from ..align import match_many
from ..evaluation import estimate_batch_norm
from ..network.model import replace_leaves
from ..network.network import Network
from ..tasks import CLASSIFICATION, Task, require
from .ensemble import check_networks
from .named import method_of
from .problem import Each, Merging, Problem, Traits, traits_of

_Aligned = tuple[list[Params], tuple[dict[str, np.ndarray], ...], str]


@_check.on_host
def merge(
    network: Network,
    networks: Sequence[Params],
    method: Any = "soup",
    *,
    base: Params | None = None,
    permutations: Sequence[Permutations] | None = None,
    weights: Sequence[float] | None = None,
    x: Any = None,
    y: Any = None,
    task: Task = CLASSIFICATION,
    key: jax.Array | None = None,
) -> Merging:
    """One network of several, with a method of the literature or one of your own.

    Units are brought to one order first: by `permutations`, if they are given; else, if there is a
    `base`, not at all, as networks that were fine-tuned from it have kept its order; else by
    `mcjax.align.match_many`.

    Methods are objects of `mcjax.merge`, with their options; `mcjax.merge.PRESETS` has the papers'
    under short names:

    - `"soup"`, `Soup()`: the mean
    - `"slerp"`, `Slerp(over=…)`: two networks on the great circle between them
    - `"fisher"`, `Fisher(labels=…)`: the mean, each entry weighted by its Fisher information
    - `"regmean"`, `RegMean(alpha=…)`: every layer by least squares on what it reads
    - `"zipit"`, `ZipIt()`: the most correlated units of two networks in pairs, within each too
    - `"pleas"`, `Pleas()`: two networks' layers by least squares on means of their units
    - `"task-arithmetic"`, `TaskArithmetic(scale=…)`: base + λ Σ_i τ_i, τ_i = θ_i − base
    - `"ties"`, `Ties(density=…, scale=…)`: the τ_i trimmed, averaged where their signs agree
    - `"dare-linear"`, `"dare-ties"`, `Dare(TaskArithmetic(), drop=…)`: entries of the τ_i dropped
      at random first
    - `"model-stock"`, `ModelStock()`: the mean and the base, by the angle between the τ_i
    - `"star"`, `Starlight(protocol=…)`: joined with all by segments of low loss (`star`); it trains
    - any function of a `Problem` that returns parameters: see `mcjax.merge.Method`

    Statistics of batch normalisation are no method's: those that are not the same in all networks
    are estimated from x, if there is one, and averaged if not (estimate them then before use,
    `mcjax.evaluation.estimate_batch_norm`). Leaves that are not floating-point are the first
    network's, and must be the same in all if the model reads them.

    **Arguments:**
    - `network`: the traced network
    - `networks`: at least one parameter tree of its structure
    - `method`: an object, or the name of a preset
    - `base`: parameters that all networks were trained from
    - `permutations`: P_i of each network, as `network.permute` takes them
    - `weights`: of each network, at least 0 and of sum 1; default: equal
    - `x`: inputs batched on axis 0, or an `Each` of every network's own, for methods that look at
      data
    - `y`: labels of x, for methods that need them (an `Each` where x is one)
    - `task`: what the outputs are for
    - `key`: for random choices, those of the matching too (default `jax.random.key(0)`)

    **Returns:** a `Merging`: its `.params` are parameters like any others.

    **Raises:** `ValueError` for an unknown method, parameters that do not fit the network, NaN,
    a base, inputs or labels that are missing, more than two networks where a method takes two,
    weights that are none.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
        >>> b = {"w1": jnp.eye(3)[:, ::-1], "w2": jnp.eye(3)[::-1]}
        >>> network = mcjax.trace(f, a, jnp.ones((2, 3)))
        >>> made = mcjax.merge.merge(network, [a, b])
        >>> bool((made.params["w1"] == a["w1"]).all()), made.permutations[1]["w1"].tolist()
        (True, [2, 1, 0])
    """
    start = time.perf_counter()
    trees = check_networks(network, networks, least=1)
    chosen, task = method_of(method), require(task)
    traits = traits_of(chosen)
    shares = _weights(weights, len(trees))
    if traits.pairs_only and len(trees) != 2:
        raise ValueError(f"networks: {traits.label} merges two networks, got {len(trees)}")
    if base is not None:
        (base,) = network.check_parameters(base=base)
    elif traits.needs_base:
        raise ValueError(
            f"{traits.label} needs what the networks were trained from: pass parameters as base=…, "
            "on the command line --base"
        )
    x = _inputs(network, traits, task, x, y, len(trees))
    draws: jax.Array = _check.random_key(jax.random.key(0) if key is None else key)
    trees, moved, alignment = _aligned(network, trees, permutations, base is not None, draws)
    named = {f"networks[{i}]": p for i, p in enumerate(trees)}
    _same_integers(network, named if base is None else named | {"base": base})
    problem = Problem(
        network, tuple(map(unpack, trees)), None if base is None else unpack(base), shares, x, y,
        task, draws,
    )  # fmt: skip
    (made,) = network.check_parameters(**{f"what {traits.label} returned": chosen(problem)})
    made = jax.tree.map(
        lambda v, like: v.astype(like.dtype) if is_inexact(v) else v, made, trees[0]
    )
    made, statistics = _with_statistics(problem, made, trees)
    return Merging(
        unpack(made),
        moved,
        alignment,
        statistics,
        shares,
        method=chosen,
        metadata={
            "label": traits.label,
            "method": repr(chosen),
            "source": traits.source,
            "task": None if y is None else task.name,  # without labels nobody has asked it
            "examples": None if x is None else sum(map(length, _each(x))),
            "key": np.asarray(_check.key_data(draws)).ravel().tolist(),
            "seconds": time.perf_counter() - start,
            **versions(),
        },
    )


@_check.on_host
def soup(
    network: Network,
    networks: Sequence[Params],
    *,
    permutations: Sequence[Permutations] | None = None,
    key: jax.Array | None = None,
) -> Params:
    """The uniform soup 1/n Σ_i P_i θ_i: the parameters of `merge(network, networks, "soup")`.

    Statistics of batch normalisation are averaged too; estimate them again
    (`mcjax.evaluation.estimate_batch_norm`) before use.

    **Arguments:** those of `merge`.

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
    return merge(network, networks, "soup", permutations=permutations, key=key).params


def _weights(weights: Sequence[float] | None, n: int) -> tuple[float, ...]:
    if weights is None:
        return (1 / n,) * n
    values = [_check.real(w, f"weights[{i}]", 0.0, 1.0) for i, w in enumerate(weights)]
    if len(values) != n:
        raise ValueError(f"weights: {len(values)} for {n} networks, expected one for each")
    if abs(sum(values) - 1) > 1e-6:
        raise ValueError(f"weights must have the sum 1, got {sum(values):g}")
    return tuple(values)


def _each(value: Any) -> Sequence[Any]:
    return value.values if isinstance(value, Each) else (value,)


def _inputs(network: Network, traits: Traits, task: Task, x: Any, y: Any, n: int) -> Any:
    """The inputs without marks; raise if the method needs what is not there."""
    if traits.needs_inputs and x is None:
        raise ValueError(f"{traits.label} looks at activations: pass inputs as x=…")
    if traits.needs_labels and y is None:
        raise ValueError(f"{traits.label} needs labels: pass them as y=…")
    for name, value in (("x", x), ("y", y)):
        if isinstance(value, Each) and len(value.values) != n:
            raise ValueError(f"{name}: {len(value.values)} for {n} networks, expected one for each")
    if x is None:
        return None
    if y is not None and isinstance(x, Each) != isinstance(y, Each):
        raise ValueError("x and y must both be an Each, or none of them")

    def apply(params: Params, v: Any) -> Any:
        return network.apply_fn(unpack(params), unmark(v))

    inputs = [network.inputs(v) for v in _each(x)]
    for i, v in enumerate(inputs):
        name = f"x[{i}]" if isinstance(x, Each) else "x"
        _check.batched(v, name)
        _check.finite_inputs(v, name)
        if y is not None:
            _check.labelled((v, _each(y)[i]))
        if traits.needs_labels:
            types = jax.eval_shape(apply, network.template, v)
            task.check(task.outputs(types), _each(y)[i])
    return Each(inputs) if isinstance(x, Each) else inputs[0]


def _aligned(
    network: Network, trees: list[Params], given: Any, has_base: bool, key: jax.Array
) -> _Aligned:
    """(Networks in one order, the permutations, where these come from)."""
    if given is None and has_base:
        return trees, (), "none, the networks have their base's order"
    if given is None and len(trees) == 1:
        return trees, (), "none, there is one network"
    if given is None:
        matching = match_many(network, trees, key=key)
        given, how = matching.permutations, matching.status
    else:
        how = "as given"
    if len(given) != len(trees):
        raise ValueError(
            f"permutations: {len(given)} for {len(trees)} networks, expected one for each"
        )
    found = [network.check_permutations(p) for p in given]
    moved = [network.permute(p, v) for p, v in zip(found, trees, strict=True)]
    return moved, tuple({n: np.asarray(v) for n, v in p.items()} for p in found), how


def _same_integers(network: Network, trees: Mapping[str, Params]) -> None:
    """Raise if what is not floating-point, and read by the model, is not the same in all."""
    program = network.analysis.program
    read = {o for e in program.equations for o in e.inputs if isinstance(o, int)}
    read.update(o for o in program.outputs if isinstance(o, int))
    columns = zip(*map(jax.tree.leaves, trees.values()), strict=True)
    for name, value, leaves in zip(network.leaf_names, program.inputs, columns, strict=False):
        if is_inexact(leaves[0]) or value not in read:
            continue
        for tree, leaf in zip(trees, leaves, strict=True):
            if not np.array_equal(_plain(leaves[0]), _plain(leaf)):
                raise ValueError(
                    f"{tree}: leaf {name!r} is of {leaf.dtype}, which cannot be averaged, "
                    "and must be the same in all networks; it differs from networks[0]'s"
                )


def _plain(leaf: Any) -> np.ndarray:
    typed = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return np.asarray(jax.random.key_data(leaf) if typed else leaf)


def _with_statistics(problem: Problem, made: Params, trees: Sequence[Params]) -> tuple[Params, str]:
    """The merged network with statistics of batch normalisation, and where they come from."""
    network, columns = problem.network, [*zip(*map(jax.tree.leaves, trees), strict=True)]
    every = sorted(network.normalisations.leaves)
    if not every:
        return made, "none"
    alike = {i for i in every if all(np.array_equal(columns[i][0], v) for v in columns[i])}
    mean = jax.tree.leaves(pack(problem.mean()))
    found = {i: columns[i][0] if i in alike else mean[i] for i in every}
    made = replace_leaves(made, found)
    if len(alike) == len(every):
        return made, "the same statistics in all networks"
    if problem.x is None:
        return made, "means of the networks' statistics: estimate them before use"
    estimated = jax.tree.leaves(pack(estimate_batch_norm(network, made, problem.x)))
    return replace_leaves(made, {i: estimated[i] for i in every if i not in alike}), (
        f"statistics estimated from {sum(map(length, _each(problem.x)))} examples"
    )


__all__ = ["merge", "soup"]
