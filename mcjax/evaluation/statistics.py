"""Whose batch-normalisation statistics the networks of a family are run with: a choice.

In evaluation mode a model computes (h − mean) / √(var + ε); the statistics of h in a network on a
path are neither end point's. By default they are a mixture of the end points' own; or they are
estimated (`batch_norm.py`); or they are given.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._inputs import length, unmark
from .._static import is_array
from .._stream import Inputs, is_batches
from .._types import ApplyFn, Params
from ..network import chunks
from ..network.batch_norm import StatisticLeaves
from ..network.network import Network
from ..path import Family, Path
from ..path._base import count
from .batch_norm import estimate_along, inputs_of, require_statistics, roles_of, types_of
from .pieces import Piece, as_coordinates, pieces, t_batch_for, time_grid
from .worth import Worth


class StatisticsWarning(UserWarning):
    """Networks between others are run with BatchNorm statistics that are not theirs."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Batch-normalisation statistics along a path: the result of `batch_norm_along`.

    - `t`: (T,) points in [0, 1]
    - `leaves`: leaf number, as in `jax.tree.leaves` → (T, …) means or variances; leaves that are
      not among them stay what they are in the points of the path: `Statistics(t, {})` changes none
    - `source`: where they come from, in words
    """

    t: np.ndarray
    leaves: Mapping[int, jax.Array]
    source: str = "as given"

    def at(self, which: np.ndarray) -> dict[int, jax.Array]:
        """Those of some of the points."""
        return {i: v[which] for i, v in self.leaves.items()}

    def check(self, ts: Any) -> None:
        """Raise unless they are those of the points `ts`."""
        if not np.array_equal(self.t, ts):
            raise ValueError(
                f"statistics: estimated at {len(self.t)} other points than the {count(ts)} of t"
            )


@_check.on_host
def batch_norm_along(
    path: Path, model: ApplyFn | Network, x: Any, t: int | Any = 25, *, chunk: int = 500,
    t_batch: int | None = None,
) -> Statistics:  # fmt: skip
    """Batch-normalisation statistics of the networks along a path, estimated from x.

    What `mcjax.evaluate` does with `statistics=x`, once for several evaluations: on the training
    and the test set, clean and attacked. A normaliser of the raw inputs whose statistics are the
    same in both end points is part of the model and stays as it is.

    **Arguments:**
    - `path`, `model`, `t`, `chunk`, `t_batch`: as in `mcjax.evaluate`
    - `x`: inputs batched on axis 0, usually those of the training (memory maps too, which no device
      holds whole), or an iterable of batches of them (no list, which is a tree)

    **Returns:** `Statistics`, to be passed to `mcjax.evaluate` for the same path and t.

    **Raises:** `ValueError` if the model normalises by no stored statistics, and as
    `mcjax.evaluate`.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: (x @ p["w"] - p["mean"]) / jnp.sqrt(p["var"] + 1e-5)
        >>> a = {"w": jnp.eye(2), "mean": jnp.zeros(2), "var": jnp.ones(2)}
        >>> b = {**a, "w": -jnp.eye(2)}
        >>> path, x, y = mcjax.path.Linear(a, b), jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.arange(2)
        >>> found = mcjax.evaluation.batch_norm_along(path, f, x, 3)
        >>> mcjax.evaluate(path, f, (x, y), 3, statistics=found).accuracy.tolist()
        [0.0, 0.5, 1.0]
    """
    ts = time_grid(t)
    here, inputs = as_coordinates(path, ts), inputs_of(model, x, chunk)
    types = types_of(inputs)
    require_statistics(path, model, types, here)
    batch = t_batch_for(path, here, t_batch)
    choice = choose(path, model, types, here, inputs, t_batch=batch)
    apply_fn = _check_model.apply_fn_of(model)
    worth = Worth(apply_fn, path, here, types, length(types), choice.replaced, inputs.n)
    found: dict[int, np.ndarray] = {}
    parts = pieces(path, ts, worth.pays)
    choice.passes(len(parts))
    for part in parts:
        piece = part.at_hand()
        for i, values in choice.at(piece).items():
            whole = found.setdefault(i, np.empty((len(ts), *values.shape[1:]), values.dtype))
            whole[piece.which] = values
    return Statistics(ts, {i: jnp.asarray(v) for i, v in found.items()}, choice.source)


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What an evaluation does about stored statistics.

    - `source`: whose they are, in words; `"none"` for a model without any
    - `given`: leaf number → (T, …) values at hand
    - `estimated`: numbers of the leaves that are estimated
    - `inputs`: what they are estimated from, or None for none
    - `in_sweep`: whether the sweep itself estimates all of them
    - `mixed`: whether networks that are not among those whose statistics these are have them
    """

    source: str
    given: Mapping[int, Any] = dataclasses.field(default_factory=dict)
    estimated: frozenset[int] = frozenset()
    inputs: Inputs | None = None
    apply_fn: ApplyFn | None = None
    t_batch: int = 1
    in_sweep: bool = False
    mixed: bool = False

    @property
    def replaced(self) -> frozenset[int]:
        """Numbers of the leaves that do not come from the family."""
        return self.estimated.union(self.given)

    @property
    def more_examples(self) -> int | None:
        """Inputs that are gone through besides the data, None if nobody knows how many."""
        return 0 if self.inputs is None or self.in_sweep else self.inputs.n

    @property
    def programs(self) -> int:
        """How many are compiled for a part of a family."""
        return 1 if self.more_examples == 0 else 2

    def passes(self, parts: int) -> None:
        """Raise unless the inputs can be gone through for each of the parts of a family."""
        if self.inputs is not None and not self.in_sweep:
            self.inputs.passes(parts, f"a path in {parts} pieces")

    def at(self, piece: Piece) -> dict[int, jax.Array]:
        """Leaf number → values that stand in for those of a piece's points."""
        given = {i: jax.device_put(v[piece.which]) for i, v in self.given.items()}
        if self.inputs is None or self.in_sweep:
            return given
        assert self.apply_fn is not None
        found = estimate_along(
            piece.family, self.apply_fn, self.inputs, piece.coordinates, given, t_batch=self.t_batch
        )
        return found | given

    def warn(self, stacklevel: int) -> None:
        """Warn if networks are run with statistics that are not theirs."""
        if self.mixed:
            warnings.warn(
                "the model normalises by stored statistics (BatchNorm), and between the end points "
                "they are a mixture of the end points' own, which are not those of the networks "
                "there. To estimate them at every point pass inputs, as statistics=x_train",
                StatisticsWarning,
                stacklevel=stacklevel + 1,
            )


