"""Several networks, several merging methods: everything `mcjax merge` shows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _check
from ._inputs import length, per_example
from ._json import plain
from ._modules import by_name
from ._readonly import make_read_only
from ._reasons import reason
from ._tree import stack, unstack
from ._types import ApplyFn, Params
from .align import match_many
from .evaluation import evaluate_points
from .evaluation.sweep import apply_of
from .merge import PRESETS, Merging, merge, method_of, traits_of
from .network.network import Network
from .network.trace import trace
from .path import Point, Points
from .report import Table
from .study import Data, machine
from .tasks import CLASSIFICATION, NEXT_TOKEN, Task
from .training import Protocol

# Examples that methods look at, and that statistics are estimated from.
_SAMPLE = 10_000
_Values = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True, eq=False)
class MergingRow:
    """A method in a comparison: the merged network and its metrics, or why there are none.

    - `method`: its name; `label`: as the table shows it
    - `needs`: what it needs besides the networks, in words
    - `values`: split → metric → value of the merged network
    - `seconds`: that merging took, units brought in order already
    - `error`: why it failed, None if it has not
    """

    method: str
    label: str
    needs: str
    values: _Values = dataclasses.field(default_factory=dict)
    merging: Merging | None = None
    seconds: float | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        make_read_only(self, "values")


@dataclasses.dataclass(frozen=True, eq=False)
class MergingComparison:
    """Several merging methods on the same networks, and what produced the numbers.

    - `rows`: a `MergingRow` a method, in the order asked for
    - `names`: of the networks
    - `own`: split → metric → (networks,) values of the networks themselves
    - `ensemble`: split → metric → value of the ensemble, whose outputs are averaged
    - `base`: split → metric → value of what they were trained from; empty without one
    - `alignment`: how units were brought to one order, in words
    - `task`, `metadata`: as in a `mcjax.study.Comparison`
    """

    rows: tuple[MergingRow, ...]
    own: Mapping[str, Mapping[str, np.ndarray]]
    ensemble: _Values
    base: _Values
    alignment: str
    task: Task
    metadata: Mapping[str, Any]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        make_read_only(self, "own", "ensemble", "base", "metadata")

    @property
    def mergings(self) -> dict[str, Merging]:
        """Method → what it made, of those that have not failed."""
        return {r.method: r.merging for r in self.rows if r.merging is not None}

    @property
    def failed(self) -> dict[str, str]:
        """Method → why it failed."""
        return {r.method: r.error for r in self.rows if r.error is not None}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.own)

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics of the table: the one that is shown first, and the loss."""
        return tuple(dict.fromkeys((self.task.headline, self.task.loss)))

    def table(self) -> Table:
        """A row a method; then the base, the networks and, last, the ensemble of their outputs."""
        pairs = [(s, m) for s in self.splits for m in self.shown]
        columns = ["method", "needs", *(self._heading(*p) for p in pairs)]
        rows = [[r.label, r.needs, *self._cells(r.values)] for r in self.rows]
        if self.base:
            rows.append(["base", "–", *self._cells(self.base)])
        for i, name in enumerate(self.names):
            values = {s: {m: v[i] for m, v in of.items()} for s, of in self.own.items()}
            rows.append([name, "–", *self._cells(values)])
        last = ["ensemble of outputs", "all networks", *self._cells(self.ensemble)]
        notes = [f"Units before merging: {self.alignment}."]
        found = dict.fromkeys(made.statistics for made in self.mergings.values())
        notes += [f"BatchNorm of merged networks: {v}; of the others, their own." for v in found
                  if v != "none"]  # fmt: skip
        left_out = self.metadata.get("not run", {}).items()  # as the command has it
        notes += [f"Not run: {', '.join(names)}: {why}." for why, names in left_out]
        notes += [f"{r.label} failed: {r.error}" for r in self.rows if r.error is not None]
        return Table(columns, rows, last, notes)

    def _heading(self, split: str, metric: str) -> str:
        unit = " %" if self.task.scale(metric) == 100 else ""
        return f"{split} {metric.replace('_', ' ')}{unit}"

    def _cells(self, values: _Values) -> list[str]:
        out = []
        for split in self.splits:
            for metric in self.shown:
                scale, value = self.task.scale(metric), values.get(split, {}).get(metric)
                form = ".2f" if scale == 100 else ".4f"
                out.append("–" if value is None else format(scale * value, form))
        return out

    def summary(self) -> str:
        """The table as plain text, and what it is of."""
        facts = ", ".join(f"{n:,} {split}" for split, n in self.metadata["examples"].items())
        return f"{self.table().text()}\ntask {self.task.name}, examples: {facts}"

    def plot(
        self, file: str | FilePath | None = None, *, metric: str | None = None, ax: Any = None
    ) -> Any:
        """Draw a bar for every merged network; the networks' mean and their ensemble as lines.

        **Arguments:**
        - `file`: picture file, its ending says the format; default: none is written
        - `metric`: default: the accuracy if there is one, else the loss; on test data if there are
        - `ax`: axes to draw on; default: those of a new figure

        **Returns:** the axes.

        **Raises:** `ValueError` for a metric that there is not, and for an `ax` that is none.
        """
        from .figures.bars import draw_bars

        name, split = self.task.headline if metric is None else metric, self.splits[-1]
        _check.one_of(name, tuple(self.own[split]), "metric")
        scale = self.task.scale(name)
        bars = {r.label: scale * r.values[split][name] for r in self.rows if r.values}
        lines = {
            "mean of the networks": scale * float(np.mean(self.own[split][name])),
            "ensemble of outputs": scale * self.ensemble[split][name],
        }
        return draw_bars(bars, f"{split}: {self.task.axis(name)}", file, lines=lines, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Every number, as plain lists and numbers; NaN and infinities are strings."""
        methods = {
            r.method: {
                "label": r.label, "needs": r.needs, "error": r.error, "values": r.values,
                "seconds": r.seconds,
                "merging": {} if r.merging is None else dict(r.merging.metadata),
            }
            for r in self.rows
        }  # fmt: skip
        return plain({
            "metadata": self.metadata, "alignment": self.alignment,
            "names": self.names, "networks": self.own,
            "ensemble": self.ensemble, "base": self.base, "methods": methods,
        })  # fmt: skip


def compare_merging(
    network: Network | ApplyFn,
    networks: Sequence[Params] | Mapping[str, Params],
    train: Data,
    test: Data | None = None,
    *,
    methods: Sequence[Any] | Mapping[str, Any] | None = None,
    base: Params | None = None,
    align: bool | None = None,
    own: Data | None = None,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
    progress: Callable[[str], None] = lambda _: None,
) -> MergingComparison:
    """Merge several networks with several methods and evaluate what they make.

    Units are brought to one order once, for all methods. A method that raises (it has no base, it
    is not given two networks) is reported in its row, and the others go on.

    **Arguments:**
    - `network`: the traced network, or `apply_fn`, which is traced
    - `networks`: two parameter trees or more; or name → tree, as results show them (without names
      they are "network 0" and so on)
    - `train`, `test`: (x, y); methods look at the first 10,000 training examples, those that train
      at all
    - `methods`: names of `mcjax.merge.PRESETS` and objects, or name → method; default: the presets
      that do not train
    - `base`: parameters that all networks were trained from
    - `align`: whether units are matched (`mcjax.align.match_many`); default: unless there is a base
    - `own`: (x, y) that methods look at in place of the training data, each a `mcjax.merge.Each` of
      every network's own
    - `key`: for the methods' random choices, and the matching's
    - `task`: metrics, and the loss of methods that look at it
    - `progress`: called with a line before each piece of work

    **Returns:** a `MergingComparison`.

    **Raises:** `ValueError` for parameters, data or methods that do not fit, and if every method
    fails.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> from mcjax.study_merging import compare_merging
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": 9 * jnp.eye(3)}
        >>> b = {"w1": jnp.eye(3)[:, ::-1], "w2": 9 * jnp.eye(3)[::-1]}
        >>> data = jnp.eye(3), jnp.arange(3)
        >>> found = compare_merging(f, [a, b], data, methods=["soup", "task-arithmetic"])
        >>> [row.values["train"]["accuracy"] for row in found.rows if row.values]
        [1.0]
        >>> "task-arithmetic" in found.failed
        True
    """
    (x, y), _ = _check.labelled(train, "train")
    progress("tracing the model")
    if not isinstance(networks, Mapping):
        networks = {f"network {i}": params for i, params in enumerate(networks)}
    names, networks = tuple(map(str, networks)), list(networks.values())
    if len(networks) < 2:
        raise ValueError(f"networks: at least two are needed, got {len(networks)}")
    if not isinstance(network, Network):
        network = trace(network, networks[0], per_example(lambda v: v[:2], x))
    trees = network.check_parameters(**{f"networks[{i}]": p for i, p in enumerate(networks)})
    quick = {name: method for name, method in PRESETS.items() if not traits_of(method).trains}
    chosen = by_name(quick if methods is None else methods, PRESETS, method_of, traits_of)
    splits = {"train": train} | ({} if test is None else {"test": test})
    draws = jax.random.key(0) if key is None else key
    permutations: Any = [network.identity_permutations()] * len(networks)
    alignment = "as they are" if base is None else "as they are, in the order of their base"
    if base is None if align is None else align:
        progress("matching units")
        found = match_many(network, networks, key=draws)
        permutations, alignment = found.permutations, f"matched (C²M³), {found.status}"
    some = tuple(per_example(lambda v: v[:_SAMPLE], v) for v in (x, y))
    options = {"base": base, "permutations": permutations, "task": task, "key": draws}
    rows = []
    for name, method in chosen.items():
        progress(f"merging: {traits_of(method).label}")
        seen = own or ((x, y) if traits_of(method).trains else some)
        options |= {"x": seen[0], "y": seen[1]}
        rows.append(_row(name, method, network, networks, options))
    if all(r.merging is None for r in rows):
        raise ValueError(f"every method failed; {rows[0].label}: {rows[0].error}")
    values, ensemble = _evaluated(network, trees, base, rows, splits, task, progress)
    n, made = len(trees), iter(_each_of(values, len(trees) + (base is not None)))
    rows = [r if r.merging is None else dataclasses.replace(r, values=next(made)) for r in rows]
    facts = {
        "task": task.name, "networks": n,
        "examples": {s: length(data[0]) for s, data in splits.items()},
        "key": np.asarray(_check.key_data(draws)).ravel().tolist(),
        "methods": {name: repr(method) for name, method in chosen.items()},
    }  # fmt: skip
    return MergingComparison(
        tuple(rows), {s: {m: v[:n] for m, v in f.items()} for s, f in values.items()}, ensemble,
        {} if base is None else _each_of(values, n)[0], alignment, task, {**machine(), **facts},
        names,
    )  # fmt: skip


_Found = dict[str, dict[str, np.ndarray]]


def _evaluated(
    network: Network, trees: Sequence[Params], base: Params | None, rows: Sequence[MergingRow],
    splits: Mapping[str, Data], task: Task, progress: Callable[[str], None],
) -> tuple[_Found, dict[str, dict[str, float]]]:  # fmt: skip
    """Split → metric → values of the networks, the base and what was made; and the ensemble's."""
    made = [r.merging.params for r in rows if r.merging is not None]
    every = [*([] if base is None else [base]), *made]
    packed = network.check_parameters(**{f"merged[{i}]": p for i, p in enumerate(every)})
    points = Points(stack([*trees, *packed]))
    members, averaged = Point(stack(trees)), _Averaged(network, len(trees), task)
    values: _Found = {}
    ensemble: dict[str, dict[str, float]] = {}
    for split, data in splits.items():
        progress(f"{split} metrics")
        values[split] = evaluate_points(points, network, data, np.arange(len(points)), task=task)
        found = evaluate_points(members, averaged, data, [0], task=task)
        ensemble[split] = {m: float(v[0]) for m, v in found.items()}
    return values, ensemble


def _each_of(values: _Found, first: int) -> list[dict[str, dict[str, float]]]:
    """Split → metric → value, of each point from the first on."""
    n = len(next(iter(next(iter(values.values())).values())))
    return [{s: {m: float(v[i]) for m, v in of.items()} for s, of in values.items()}
            for i in range(first, n)]  # fmt: skip


def _row(
    name: str, method: Any, network: Network, networks: Sequence[Params], options: dict[str, Any]
) -> MergingRow:
    traits, start = traits_of(method), time.perf_counter()
    needs = {"a base": traits.needs_base, "inputs": traits.needs_inputs,
             "labels": traits.needs_labels, "two networks": traits.pairs_only,
             _training(method): traits.trains}  # fmt: skip
    words = ", ".join(what for what, needed in needs.items() if needed) or "–"
    try:
        made = merge(network, networks, method, **options)
    except Exception as error:  # whatever a method does, what others have made is kept
        return MergingRow(name, traits.label, words, error=reason(error))
    return MergingRow(name, traits.label, words, {}, made, time.perf_counter() - start)


def _training(method: Any) -> str:
    """How long a method trains."""
    protocol = getattr(method, "protocol", None)
    return f"{protocol.epochs} epochs" if isinstance(protocol, Protocol) else "training"


@dataclasses.dataclass(frozen=True)
class _Averaged:
    """(stack of networks, x) → their outputs averaged: the ensemble, as a model.

    Where the loss is a cross-entropy of logits, probabilities are averaged: log 1/n Σ softmax.
    """

    network: Network
    n: int
    task: Task

    def __call__(self, networks: Params, x: Any) -> Any:
        apply = apply_of(self.network)
        each = [apply(params, x) for params in unstack(networks, self.n)]
        loss = self.task.metrics[self.task.loss]
        probabilities = loss in {t.metrics[t.loss] for t in (CLASSIFICATION, NEXT_TOKEN)}

        def mean(*outputs: Any) -> Any:
            values = jnp.stack(outputs)
            if not probabilities:
                return values.mean(0)
            return jax.nn.logsumexp(jax.nn.log_softmax(values), 0) - jnp.log(self.n)

        return jax.tree.map(mean, *each)


__all__ = ["MergingComparison", "MergingRow", "compare_merging"]
