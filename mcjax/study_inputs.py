"""Inputs of one network joined, pairs of several kinds: what `mcjax inputs` shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path as File
from typing import Any

import numpy as np

from . import _check
from ._json import plain
from ._readonly import make_read_only
from ._types import ApplyFn, Params
from .inputs import Bypass, Bypassed, Synthesis, Watched, bypass, synthesise
from .inputs.pairs import checked_model
from .network import Network
from .report import Table
from .tasks import CLASSIFICATION, Task, require

SAME = "one class"
ADVERSARIAL = "real and adversarial"
OTHER = "different classes"
# t of the images that are drawn along a path.
_SHOWN = 9


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedInputs:
    """Pairs of inputs of several kinds, joined: the result of `join_inputs`.

    - `joined`: kind of pairs → `mcjax.inputs.Bypassed`
    - `labels`: kind → (pairs,) the class that the loss is taken to; of two classes (pairs, 2)
    - `tried`: kind → pairs that were tried; adversarial inputs that did not reach δ/2 are left out
    - `shown`: what is drawn along one path, the highest barrier of a kind: `"kind"`, `"label"`,
      `"range"` of the inputs, `"t"`; `"straight"` and `"chain"`, each with `"x"` (inputs),
      `"class"` (predicted) and `"loss"`
    """

    joined: Mapping[str, Bypassed]
    labels: Mapping[str, np.ndarray]
    tried: Mapping[str, int]
    shown: Mapping[str, Any]

    def __post_init__(self) -> None:
        make_read_only(self, "joined", "labels", "tried", "shown")

    def __repr__(self) -> str:
        return f"JoinedInputs({', '.join(f'{len(v.points)} {k}' for k, v in self.joined.items())})"

    @property
    def how(self) -> Bypass:
        """Options of the bypass."""
        return next(iter(self.joined.values())).how

    def table(self) -> Table:
        """A row a kind: heights before and after, and who is joined after so many rounds."""
        depth = self.how.depth
        counts = sorted({0, 1, depth})
        columns = [
            "pairs of",
            "pairs",
            "height",
            "gap",
            *(f"≤ {k}" for k in counts),
            "height after",
        ]
        rows = []
        for kind, made in self.joined.items():
            cells = [f"{100 * made.joined(k):.0f} %" for k in counts]
            before = [f"{np.median(v):.3f}" for v in (made.direct.height, made.direct.gap)]
            after = f"{np.median(made.height):.3f}"
            rows.append([kind, str(len(made.points)), *before, *cells, after])
        notes = [
            "Height: the highest loss on the straight line between the two inputs; gap: how far it "
            f"is above the higher end; medians. ≤ k: how many pairs are joined, below "
            f"{self.how.delta:g} everywhere, after so many rounds of bypassing; after: the height "
            "then, the median.",
        ]
        lost = self.tried[ADVERSARIAL] - len(self.labels.get(ADVERSARIAL, ()))
        if lost:
            notes.append(f"Left out: {lost} attacks that did not reach half of that loss.")
        return Table(columns, rows, None, notes)

    def summary(self) -> str:
        """The table as plain text."""
        return self.table().text()

    def plot(
        self, file: str | File | None = None, *, shape: Any = None, ax: Any = None
    ) -> np.ndarray:
        """Draw the loss between the inputs of each kind, and images along one path.

        **Arguments:**
        - `file`: picture file, its ending says the format; default: none is written
        - `shape`: (height, width) or (height, width, channels) of an image; default: that of the
          inputs, or a square where they are vectors of such a length
        - `ax`: axes to draw the losses on, one for each kind, and no images; default: those of
          a new figure

        **Returns:** the axes of the losses.
        """
        from .figures.inputs import draw_joined

        t = np.linspace(0, 1, 201)
        curves = {
            kind: (made.direct.t, made.direct.loss, t, made.loss_at(t))
            for kind, made in self.joined.items()
        }
        first = next(iter(self.joined.values()))
        label = first.direct.task.axis(first.direct.task.loss)
        return draw_joined(
            curves, self.how.delta, label, dict(self.shown), file, shape=shape, ax=ax
        )

    def to_dict(self) -> dict[str, Any]:
        """Every number, as plain lists and numbers; NaN and infinities are strings."""
        kinds = {
            kind: {
                "tried": self.tried[kind], "labels": self.labels[kind],
                "height": made.direct.height, "gap": made.direct.gap, "after": made.height,
                "status": made.status.tolist(), "rounds": made.rounds,
                "inserted": [len(p) - 2 for p in made.points],
                "t": made.direct.t, "loss": made.direct.loss,
                "losses on the segments of the chains": made.losses,
            } for kind, made in self.joined.items()
        }  # fmt: skip
        return plain({"bypass": dataclasses.asdict(self.how), "kinds": kinds})


def join_inputs(
    model: ApplyFn | Network,
    params: Params,
    data: tuple[Any, Any],
    how: Bypass | None = None,
    attack: Synthesis | None = None,
    *,
    each: int = 4,
    seed: int = 0,
    task: Task = CLASSIFICATION,
    chunk: int = 1024,
    progress: Callable[[str], None] | None = None,
) -> JoinedInputs:
    """Pairs of one class, of an input and an adversarial one, and of different classes, joined.

    The inputs are drawn among those with a loss of δ/2 at most. An adversarial one has been moved
    from another class until its loss is as low for the class of the first (vrabel2024, Sec. 4).

    **Arguments:**
    - `model`, `params`, `task`, `chunk`: as for `mcjax.inputs.interpolate`
    - `data`: (x, y), inputs and their classes
    - `how`: options of the bypass, δ among them; default: `default_bypass(x)`
    - `attack`: how inputs become adversarial; default: by 256 steps of 2 % of the inputs' range at
      most, within it
    - `each`: pairs of each class; `seed`: of who is drawn
    - `progress`: called with a line before each kind

    **Returns:** a `JoinedInputs`.

    **Raises:** `ValueError` as `mcjax.inputs.bypass`, and if fewer than two classes have two inputs
    of such a loss.

        >>> import jax.numpy as jnp, numpy as np
        >>> from mcjax.study_inputs import join_inputs
        >>> x = np.random.default_rng(0).uniform(size=(200, 2)).astype("f")
        >>> f = lambda p, x: x @ p["w"]
        >>> found = join_inputs(f, {"w": 40 * jnp.eye(2)}, (x, (x[:, 1] > x[:, 0]).astype(int)))
        >>> found.joined["one class"].joined(0), found.joined["different classes"].joined(4)
        (1.0, 0.0)
    """
    (x, y), _ = _check.labelled(data)
    x, y = np.asarray(x), np.asarray(y)
    if y.ndim != 1 or y.dtype.kind not in "biu":
        raise ValueError(
            f"data: y has shape {y.shape} of type {y.dtype}, expected ({len(y)},) integers, the "
            "class of each input (of one-hot rows y.argmax(-1))"
        )
    task = require(task)
    packed = checked_model(model, params, x, (y,), task)
    how = default_bypass(x) if how is None else how
    attack = _default_attack(x, how.delta) if attack is None else attack
    drawn = _Drawn.of(Watched(model, packed, task, chunk), x, y, how)
    rng = np.random.default_rng(seed)
    first, second = drawn.same(_check.positive(each, "each"), rng)
    pairs: dict[str, Any] = {SAME: (x[first], x[second], y[first])}
    say = progress or (lambda line: None)
    first, second = drawn.other(each, rng)
    tried = {SAME: len(pairs[SAME][2]), ADVERSARIAL: len(first), OTHER: len(first)}
    say("adversarial inputs")
    options: dict[str, Any] = {"task": task, "chunk": chunk}
    made = synthesise(model, params, x[second], (y[first], y[first]), attack, **options)
    reached = made.status == "below delta"
    if reached.any():
        pairs[ADVERSARIAL] = x[first][reached], made.x[reached], y[first][reached]
    pairs[OTHER] = x[first], x[second], (y[first], y[second])
    joined = {}
    for kind, (a, c, labels) in pairs.items():
        say(kind)
        # Of one class its label twice: the programs of one kind are those of all.
        both = labels if isinstance(labels, tuple) else (labels, labels)
        joined[kind] = bypass(model, params, (a, c), both, how, **options)
    labels = {k: np.stack(v[2], 1) if isinstance(v[2], tuple) else v[2] for k, v in pairs.items()}
    kind = ADVERSARIAL if ADVERSARIAL in joined else SAME
    shown = _shown(drawn.watched, kind, joined, labels)
    return JoinedInputs(joined, labels, tried, {**shown, "range": _range(x)[0]})


def default_bypass(x: Any, delta: float = 0.01, **options: Any) -> Bypass:
    """A bypass in the units of inputs, within their range: steps of 2 % of it, 96 at most.

    **Arguments:**
    - `x`: the inputs; `delta`: δ; `options`: others of `mcjax.inputs.Bypass`
    """
    bounds, unit = _range(x)
    usual: dict[str, Any] = {
        "steps": 96, "block": 16, "points": 50, "depth": 3, "inserted": 7, "roughness": 0.0,
        "learning_rate": 0.02 * unit, "deviation": 0.1 / unit**2, "bounds": bounds,
    }  # fmt: skip
    return Bypass(delta, **usual | options)


def _default_attack(x: Any, delta: float) -> Synthesis:
    bounds, unit = _range(x)
    return Synthesis(
        delta / 2, steps=256, learning_rate=0.02 * unit, deviation=0.1 / unit**2, bounds=bounds
    )


def _range(x: Any) -> tuple[tuple[float, float], float]:
    """(least, greatest) of the inputs, and how far apart they are."""
    low, high = float(np.min(x)), float(np.max(x))
    unit = (high - low) or 1.0
    return (low, low + unit), unit


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """Inputs of low loss, their numbers by class."""

    watched: Watched
    classes: Mapping[int, np.ndarray]

    @classmethod
    def of(cls, watched: Watched, x: np.ndarray, y: np.ndarray, how: Bypass) -> _Drawn:
        losses = watched.losses(x, y)
        low = losses <= how.delta / 2
        found = {int(c): np.flatnonzero(low & (y == c)) for c in np.unique(y)}
        found = {c: rows for c, rows in found.items() if len(rows) > 1}
        if len(found) < 2:
            raise ValueError(
                f"data: {len(found)} of {len(np.unique(y))} classes have two inputs or more with a "
                f"loss of {how.delta / 2:g} at most, expected two classes; the median loss is "
                f"{np.median(losses):.4g}: take another delta"
            )
        return cls(watched, found)

    def same(self, each: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of two inputs for each pair of a class, none of them twice."""
        first, second = [], []
        for rows in self.classes.values():
            some = rng.permutation(rows)[: 2 * min(each, len(rows) // 2)]
            first.append(some[::2])
            second.append(some[1::2])
        return np.concatenate(first), np.concatenate(second)

    def other(self, each: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of an input of each class and of one of a random other class."""
        first, second = [], []
        for c, rows in self.classes.items():
            some = rng.permutation(rows)[:each]
            pool = np.concatenate([of for k, of in self.classes.items() if k != c])
            first.append(some)
            second.append(rng.choice(pool, len(some)))
        return np.concatenate(first), np.concatenate(second)


def _shown(
    watched: Watched, kind: str, joined: Mapping[str, Bypassed], labels: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What is drawn along the highest barrier of a kind."""
    made = joined[kind]
    pair = int(np.nanargmax(np.where(np.isnan(made.direct.gap), -1, made.direct.gap)))
    t = np.linspace(0, 1, _SHOWN)
    chain = made.points[pair]
    found: dict[str, Any] = {"kind": kind, "label": int(labels[kind][pair]), "t": t}
    for name, points in (("straight", chain[[0, -1]]), ("chain", chain)):
        at = t * (len(points) - 1)
        k = np.minimum(at.astype(int), len(points) - 2)
        s = (at - k).reshape(-1, *[1] * (chain.ndim - 1)).astype(chain.dtype)
        x = (1 - s) * points[k] + s * points[k + 1]
        losses = watched.losses(x, np.full(len(x), found["label"]))
        found[name] = {"x": x, "class": watched.logits(x).argmax(1), "loss": losses}
    return found


__all__ = ["JoinedInputs", "default_bypass", "join_inputs"]
