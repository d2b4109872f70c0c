"""What a method is given, what is asked of it, and what it gives back."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .. import _check_model
from .._readonly import make_read_only
from .._types import Params
from ..adjust.adjustment import LayerStatus
from ..network.action import Action
from ..network.network import Network
from ..path import Path
from ..tasks import CLASSIFICATION, Task

# What a method needs of the inputs: none, some thousands, or as many as there are.
NEEDS = ("no", "sample", "all")


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Two networks to connect, and what a method may use for it.

    - `network`: the traced network; `a`, `b`: parameters of its structure, all finite
    - `x`: inputs without marks, batched on axis 0, or None; `y`: their labels, or None
    - `key`: for random choices
    - `task`: what the outputs are for: loss and metrics
    """

    network: Network
    a: Params
    b: Params
    x: Any = None
    y: Any = None
    key: jax.Array = dataclasses.field(default_factory=lambda: jax.random.key(0))
    task: Task = CLASSIFICATION


@dataclasses.dataclass(frozen=True)
class Leg:
    """How a leg came about: its stage's groups, and the state of each layer solved at each t."""

    groups: tuple[str, ...]
    t: np.ndarray
    layers: Mapping[str, list[LayerStatus]]

    def __post_init__(self) -> None:
        make_read_only(self, "t", "layers")


@dataclasses.dataclass(frozen=True, eq=False)
class Connection:
    """A path between two networks and how it came about: the result of `mcjax.connect`.

    A method of one's own returns `Connection(path)`, or `Connection(path, permutations)` if the
    path ends at B with its units in another order; `mcjax.connect` fills in the rest.

    - `path`: from A to `action(b)`
    - `permutations`: group name → index array; empty: the path ends at B itself
    - `elements`: what is done to B's units after they are permuted, as in `Action.of`
    - `status`: what is known of the result: `"closed form"` (nothing was searched for),
      `"least squares"` (layers solved, see `legs`), `"trained"`, `"not finite"` (a training loss
      was NaN or infinite), or the status of the matching behind it
    - `legs`: rank and residual of every weight adjustment
    - `method`: the object that made it; None after loading if it is of a class that no file can
      hold (`metadata["method"]` describes it)
    - `metadata`: label and options of the method, form of the network (`network.form`), task,
      number of examples, key, seconds, versions
    """

    path: Path
    permutations: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    status: str = "closed form"
    legs: tuple[Leg, ...] = ()
    elements: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    method: Any = dataclasses.field(default=None, metadata={"saved": "if possible"})
    network: Network | None = dataclasses.field(default=None, repr=False)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_read_only(self, "permutations", "elements", "metadata")

    def __repr__(self) -> str:
        made = self.metadata.get("label", "made by hand")
        moved = sum(self.moved.values())
        end = f", ends at B with {moved} units in another place" if self.permutations else ""
        return f"Connection({made}: {self.status}; {type(self.path).__name__}{end})"

    @property
    def action(self) -> Action:
        """The action that brings B to the end of the path: `action(b)` is there.

        **Raises:** `ValueError` for a connection without a network, not made by `mcjax.connect`.
        """
        if self.network is None:
            raise ValueError(
                "network is None: an action belongs to a network; connections of mcjax.connect "
                "have theirs, a loaded one takes it from like="
            )
        return Action.of(self.network, self.permutations, self.elements)

    @property
    def moved(self) -> dict[str, int]:
        """Group name → how many units of B stand in another place, for groups with any."""
        counts = {
            name: int((np.asarray(p) != np.arange(np.shape(p)[-1])).sum())
            for name, p in self.permutations.items()
        }
        return {name: n for name, n in counts.items() if n}

    def summary(self) -> str:
        """How the path was made, a line for each thing worth knowing."""
        made = self.metadata.get("label", type(self.path).__name__)
        lines = [f"{made}: {self.status}", f"method: {self.method!r}", f"path: {self.path!r}"]
        if self.metadata.get("form", "plain") != "plain":
            lines.append(f"form of the networks: {self.metadata['form']}")
        if self.permutations:
            units = sum(np.size(p) for p in self.permutations.values())
            lines.append(
                f"ends at B with {sum(self.moved.values())} of {units} units in another place "
                f"({len(self.permutations)} groups)"
            )
        if self.elements:
            kinds = dict.fromkeys(kind for of in self.elements.values() for kind in of)
            lines.append(f"and moved by {len(self.elements)} groups' elements: {', '.join(kinds)}")
        for leg in self.legs:
            for name, states in leg.layers.items():
                residual = max(s.residual for s in states)
                ranks = sorted({s.rank for s in states})
                lines.append(
                    f"{name}: solved at {len(states)} t, rank {_range(ranks)} of "
                    f"{states[0].units}, residual at most {residual:.3g}"
                )
        facts = [f"{k} {self.metadata[k]}" for k in ("task", "examples") if self.metadata.get(k)]
        if "seconds" in self.metadata:
            facts.append(f"{self.metadata['seconds']:.1f} s")
        return "\n".join([*lines, *([", ".join(facts)] if facts else [])])


