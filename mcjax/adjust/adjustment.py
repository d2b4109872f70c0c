"""Weights that make a network's layer reproduce another network's outputs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._readonly import make_read_only
from .._static import unpack
from .._stream import is_batches
from .._types import Params
from ..network.network import Layer, Network
from ..path import Partial, Path
from .form import MatrixForm, matrix_form
from .moments import Wanted, inputs_of, moments_along, samples_per_example
from .solve import solve


@dataclasses.dataclass(frozen=True)
class LayerStatus:
    """How a layer's least squares came out.

    - `units`: inputs of the layer; `samples`: what they are seen on (in a convolution every
      position of every image); `rank`: how many of them are independent on the data (the
      least over a batch of problems); `residual`: ‖XW − Y‖² / ‖Y‖² (the largest)
    """

    units: int
    samples: int
    rank: int
    residual: float

    def describe(self) -> str:
        """Its rank and residual, in words."""
        return f"rank {self.rank} of {self.units}, relative residual {self.residual:.3g}"


@dataclasses.dataclass(frozen=True)
class Adjustment:
    """Adjusted parameters, and a status for each layer solved."""

    params: Params
    layers: Mapping[str, LayerStatus]

    def __post_init__(self) -> None:
        make_read_only(self, "layers")

    def summary(self) -> str:
        """A line a layer."""
        width = max(map(len, self.layers))
        return "\n".join(f"{name:<{width}}  {s.describe()}" for name, s in self.layers.items())


@_check.on_host
def solve_layers(
    network: Network, params: Params, like: Params, x: Any, *, layers: Sequence[str]
) -> Adjustment:
    """Solve layers so that on x they output what they do in another network.

    W = argmin ‖W X(θ) − W' X(θ')‖² for each layer, with X(θ) the layer's inputs in the network
    θ = `params` and W', X(θ') weights and inputs in θ' = `like` (anokhin2020, Eq. 10: W' X(θ')
    X(θ)⁺). Biases stay. Everything else of `params` stays too; several layers are solved on the
    inputs they have if those before them reproduce theirs. Batch normalisation in `params` is by
    the statistics of x, as in `mcjax.evaluate`.

    **Arguments:**
    - `network`: `mcjax.trace(apply_fn, params, x)`
    - `params`: parameters with the inputs to work with
    - `like`: parameters with the outputs to reproduce
    - `x`: inputs batched on axis 0 (memory maps are never read whole by the device), or an
      iterable of batches (no list); more examples than the layers have units
    - `layers`: names in `network.layers`

    **Returns:** an `Adjustment`. Rank deficiency (dead or duplicated units, few samples) is
    handled and in its status; fewer samples than units warn, as what fits them need not hold
    for others.

    **Raises:** `ValueError` for a layer that is unknown or cannot be solved for (an embedding, a
    layer in a loop, a weight with other uses), parameters that do not fit, an empty batch, a layer
    that reads NaN.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> x, w = jnp.eye(4), jnp.ones((4, 1))
        >>> a, b = {"w1": jnp.eye(4), "w2": w}, {"w1": 2 * jnp.eye(4), "w2": w}
        >>> done = mcjax.adjust.solve_layers(mcjax.trace(f, a, x), a, b, x, layers=["w2"])
        >>> done.params["w2"].round(4).ravel().tolist()
        [2.0, 2.0, 2.0, 2.0]
    """
    _check_model.network(network)
    params, like = network.check_parameters(params=params, like=like)
    if not is_batches(x):
        x = network.inputs(x)
        _check.batched(x, "x")
        _check.finite(x, "x")
    wanted = [Wanted(layer_number(network, name), 0) for name in layers]
    if not wanted:
        raise ValueError("layers is empty: there is nothing to solve for")
    solved = solve_along(network, Partial(params, ()), [0.0], wanted, (like,), x)
    status = dict(zip(layers, solved.status[0], strict=True))
    warn_of_few_samples(status)
    leaves = network.flatten(params, "params")
    for i, values in solved.leaves.items():
        leaves[i] = jax.device_put(values[0])
    return Adjustment(unpack(jax.tree.unflatten(network.treedef, leaves)), status)


def warn_of_few_samples(layers: Mapping[str, LayerStatus]) -> None:
    """Warn whoever called what calls this of fits that are exact for want of examples."""
    for name, s in layers.items():
        if s.samples < s.units:
            warnings.warn(
                f"{s.samples} samples for the {s.units} units of layer {name!r}: the fit is exact "
                "on them and means little elsewhere; pass more inputs",
                stacklevel=4,
            )


@dataclasses.dataclass(frozen=True)
class Solved:
    """Layers solved at many t: leaf number → (T, …) weights, and for each t and layer a status."""

    leaves: Mapping[int, np.ndarray]
    status: list[list[LayerStatus]]


def solve_along(
    network: Network,
    path: Path,
    ts: Sequence[float],
    wanted: Sequence[Wanted],
    references: Sequence[Params],
    x: Any,
    *,
    forced: Sequence[Wanted] = (),
) -> Solved:
    """Solve layers at each t of a path; see `moments_along` for the arguments."""
    program, found = network.analysis.program, [network.layers[w.layer] for w in wanted]
    layouts = [matrix_form(program, layer, layer.contraction) for layer in found]
    inputs = inputs_of(network, x, wanted)
    base = _base(path, float(ts[0]), found, layouts)
    leaves: dict[int, list[np.ndarray]] = {c.contraction.weight: [] for c in found}
    status: list[list[LayerStatus]] = []
    normals = moments_along(network, path, ts, wanted, references, inputs, forced=forced)
    for at_t in normals:
        status.append([])
        for layer, form, batch in zip(found, layouts, at_t, strict=True):
            if not all(normal.is_finite() for normal in batch):
                raise ValueError(
                    f"x: what layer {layer.name!r} reads or should give is NaN (as the rows of "
                    "tokens outside of a table are), or too large to be squared"
                )
            solutions = [solve(normal) for normal in batch]
            number = layer.contraction.weight
            weights = np.stack([s.weights for s in solutions])
            leaves[number].append(form.place(base[number], weights))
            assert inputs.n is not None  # they have been gone through
            samples = int(inputs.n * samples_per_example(network, layer, form))
            rank, residual = min(s.rank for s in solutions), max(s.residual for s in solutions)
            status[-1].append(LayerStatus(form.index.shape[1], samples, rank, residual))
    return Solved({i: np.stack(v).astype(base[i].dtype) for i, v in leaves.items()}, status)


def _base(
    path: Path, t: float, layers: Sequence[Layer], layouts: Sequence[MatrixForm]
) -> dict[int, np.ndarray]:
    """Weight leaf by number → what it holds at t where no solution is put in."""
    types = jax.tree.leaves(jax.eval_shape(path.at, t))
    numbers = [layer.contraction.weight for layer in layers]
    if all(form.index.size == types[i].size for i, form in zip(numbers, layouts, strict=True)):
        return {i: np.zeros(types[i].shape, types[i].dtype) for i in numbers}  # all is put in
    leaves = jax.tree.leaves(path.at(t))
    return {i: np.asarray(leaves[i]) for i in numbers}


def layer_number(network: Network, name: str) -> int:
    """The position of a layer in `network.layers`."""
    names = [layer.name for layer in network.layers]
    if name not in names:
        raise ValueError(f"layers: unknown layer {name!r}; the layers are {', '.join(names)}")
    return names.index(name)
