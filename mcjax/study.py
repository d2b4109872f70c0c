"""Two networks, several methods, train and test data: everything `mcjax connect` shows."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import jax
import numpy as np

from . import _check, _check_model
from ._inputs import length, per_example, unmark
from ._json import plain
from ._modules import by_name
from ._readonly import make_read_only
from ._reasons import reason
from ._types import ApplyFn, Params
from ._version import versions
from .adjust.stages import Plan
from .evaluation import Curve, evaluate
from .methods import (
    PRESETS,
    Butterfly,
    Connection,
    LayerByLayer,
    Pam,
    Problem,
    connect,
    method_of,
    traits_of,
)
from .network.network import Network
from .network.trace import trace
from .path import Path
from .report import Table
from .tasks import CLASSIFICATION, Task

Data = tuple[Any, Any]
# What activations are compared on, and statistics estimated from: tatro2020's number of images.
_SAMPLE = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A method in a comparison: its connection and a curve for each split, or why there are none.

    - `method`: its name; `label`: as the table shows it
    - `seconds`: what took how long: `"connect"`, `"evaluate"`
    - `error`: why it failed, None if it has not
    """

    method: str
    label: str
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    connection: Connection | None = None
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        make_read_only(self, "curves", "seconds")

    @property
    def end(self) -> str | None:
        """Where the path ends: `"B"`, `"P·B"` (its units permuted) or `"g·B"` (moved otherwise)."""
        if self.connection is None:
            return None
        if self.connection.elements:
            return "g·B"
        return "P·B" if self.connection.permutations else "B"

    def worst(self, split: str, metric: str) -> float | None:
        """The worst value of a metric along the path; None where there is no curve."""
        curve = self.curves.get(split)
        return None if curve is None else curve.worst(metric)

    def barrier(self, convention: str) -> float | None:
        """Barrier of the training loss; None if the method has failed."""
        return self.curves["train"].barrier(convention) if "train" in self.curves else None


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Several methods on two networks, and what produced the numbers.

    - `rows`: a `Row` a method, in the order asked for
    - `task`: says which metrics there are, and which values are the bad ones
    - `metadata`: data, key, statistics, methods, machine and versions
    """

    rows: tuple[Row, ...]
    task: Task
    metadata: Mapping[str, Any]

    def __post_init__(self) -> None:
        make_read_only(self, "metadata")

    @property
    def connections(self) -> dict[str, Connection]:
        """Method → its connection, of those that have not failed."""
        return {r.method: r.connection for r in self.rows if r.connection is not None}

    @property
    def failed(self) -> dict[str, str]:
        """Method → why it failed."""
        return {r.method: r.error for r in self.rows if r.error is not None}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for row in self.rows for s in row.curves))

    def endpoints(self, split: str, metric: str) -> float:
        """The mean of a metric over the two end points."""
        curve = next(r.curves[split] for r in self.rows if split in r.curves)
        return float(curve.values[metric][0] + curve.values[metric][-1]) / 2

    def shown(self) -> tuple[str, ...]:
        """The metrics of the table: those in percent, or all if there are none."""
        percent = [m for m in self.task.metrics if self.task.scale(m) == 100]
        return tuple(percent or self.task.metrics)

    def table(self) -> Table:
        """Worst values and barriers, a row a method, the end points last.

        `.markdown()`, `.text()` and `.terminal(title)` of it are what one reads.
        """
        pairs = [(s, m) for s in self.splits for m in self.shown()]
        columns = ["method", *(self._heading(*p) for p in pairs), "barrier (chord)",
                   "barrier (ends)"]  # fmt: skip
        rows = [
            [
                row.label,
                *(self._cell(m, row.worst(s, m)) for s, m in pairs),
                *("–" if b is None else f"{b:.4f}" for b in map(row.barrier, _CONVENTIONS)),
            ]
            for row in self.rows
        ]
        last = ["End points", *(self._cell(m, self.endpoints(s, m)) for s, m in pairs), "", ""]
        loss = self.task.axis(self.task.loss)
        notes = [
            "worst: the worst value on the path. Barrier: how far the training loss "
            f"({loss}) rises above the line between its values at the ends (chord), above the "
            "higher of the two (ends).",
            *self.whose_statistics(),
            *(f"{row.label} failed: {row.error}" for row in self.rows if row.error is not None),
        ]
        return Table(columns, rows, last, notes)

    def whose_statistics(self) -> list[str]:
        """A note, of networks with batch normalisation."""
        curves = [curve for row in self.rows for curve in row.curves.values()]
        found = dict.fromkeys(c.metadata.get("statistics", "none") for c in curves)
        return [f"BatchNorm statistics: {words}." for words in found if words != "none"]

    def _heading(self, split: str, metric: str) -> str:
        unit = " %" if self.task.scale(metric) == 100 else ""
        name = "" if len(self.shown()) == 1 and unit else f" {metric.replace('_', ' ')}"
        return f"worst {split}{name}{unit}"

    def _cell(self, metric: str, value: float | None) -> str:
        if value is None:
            return "–"
        scale = self.task.scale(metric)
        return f"{scale * value:.2f}" if scale == 100 else f"{value:.4g}"

    def summary(self) -> str:
        """The table as plain text, and what it is of."""
        examples = ", ".join(f"{n:,} {s}" for s, n in self.metadata.get("examples", {}).items())
        facts = [f"task {self.task.name}", f"examples: {examples}"]
        facts += [f"{k} {self.metadata[k]}" for k in ("statistics", "key")
                  if self.metadata.get(k) is not None]  # fmt: skip
        return f"{self.table().text()}\n{'; '.join(facts)}"

    def curves(self) -> dict[str, Mapping[str, Curve]]:
        """Label → split → curve, to draw."""
        return {row.label: row.curves for row in self.rows if row.curves}

    def plot(self, file: str | FilePath | None = None, *, ax: Any = None) -> np.ndarray:
        """Draw every metric along every path: a panel a metric, a colour a method.

        **Arguments:**
        - `file`: picture file, its ending says the format; default: none is written
        - `ax`: axes to draw on, one for each metric; default: those of a new figure

        **Returns:** the axes.
        """
        from .figures.curves import draw_curves

        ends = {row.label: row.end for row in self.rows if row.end is not None}
        return draw_curves(self.curves(), file, ends=ends, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Every number, as plain lists and numbers; NaN and infinities are strings."""
        methods = {
            row.method: {
                "label": row.label,
                "error": row.error,
                "worst": {s: {m: c.worst(m) for m in c.values} for s, c in row.curves.items()},
                "barrier": {c: row.barrier(c) for c in _CONVENTIONS},
                "seconds": dict(row.seconds),
                "connection": {} if row.connection is None else dict(row.connection.metadata),
                "status": None if row.connection is None else row.connection.status,
                "curves": {s: c.to_dict() for s, c in row.curves.items()},
            }
            for row in self.rows
        }
        ends = {s: {m: self.endpoints(s, m) for m in self.task.metrics} for s in self.splits}
        return plain({"metadata": self.metadata, "endpoints": ends, "methods": methods})