def _range(values: list[int]) -> str:
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


class Method(abc.ABC):
    """A way to connect two networks. The methods of `mcjax.methods` are such; yours need not be.

    Any object with `connect(problem) -> Connection` works in `mcjax.connect`, in a comparison and
    on the command line (as `package.module:object`); `mcjax.testing.check_method` tells what else
    results rely on. Of the other attributes these are the defaults:

    - `label`: the name that a table shows (the name of the class)
    - `source`: paper and section
    - `needs_inputs`: `"no"`, `"sample"` (some thousands are enough) or `"all"` (as many as there
      are)
    - `needs_labels`: whether it trains
    - `moves_end`: whether the path ends at B with its units permuted (the same function as B)

        >>> import jax, jax.numpy as jnp, mcjax
        >>> class Detour:
        ...     "By way of the origin, where every network is silent."
        ...
        ...     def connect(self, problem):
        ...         origin = jax.tree.map(jnp.zeros_like, problem.a)
        ...         points = [problem.a, origin, problem.b]
        ...         return mcjax.methods.Connection(mcjax.path.PolygonalChain(points))
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a, b = ({"w1": s * jnp.eye(3), "w2": jnp.ones((3, 2))} for s in (1., 2.))
        >>> made = mcjax.connect(mcjax.trace(f, a, jnp.ones((2, 3))), a, b, Detour())
        >>> float(made.path(0.5)["w1"].max()), made.metadata["label"]
        (0.0, 'Detour')
    """

    label: Any  # of a class, or a property
    source = ""
    needs_inputs = "no"
    needs_labels = False
    moves_end = False

    @abc.abstractmethod
    def connect(self, problem: Problem) -> Connection:
        """Make a path."""

    def __repr__(self) -> str:
        fields: tuple[dataclasses.Field, ...] = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {f.name: getattr(self, f.name) for f in fields if f.repr}
        inside = [
            f"{n}={v.__name__ if isinstance(v, type) else repr(v)}" for n, v in values.items()
        ]
        return f"{type(self).__name__}({', '.join(inside)})"


@dataclasses.dataclass(frozen=True)
class Traits:
    """What is asked of a method before it works; see `Method`."""

    label: str
    source: str
    needs_inputs: str
    needs_labels: bool
    moves_end: bool


def traits_of(method: Any, name: str = "method") -> Traits:
    """What a method says of itself, defaults where it says nothing.

    **Raises:** `ValueError` for what is no method.
    """
    if isinstance(method, type):
        raise ValueError(
            f"{name} is the class {method.__name__}; pass an object of it, {method.__name__}(…)"
        )
    connect = getattr(method, "connect", None)
    if not callable(connect):
        raise ValueError(
            f"{name} must be the name of a preset or an object with connect(problem) -> "
            f"mcjax.methods.Connection, got a {type(method).__name__}"
        )
    if not _check_model.takes(connect, 1):
        raise ValueError(
            f"{name}: {type(method).__name__}.connect must take one argument, the problem (a "
            "trained connection model becomes a method as mcjax.methods.Flow(model))"
        )
    needs = getattr(method, "needs_inputs", "no")
    if needs not in NEEDS:
        raise ValueError(
            f"{name}: needs_inputs of {type(method).__name__} must be one of "
            f"{', '.join(map(repr, NEEDS))}, got {needs!r}"
        )
    return Traits(
        label=str(getattr(method, "label", type(method).__name__)),
        source=str(getattr(method, "source", "")),
        needs_inputs=needs,
        needs_labels=bool(getattr(method, "needs_labels", False)),
        moves_end=bool(getattr(method, "moves_end", False)),
    )


__all__ = ["Connection", "Leg", "Method", "Problem", "Traits", "traits_of"]
