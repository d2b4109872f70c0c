"""Two networks, several methods, train and test data: everything `mcjax connect` shows."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._types import ApplyFn, Params
from .adjust.stages import Plan
from .evaluation import Curve, evaluate
from .methods import METHODS, connect
from .network.network import Network
from .network.trace import trace
from .path import Path
from .training.protocol import Protocol

if TYPE_CHECKING:
    from .flows import ConnectionModel

Data = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a comparison: a label and a curve for each split."""

    method: str
    label: str
    curves: Mapping[str, Curve]

    def worst(self, split: str) -> float | None:
        """Worst accuracy in percent along the path; None without that split."""
        curve = self.curves.get(split)
        return None if curve is None else 100 * curve.worst("accuracy")

    def barrier(self, convention: str) -> float:
        """Barrier of the training loss."""
        return self.curves["train"].barrier(convention)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows by method, the end points last, and what produced them."""

    rows: tuple[Row, ...]
    paths: Mapping[str, Path]
    metadata: Mapping[str, Any]

    def endpoints(self, split: str) -> float | None:
        """The mean accuracy of the two end points, in percent."""
        curve = self.rows[0].curves.get(split)
        return None if curve is None else 50 * float(curve.accuracy[0] + curve.accuracy[-1])

    def to_dict(self) -> dict[str, Any]:
        """Every number, as plain lists and numbers."""
        methods = {
            row.method: {
                "label": row.label,
                "worst_accuracy": {s: row.worst(s) for s in row.curves},
                "barrier": {c: row.barrier(c) for c in ("chord", "endpoint")},
                "curves": {s: c.to_dict() for s, c in row.curves.items()},
            }
            for row in self.rows
        }
        ends = {s: self.endpoints(s) for s in self.rows[0].curves}
        return {"metadata": dict(self.metadata), "endpoints": ends, "methods": methods}


def compare(
    apply_fn: ApplyFn,
    a: Params,
    b: Params,
    train: Data,
    test: Data | None = None,
    *,
    methods: Sequence[str] | None = None,
    t: int = 25,
    key: jax.Array | None = None,
    protocol: Protocol | None = None,
    models: Mapping[str, ConnectionModel] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    metadata: Mapping[str, Any] | None = None,
) -> Comparison:
    """Connect two networks with several methods and evaluate every path.

    **Arguments:**
    - `train`, `test`: (x, y); activations are compared on the first 10,000 training inputs
    - `methods`: names in `mcjax.methods.METHODS`; default: those that neither train nor need a
      connection model
    - `t`: points of a path in one piece; one of several legs has steps of 0.1 on each
    - `protocol`: of methods that train
    - `models`: method → its connection model
    - `progress`: called with a line before each piece of work

    **Returns:** a `Comparison`.
    """
    progress("tracing the model")
    network = trace(apply_fn, a, jax.tree.map(lambda v: v[:2], train[0]))
    sample = jax.tree.map(lambda v: v[:10_000], train[0])
    inputs = {"no": None, "sample": sample, "all": train[0]}
    splits = {"train": train} | ({} if test is None else {"test": test})
    rows, paths = [], {}
    for name in default_methods(network, ()) if methods is None else methods:
        progress(f"{METHODS[name].label}: constructing")
        path = connect(
            name, network, a, b, x=inputs[METHODS[name].inputs], y=train[1], key=key,
            protocol=protocol, model=(models or {}).get(name),
        )  # fmt: skip
        paths[name] = path
        curves = {}
        for split, data in splits.items():
            progress(f"{METHODS[name].label}: {split} loss along the path")
            curves[split] = evaluate(path, apply_fn, data, grid(path, t), statistics=sample)
        rows.append(Row(name, METHODS[name].label, curves))
    return Comparison(tuple(rows), paths, {**machine(), **(metadata or {})})


def default_methods(network: Network, needs: Sequence[str]) -> tuple[str, ...]:
    """The methods to show: those whose needs are met, each path once.

    On a network of one stage the layer-by-layer paths with butterflies are the plain ones.
    """
    one = len(Plan(network).stages) == 1
    return tuple(
        name
        for name, method in METHODS.items()
        if (not method.needs or method.needs in needs) and not (one and "butterfly" in name)
    )


def grid(path: Path, t: int) -> int | np.ndarray:
    """t points; on a path of several legs steps of 0.1 within each, as in anokhin2020."""
    return path.grid(10) if len(path.sections()) > 1 else t


def steps(methods: Sequence[str], test: bool) -> int:
    """How often `compare` reports progress."""
    return 1 + len(methods) * (2 + test)


def machine() -> dict[str, Any]:
    """Versions and machine, for a result's record."""
    from . import __version__

    return {
        "mcjax": __version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "processor": platform.machine(),
        "numpy": np.__version__,
    }


__all__ = ["Comparison", "Row", "compare", "machine", "steps"]
