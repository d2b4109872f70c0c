"""What a merging method is given, what is asked of it, and what it gives back."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check_model
from .._readonly import make_read_only
from .._static import is_array, unpack
from .._tree import at_least_single, is_inexact
from .._types import Params
from ..network.network import Network
from ..tasks import CLASSIFICATION, Task


@dataclasses.dataclass(frozen=True)
class Each:
    """Inputs (or labels) of which every network has its own, as those it was trained on.

    - `values`: one pytree for each network

        >>> import numpy as np, mcjax
        >>> mcjax.merge.Each([np.ones((4, 3)), np.zeros((5, 3))]).values[1].shape
        (5, 3)
    """

    values: Sequence[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))

    def __iter__(self) -> Iterator[Any]:
        """All examples, as batches."""
        return iter(self.values)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Networks to merge, and what a method may use for it.

    - `network`: the traced network
    - `networks`: parameters of its structure, their units in one order, all finite
    - `base`: what all were trained from, in that order, or None
    - `weights`: of each network, at least 0, their sum is 1
    - `x`: inputs without marks, batched on axis 0, or None; `y`: their labels, or None; an `Each`
      of them where every network has its own
    - `task`: what the outputs are for
    - `key`: for random choices
    """

    network: Network
    networks: tuple[Params, ...]
    base: Params | None = None
    weights: tuple[float, ...] = ()
    x: Any = None
    y: Any = None
    task: Task = CLASSIFICATION
    key: jax.Array = dataclasses.field(default_factory=lambda: jax.random.key(0))

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", (1 / len(self.networks),) * len(self.networks))

    def data(self, i: int) -> tuple[Any, Any]:
        """(x, y) of network number i."""
        x, y = (v.values[i] if isinstance(v, Each) else v for v in (self.x, self.y))
        return x, y

    def mean(self) -> Params:
        """Σ_i w_i θ_i."""
        return self.leafwise(lambda number, theta, base: weighted_sum(self.weights, theta))

    def leaves(self) -> Iterator[tuple[int, Any, Any]]:
        """(Number, θ (n, …), base (…) or None) of each floating-point leaf.

        In float32 at least; NumPy's arrays on a CPU, and JAX's elsewhere.
        """
        trees = [self.network.flatten(p, f"networks[{i}]") for i, p in enumerate(self.networks)]
        base = None if self.base is None else self.network.flatten(self.base, "base")
        for number, leaves in enumerate(zip(*trees, strict=True)):
            if is_inexact(leaves[0]):
                wide = at_least_single(np.result_type(*(v.dtype for v in leaves)))
                xp: Any = np if all(map(_on_host, leaves)) else jnp
                theta = xp.stack([xp.asarray(v, wide) for v in leaves])
                yield number, theta, None if base is None else xp.asarray(base[number], wide)

    def leafwise(self, function: Callable[[int, Any, Any], Any], *, wide: bool = False) -> Params:
        """Parameters made leaf by leaf; what is not floating-point comes from the first network.

        **Arguments:**
        - `function`: of what `leaves` gives, → (…)
        - `wide`: whether the result stays in float32 at least; else it gets the first network's
          dtype

        **Raises:** `ValueError` for what is no array of the leaf's shape.

            >>> import jax.numpy as jnp, mcjax
            >>> f = lambda p, x: jnp.tanh(x @ p["w"])
            >>> a, b = ({"w": s * jnp.eye(2)} for s in (1.0, 3.0))
            >>> problem = mcjax.merge.Problem(mcjax.trace(f, a, jnp.ones((2, 2))), (a, b))
            >>> problem.leafwise(lambda number, theta, base: theta.max(0))["w"].tolist()
            [[3.0, 0.0], [0.0, 3.0]]
        """
        out = self.network.flatten(self.networks[0], "networks[0]")
        for number, theta, base in self.leaves():
            made = function(number, theta, base)
            if not is_array(made) or made.shape != theta.shape[1:]:
                came = f"shape {made.shape}" if is_array(made) else f"a {type(made).__name__}"
                raise ValueError(
                    f"function: {came} for leaf {self.network.leaf_names[number]!r}, expected an "
                    f"array of shape {theta.shape[1:]}"
                )
            made = made.astype(theta.dtype if wide else out[number].dtype)
            if isinstance(made, np.ndarray):
                made = jax.device_put(made, getattr(out[number], "sharding", None))
            out[number] = made
        return unpack(jax.tree.unflatten(self.network.treedef, out))


def gram(vectors: Any) -> np.ndarray:
    """⟨v_i, v_j⟩ (its real part) of arrays (n, …), in float64 where they are NumPy's."""
    flat = vectors.reshape(len(vectors), -1)
    if isinstance(flat, np.ndarray):
        flat = flat.astype(np.result_type(flat, np.float64))
        return np.real(flat.conj() @ flat.T)
    return np.asarray(jnp.matmul(flat.conj(), flat.T, precision="highest").real, np.float64)