def choose(
    family: Family, model: ApplyFn | Network, x: Any, coordinates: Any, statistics: Any = None, *,
    chunk: int = 500, t_batch: int = 1, in_sweep: bool = False,
) -> Choice:  # fmt: skip
    """Whose statistics the points of a family are run with.

    **Arguments:**
    - `x`: inputs of the data, or their types: a batch to trace the model with
    - `statistics`: None for those of `Family.mixture`, inputs to estimate from (or batches of
      them), or `Statistics`
    - `in_sweep`: whether the sweep can estimate all by itself, in the pass that it makes anyway
    - others as in `mcjax.evaluate`

    **Returns:** a `Choice`. What is estimated leaves out normalisers of the raw inputs whose
    statistics are the same in all of the family's own networks: these are part of the model.
    """
    if isinstance(statistics, Statistics):
        statistics.check(coordinates)
        return Choice(statistics.source, statistics.leaves)
    if statistics is None:
        return _own(family, model, x, coordinates)
    if isinstance(statistics, Inputs):
        inputs = statistics
    elif is_batches(statistics):
        inputs = inputs_of(model, statistics, chunk, "statistics")
        _check_kind(inputs.first(), x)
    else:
        _check_kind(statistics, x)
        inputs = inputs_of(model, statistics, chunk, "statistics")
    roles = roles_of(family, model, types_of(inputs), coordinates)
    if not roles.leaves:
        return Choice("none")
    number = "batches of" if inputs.n is None else f"{inputs.n:,}"
    source = f"estimated at every point from {number} inputs"
    kept = _kept(family, roles, coordinates)
    if kept:
        source += "; those of the inputs' normaliser, the same in all networks, are kept"
    return Choice(
        source, kept, roles.leaves.difference(kept), inputs, _check_model.apply_fn_of(model),
        t_batch, in_sweep and not kept,
    )  # fmt: skip


def _check_kind(given: Any, x: Any) -> None:
    """Raise unless what statistics are estimated from is as x."""
    if not _same_kind(unmark(given), unmark(x)):
        raise ValueError(
            f"statistics must be inputs such as x, which is {_kind(x)}, or Statistics of "
            f"mcjax.evaluation.batch_norm_along; got {_kind(given)}"
        )


def _same_kind(x: Any, y: Any) -> bool:
    """Whether two inputs have the same structure and numbers of axes."""
    if jax.tree.structure(x) != jax.tree.structure(y):
        return False
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    return all(np.ndim(u) == np.ndim(v) for u, v in pairs)


def _kind(value: Any) -> str:
    if is_array(value):
        return f"an array of shape {np.shape(value)}"
    of = f" of {len(value)}" if isinstance(value, tuple | list | dict) else f", {value!r}"
    return f"a {type(value).__name__}{of}"


def _own(family: Family, model: ApplyFn | Network, x: Any, coordinates: Any) -> Choice:
    """The networks' own, mixed."""
    types = chunks.types(x, min(500, _check.batched(x, "x")))
    roles = roles_of(family, model, types, coordinates)
    if not roles.leaves:
        return Choice("none")
    mixture = family.mixture(coordinates)
    if mixture is None:
        return Choice("those that the points hold")
    inside = bool((np.max(mixture[1], -1) < 1).any())
    source = "the end points' own, mixed: (1 − t) A + t B"
    if not isinstance(family, Path):
        source = "the networks' own, mixed"
    return Choice(source, _mixed(mixture, roles.leaves), mixed=inside)


def _kept(family: Family, roles: StatisticLeaves, coordinates: Any) -> dict[int, np.ndarray]:
    """Statistics of the raw inputs that are the same in all networks: leaf → (T, …)."""
    mixture = family.mixture(coordinates) if roles.of_inputs else None
    if mixture is None:
        return {}
    first, *others = (jax.tree.leaves(n) for n in mixture[0])
    same = set()
    for pair in roles.of_inputs:
        if all(np.array_equal(first[i], v[i]) for i in pair for v in others):
            same.update(pair)
    return _mixed(mixture, same)


def _mixed(
    mixture: tuple[Sequence[Params], np.ndarray], numbers: Collection[int]
) -> dict[int, np.ndarray]:
    """Leaf number → (T, …) combinations of the networks' leaves, exact where one weight is 1."""
    networks, weights = mixture
    leaves = [jax.tree.leaves(n) for n in networks]
    out = {}
    for i in sorted(numbers):
        stacked = np.stack([np.asarray(v[i]) for v in leaves]).astype(np.float64)
        mixed = np.tensordot(weights, stacked, 1)
        out[i] = mixed.astype(leaves[0][i].dtype)
    return out
