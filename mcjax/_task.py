"""`Task`: metrics, the one to minimise, which values are bad, what labels go with outputs."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ._types import Metric

# What a `Curve` calls its own: no metric can have one of these names.
RESERVED = ("t", "values", "lengths", "task", "metadata")


def _anything(outputs: Any, y: Any) -> None:
    """No check."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What the outputs of a model are for: metrics, the one to minimise, the labels it takes.

    Every function of mcjax that scores, trains, attacks or draws takes the same object.

    - `name`: as a table shows it
    - `metrics`: name → function (outputs, y) → one value for each example
    - `worse`: name → whether `"high"` or `"low"` values are the bad ones
    - `loss`: the metric that training minimises and attacks maximise
    - `check`: (outputs, y) → None; raises `ValueError` if outputs or labels are not of the task.
      It is given types for outputs, and values for labels where they are at hand
    - `axes`: name → what an axis of a figure is called (default: the name); a percentage where it
      ends in `(%)`
    - `read`: the part of what `apply_fn` returns that metrics and check are given

    Tasks with the same parts are equal, so nothing is compiled twice for them.

    **Raises:** `ValueError` for no metrics, a metric that is no function or has no direction.

        >>> import jax.numpy as jnp, mcjax
        >>> error = lambda outputs, y: jnp.max(jnp.abs(outputs - y), -1)
        >>> task = mcjax.Task("worst coordinate", {"loss": error}, {"loss": "high"})
        >>> task.worst("loss", jnp.array([0.5, 2.0]))
        2.0
    """

    name: str
    metrics: Mapping[str, Metric]
    worse: Mapping[str, str]
    loss: str = "loss"
    check: Callable[[Any, Any], None] = _anything
    axes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metrics, Mapping) or self.loss not in self.metrics:
            names = ", ".join(self.metrics) if isinstance(self.metrics, Mapping) else ""
            raise ValueError(f"loss: {self.loss!r} is none of the metrics, {names or 'none'}")
        for name, metric in self.metrics.items():
            if not isinstance(name, str) or not name or name in RESERVED:
                raise ValueError(
                    f"metrics: {name!r} cannot be a metric's name; results have "
                    f"{', '.join(RESERVED)} of their own"
                )
            if self.worse.get(name) not in ("high", "low"):
                raise ValueError(
                    f"worse[{name!r}] must be 'high' or 'low' (which values of the metric are the "
                    f"bad ones), got {self.worse.get(name)!r}"
                )
            require_function(metric, f"metrics[{name!r}]")
        require_function(self.check, "check")
        if self.read is not None:
            require_function(self.read, "read")
        for field in ("metrics", "worse", "axes"):
            frozen = types.MappingProxyType(dict(getattr(self, field)))
            object.__setattr__(self, field, frozen)

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {', '.join(self.metrics)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        parts = (
            tuple(sorted(v.items(), key=_first)) for v in (self.metrics, self.worse, self.axes)
        )
        return (self.name, self.loss, self.check, self.read, *parts)

    def __reduce__(self) -> tuple:
        fields = [getattr(self, f.name) for f in dataclasses.fields(self)]
        return Task, tuple(dict(v) if isinstance(v, Mapping) else v for v in fields)

    @property
    def headline(self) -> str:
        """The metric that is shown where one is: the accuracy if there is one, else the loss."""
        return "accuracy" if "accuracy" in self.metrics else self.loss

    def reading(self, read: Callable[[Any], Any]) -> Task:
        """The same task on a part of what `apply_fn` returns, as `lambda out: out["logits"]`."""
        return dataclasses.replace(self, read=read)

    def adding(self, name: str, metric: Metric, *, worse: str) -> Task:
        """The task with one more metric."""
        return dataclasses.replace(
            self, metrics={**self.metrics, name: metric}, worse={**self.worse, name: worse}
        )

    def outputs(self, outputs: Any) -> Any:
        """The part of what `apply_fn` returns that counts."""
        return outputs if self.read is None else self.read(outputs)

    def values(self, outputs: Any, y: Any) -> dict[str, Any]:
        """Metric name → one value for each example.

        **Raises:** `ValueError` for a metric that returns anything else.
        """
        outputs = self.outputs(outputs)
        return {k: _each(k, metric(outputs, y), outputs, y) for k, metric in self.metrics.items()}

    def losses(self, outputs: Any, y: Any) -> Any:
        """The loss of each example."""
        outputs = self.outputs(outputs)
        return _each(self.loss, self.metrics[self.loss](outputs, y), outputs, y)

    def direction(self, name: str) -> str:
        """Which values of a metric are the bad ones, `"high"` or `"low"`.

        **Raises:** `ValueError` for a metric that the task does not have.
        """
        if name not in self.worse:
            raise ValueError(
                f"whether {name!r} should be high or low is not known; the task {self.name!r} has "
                f"{', '.join(self.metrics)}"
            )
        return self.worse[name]

    def worst(self, name: str, values: Any) -> float:
        """The worst of some values of a metric; NaN if one is.

        **Raises:** `ValueError` for a metric that the task does not have.
        """
        return float(np.max(values) if self.direction(name) == "high" else np.min(values))

    def axis(self, name: str) -> str:
        """What an axis of a figure is called."""
        return self.axes.get(name, name)

    def scale(self, name: str) -> float:
        """What values are multiplied by to be shown: 100 for percentages."""
        return 100.0 if self.axis(name).endswith("(%)") else 1.0

    def to_dict(self) -> dict[str, Any]:
        """What a file of results says of the task: names and directions, no functions."""
        return {
            "name": self.name, "loss": self.loss, "worse": dict(self.worse),
            "axes": dict(self.axes),
        }  # fmt: skip


def require(task: Any) -> Task:
    """`task` if it is one."""
    if isinstance(task, Task):
        return task
    raise ValueError(
        "task must be a mcjax.Task: mcjax.tasks.CLASSIFICATION, REGRESSION, NEXT_TOKEN or your "
        f"own, got {task!r}"
    )


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]


def require_function(value: Any, name: str) -> None:
    if not callable(value):
        raise ValueError(f"{name} must be a function, got a {type(value).__name__}")
    try:
        hash(value)
    except TypeError:
        raise ValueError(
            f"{name} cannot be hashed ({type(value).__name__}), so nothing could be compiled for "
            "it once and for all; wrap it in a function"
        ) from None


def _each(name: str, values: Any, outputs: Any, y: Any) -> Any:
    """`values`, if there is one for each example, and outputs have more than one row for all."""
    shapes = [np.shape(v) for v in jax.tree.leaves(y)]
    rows = {np.shape(v)[0] for v in jax.tree.leaves(outputs) if np.shape(v)}
    if rows == {1} and min((s[0] for s in shapes if s), default=1) > 1:
        raise ValueError(
            f"the outputs have one row for a batch of {max(s[0] for s in shapes if s)}; "
            "expected one for each example"
        )
    lengths = {s[0] for s in shapes if s} or {
        np.shape(v)[0] for v in jax.tree.leaves(outputs) if np.shape(v)
    }
    shape = np.shape(values)
    if lengths and (len(shape) != 1 or shape[0] not in lengths):
        n = max(lengths)
        raise ValueError(
            f"metrics[{name!r}] returned shape {shape} for a batch of {n}; expected one value for "
            f"each example, shape ({n},)"
        )
    return values