def weighted_sum(weights: Any, theta: Any) -> Any:
    """Σ_i w_i θ_i of arrays (n, …), w floats or arrays (…)."""
    terms = [w * v for w, v in zip(weights, theta, strict=True)]
    return sum(terms[1:], terms[0])


def _on_host(leaf: Any) -> bool:
    """Whether NumPy sees a leaf without moving it: it compiles nothing."""
    if isinstance(leaf, np.ndarray):
        return jax.default_backend() == "cpu"
    devices = leaf.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


@dataclasses.dataclass(frozen=True, eq=False)
class Merging:
    """One network made of several: the result of `mcjax.merge.merge`.

    - `params`: its parameters
    - `permutations`: of each network's units, before they were merged; empty where none were moved
    - `alignment`: where those come from, in words: the status of the matching, `"as given"`, or
      why there was none
    - `statistics`: where statistics of batch normalisation come from, in words
    - `weights`: of the networks
    - `method`: the object that merged them; None after loading if it is of a class that no file can
      hold (`metadata["method"]` describes it)
    - `metadata`: label, options and source of the method, task, number of examples, key, seconds,
      versions
    """

    params: Params = dataclasses.field(repr=False)
    permutations: tuple[Mapping[str, np.ndarray], ...] = ()
    alignment: str = ""
    statistics: str = ""
    weights: tuple[float, ...] = ()
    method: Any = dataclasses.field(default=None, metadata={"saved": "if possible"})
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_read_only(self, "permutations", "metadata")

    def __repr__(self) -> str:
        label = self.metadata.get("label", "made by hand")
        return f"Merging({label}: {len(self.weights)} networks)"

    def summary(self) -> str:
        """How the network was made, a line for each thing worth knowing."""
        share = ", ".join(f"{w:.3g}" for w in self.weights)
        lines = [
            f"{self.metadata.get('label', 'made by hand')} of {len(self.weights)} networks",
            f"method: {self.metadata.get('method', self.method)}",
            f"weights: {share}",
            f"alignment: {self.alignment}",
            f"batch normalisation: {self.statistics}",
        ]
        return "\n".join(lines)


class Method(abc.ABC):
    """A way to merge networks. The methods of `mcjax.merge` are such; yours need not be.

    Any object that takes a `Problem` and returns parameters works in `mcjax.merge.merge` and on
    the command line (as `package.module:object`), a plain function too;
    `mcjax.testing.check_merging` tells what else results rely on. Of other attributes these are
    the defaults:

    - `label`: the name that a table shows (the name of the class, or of the function)
    - `source`: paper and section
    - `needs_base`: whether it needs what the networks were trained from
    - `needs_inputs`, `needs_labels`: whether it needs x, and y
    - `pairs_only`: whether it merges two networks and no more
    - `trains`: whether it trains a network, and so takes long: it is used only where it is named

        >>> import jax, jax.numpy as jnp, mcjax
        >>> def largest(problem):
        ...     "Of each parameter the network's in which it is largest."
        ...     return problem.leafwise(lambda number, theta, base: theta.max(0))
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a, b = ({"w1": s * jnp.eye(3), "w2": jnp.ones((3, 2))} for s in (1., 2.))
        >>> network = mcjax.trace(f, a, jnp.ones((2, 3)))
        >>> made = mcjax.merge.merge(network, [a, b], largest)
        >>> float(made.params["w1"].max()), made.metadata["label"]
        (2.0, 'largest')
    """

    label: Any  # of a class, or a property
    source = ""
    needs_base = False
    needs_inputs = False
    needs_labels = False
    pairs_only = False
    trains = False

    @abc.abstractmethod
    def __call__(self, problem: Problem) -> Params:
        """Merge."""


@dataclasses.dataclass(frozen=True)
class Traits:
    """What is asked of a method before it works; see `Method`."""

    label: str
    source: str
    needs_base: bool
    needs_inputs: bool
    needs_labels: bool
    pairs_only: bool
    trains: bool


def traits_of(method: Any, name: str = "method") -> Traits:
    """What a method says of itself, defaults where it says nothing.

    **Raises:** `ValueError` for what is no method.
    """
    if isinstance(method, type):
        raise ValueError(
            f"{name} is the class {method.__name__}; pass an object of it, {method.__name__}(…)"
        )
    if not callable(method) or not _check_model.takes(method, 1):
        raise ValueError(
            f"{name} must be the name of a preset or an object (or a function) that takes a "
            f"mcjax.merge.Problem and returns parameters, got a {type(method).__name__}"
        )
    default = getattr(method, "__name__", type(method).__name__)
    return Traits(
        str(getattr(method, "label", default)),
        str(getattr(method, "source", "")),
        *(bool(getattr(method, n, False))
          for n in ("needs_base", "needs_inputs", "needs_labels", "pairs_only", "trains")),
    )  # fmt: skip


__all__ = ["Each", "Merging", "Method", "Problem", "Traits", "gram", "traits_of", "weighted_sum"]