class EveryMethodFailedError(ValueError):
    """No row has a curve; `comparison` has the reasons."""

    def __init__(self, comparison: Comparison) -> None:
        row = comparison.rows[0]
        super().__init__(f"every method failed; {row.label}: {row.error}")
        self.comparison = comparison


_CONVENTIONS = ("chord", "endpoint")


def compare(
    network: Network | ApplyFn,
    a: Params,
    b: Params,
    train: Data,
    test: Data | None = None,
    *,
    methods: Sequence[Any] | Mapping[str, Any] | None = None,
    t: int = 25,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
    statistics: Any = "train",
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Connect two networks with several methods and evaluate every path.

    A method that raises is reported in its row, and the others go on.

    **Arguments:**
    - `network`: the traced network, or `apply_fn`, which is traced
    - `train`, `test`: (x, y); activations are compared on the first 10,000 training inputs
    - `methods`: names of `mcjax.methods.PRESETS` and objects, or name → method; default: the
      presets that do not train
    - `t`: points of a path in one piece; one of several legs has steps of 0.1 on each
    - `key`: for the methods' random choices
    - `task`: metrics, and what methods that train minimise
    - `statistics`: of batch normalisation, as in `mcjax.evaluate`; `"train"`: estimated from the
      first 10,000 training inputs
    - `progress`: called with a line before each piece of work

    **Returns:** a `Comparison`.

    **Raises:** `ValueError` for parameters, data or methods that do not fit, and if every method
    fails.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> from mcjax.study import compare
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
        >>> b = {"w1": jnp.eye(3)[:, ::-1], "w2": jnp.eye(3)[::-1]}
        >>> found = compare(f, a, b, (jnp.eye(3), jnp.arange(3)), methods=["linear", "ot"], t=3)
        >>> print(found.table().text().splitlines()[2])
        OT                 100.00           0.0000          0.0000
    """
    (x, y), _ = _check.labelled(train, "train")
    progress("tracing the model")
    if not isinstance(network, Network):
        network = trace(network, a, per_example(lambda v: v[:2], x))
    chosen = by_name(
        default_methods(network) if methods is None else methods, PRESETS, method_of, traits_of
    )
    splits = {"train": train} | ({} if test is None else {"test": test})
    for split, data in splits.items():
        _check_task(network, a, data, task, split)
    sample = _some(x)
    named = statistics if isinstance(statistics, str) else None
    if named is not None:
        _check.one_of(named, ("train",), "statistics")
        statistics = sample
    draws = jax.random.key(0) if key is None else key
    problem = Problem(network, a, b, x, y, draws, task)
    run = _Run(problem, splits, t, statistics, progress)
    rows = [run.row(name, method) for name, method in chosen.items()]
    facts = {
        "task": task.name,
        "examples": {split: length(data[0]) for split, data in splits.items()},
        "statistics": f"train[:{length(sample)}]" if named else "given" if statistics is not None
        else "the end points' own",
        "key": None if key is None else np.asarray(_check.key_data(key)).ravel().tolist(),
        "methods": {name: repr(method) for name, method in chosen.items()},
    }  # fmt: skip
    found = Comparison(tuple(rows), task, {**machine(), **facts})
    if len(found.failed) == len(rows):
        raise EveryMethodFailedError(found)
    return found


def _some(values: Any) -> Any:
    """The first inputs or labels."""
    return per_example(lambda v: v[:_SAMPLE], values)


@dataclasses.dataclass(frozen=True)
class _Run:
    """One method after the other on the same networks and data."""

    problem: Problem
    splits: Mapping[str, Data]
    t: int
    statistics: Any
    progress: Callable[[str], None]

    def row(self, name: str, method: Any) -> Row:
        traits, p = traits_of(method), self.problem
        x, y = (p.x, p.y) if traits.needs_inputs == "all" else (_some(p.x), _some(p.y))
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        self.progress(f"{traits.label}: constructing")
        try:
            made = connect(p.network, p.a, p.b, method, x=x, y=y, key=p.key, task=p.task)
            seconds["connect"] = time.perf_counter() - start
            curves = {split: self._curve(made.path, traits.label, split) for split in self.splits}
        except Exception as error:  # whatever a method does, what others have made is kept
            return Row(name, traits.label, seconds=seconds, error=reason(error))
        seconds["evaluate"] = time.perf_counter() - start - seconds["connect"]
        return Row(name, traits.label, curves, made, seconds)

    def _curve(self, path: Path, label: str, split: str) -> Curve:
        self.progress(f"{label}: {split} loss along the path")
        return evaluate(
            path, self.problem.network, self.splits[split], grid(path, self.t),
            task=self.problem.task, statistics=self.statistics,
        )  # fmt: skip


def _check_task(network: Network, a: Params, data: Data, task: Task, split: str) -> None:
    """Raise unless outputs and labels are the task's."""
    (x, y), _ = _check.labelled(data, split)
    outputs = jax.eval_shape(lambda x: network.apply_fn(a, x), unmark(x))
    _check_model.outputs(outputs)
    try:
        task.check(task.outputs(outputs), unmark(y))
    except ValueError as error:
        raise ValueError(f"{split}: {error}") from None


def default_methods(network: Network, trained: bool = False) -> tuple[str, ...]:
    """The presets to show, each path once: those that train only if asked for, PAM by name only.

    On a network of one stage the layer-by-layer paths with butterflies are the plain ones.
    """
    one = len(Plan(network).stages) == 1

    def twin(method: Any) -> bool:
        return one and isinstance(method, LayerByLayer) and isinstance(method.reader, Butterfly)

    return tuple(
        name
        for name, method in PRESETS.items()
        if (trained or not method.needs_labels) and not twin(method) and not isinstance(method, Pam)
    )


def grid(path: Path, t: int) -> int | np.ndarray:
    """t points; on a path of several legs steps of 0.1 within each, as in anokhin2020."""
    return path.grid(10) if len(path.sections()) > 1 else t


def steps(methods: Sequence[str], test: bool) -> int:
    """How often `compare` reports progress."""
    return 1 + len(methods) * (2 + test)


def machine() -> dict[str, Any]:
    """Versions and machine, for a result's record."""
    return {
        **versions(),
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "processor": platform.machine(),
        "numpy": np.__version__,
    }


__all__ = [
    "Comparison", "EveryMethodFailedError", "Row", "compare", "default_methods", "grid", "machine",
    "steps",
]  # fmt: skip
