"""Adversarial inputs told from clean ones, trained and tested (vrabel2024, App. B.3, Table 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import jax
import numpy as np

from .. import _check
from .._inputs import on_auto_axes
from .._readonly import make_read_only
from .._threads import one_if_few
from .._types import ApplyFn, Params
from ..attacks import Attacked
from ..network import Network
from ..tasks import CLASSIFICATION, Task
from .features import Feature, watch

# Of all images 20 % test, and of the others 20 % validate: the benchmark's parts.
_PART = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Detection:
    """How well attacked inputs are told from clean ones: the result of `mcjax.inputs.detect`.

    - `scores`: attack → (pairs, 2) of the test: of a clean input and of its attacked twin, 0 to 1,
      high for what is taken for adversarial
    - `chosen`: attack → the classifier that validation chose
    - `validation`: attack → its mean AUC there
    - `pairs`: attack → pairs in training, validation and test; of an unseen attack in the test
      alone
    - `feature`: what was looked at
    - `jointly`: whether one detector was trained for all attacks
    """

    scores: Mapping[str, np.ndarray]
    chosen: Mapping[str, str]
    validation: Mapping[str, float]
    pairs: Mapping[str, tuple[int, int, int]]
    feature: Feature
    jointly: bool

    def __post_init__(self) -> None:
        make_read_only(self, "scores", "chosen", "validation", "pairs")

    def __repr__(self) -> str:
        found = ", ".join(f"{k} {v:.3f}" for k, v in self.auc.items())
        return f"Detection({self.feature}; AUC {found})"

    @property
    def auc(self) -> dict[str, float]:
        """Attack → P(attacked scores above clean) + ½ P(both score alike), over the test."""
        return {k: area(v[:, 0], v[:, 1]) for k, v in self.scores.items()}

    @property
    def accuracy(self) -> dict[str, float]:
        """Attack → which part of the test's inputs, half of them attacked, are told right at ½."""
        return {
            k: float(np.mean(np.r_[v[:, 0] <= 0.5, v[:, 1] > 0.5])) for k, v in self.scores.items()
        }

    def roc(self, attack: str) -> tuple[np.ndarray, np.ndarray]:
        """(false positive rates, true positive rates), both rising from 0 to 1.

        **Raises:** `ValueError` for an attack that was not tested.
        """
        _check.one_of(attack, tuple(self.scores), "attack")
        clean, attacked = self.scores[attack].T
        thresholds = np.r_[np.inf, np.unique(np.r_[clean, attacked])[::-1]]
        at = [np.mean(v[:, None] >= thresholds, 0) for v in (clean, attacked)]
        return at[0], at[1]

    def summary(self) -> str:
        """Accuracy and AUC by attack."""
        joint = "one detector for all" if self.jointly else "a detector for each"
        lines = [f"{self.feature}, {joint}"]
        for name in self.scores:
            lines.append(
                f"{name:>16}: accuracy {self.accuracy[name]:.1%}, AUC {self.auc[name]:.1%}; "
                f"{self.pairs[name][2]:,} pairs; {self.chosen[name]}"
            )
        return "\n".join(lines)

    def plot(self, path: str | File | None = None, *, ax: Any = None) -> Any:
        """Draw the receiver operating characteristic of each attack.

        **Arguments:**
        - `path`: picture file; default: none is written
        - `ax`: matplotlib axes; default: those of a new figure

        **Returns:** the axes.
        """
        from ..figures import FAINT, colours_of, house_style, line, new_panels, save_figure

        with house_style(ax is None):
            if ax is None:
                ax = new_panels(1, width=6.0, height=4.6)[0][0]
            colours = colours_of(self.scores)
            ax.plot([0, 1], [0, 1], color=FAINT, lw=1)
            for name in sorted(self.scores, key=lambda n: self.auc[n], reverse=True):
                line(ax, *self.roc(name), colours[name], label=f"{name}, area {self.auc[name]:.3f}")
            ax.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
            ax.set_title(self.feature)
            ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
            if path is not None:
                save_figure(ax.figure, path)
        return ax


def area(low: np.ndarray, high: np.ndarray) -> float:
    """P(high > low) + ½ P(high = low) over all pairs, by ranks."""
    from scipy.stats import rankdata

    ranks = rankdata(np.r_[low, high])[len(low) :]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


@_check.on_host
def detect(
    feature: Feature,
    model: ApplyFn | Network,
    params: Params,
    reference: tuple[Any, Any],
    attacked: Mapping[str, Attacked],
    *,
    unseen: Mapping[str, Attacked] | None = None,
    jointly: bool = True,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
    chunk: int = 1024,
) -> Detection:
    """A detector of adversarial inputs, trained and tested on images and their attacked twins.

    Only attacks that succeeded count. Of the images 20 % are for the test and of the others 20 %
    for validation, which chooses among the feature's classifiers by the mean AUC over attacks; an
    image and all its twins are in the same part. In every part each twin stands beside its image,
    so that half of the inputs are clean.

    **Arguments:**
    - `feature`: what is looked at: `LossCurve()` and others of `mcjax.inputs`, or your own
    - `model`: (params, x) → outputs, or a `Network`, which features of layers need
    - `params`: its parameters
    - `reference`: (x, y), clean inputs of the training that are none of those attacked
    - `attacked`: name → `Attacked`, all of the same images
    - `unseen`: name → `Attacked` of the same images, that the detector is tested on and not trained
      for: whether it knows attacks that it was not shown; it needs `jointly`
    - `jointly`: one detector for all attacks, or one for each
    - `key`: of the parts (default `jax.random.key(0)`)
    - `task`: as the attacks'; `chunk`: inputs at a time

    **Returns:** a `Detection`.

    **Raises:** `ValueError` for no attacks, attacks of different images, an attack with too few
    successes for the three parts (an unseen one for the test), one that is both trained for and
    unseen, a class that `reference` lacks, labels that are no classes, or features that are not
    finite.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> x = np.random.default_rng(0).uniform(0.2, 0.8, (300, 2)).astype("f")
        >>> y, net = (x[:, 1] > x[:, 0]).astype(int), {"w": 9 * jnp.eye(2)}
        >>> f = lambda p, x: x @ p["w"]
        >>> found = {"FGSM": mcjax.attacks.FGSM(0.2)(f, net, x[:200], y[:200])}
        >>> made = mcjax.inputs.detect(
        ...     mcjax.inputs.LossCurve(5), f, net, (x[200:], y[200:]), found)
        >>> made.pairs["FGSM"], 0 <= made.auc["FGSM"] <= 1
        ((108, 27, 34), True)
    """
    if not isinstance(feature, Feature):
        raise ValueError(f"feature must be one of mcjax.inputs, as LossCurve(), got {feature!r}")
    (x, y), _ = _check.labelled(on_auto_axes(reference), "reference")
    watched = watch(model, params, (x, y), task, chunk)
    draws = jax.random.key(0) if key is None else _check.random_key(key)
    unseen = {} if unseen is None else unseen
    _check_attacked(attacked, unseen, jointly)
    parts = _parts(attacked, unseen, draws)
    look = feature.learn(watched, x, np.asarray(y))
    seen = _seen(look, {**attacked, **unseen}, parts)
    for name in unseen:
        seen[name][:2] = [seen[name][0][:0]] * 2
    together = [tuple(attacked)] if jointly else [(name,) for name in attacked]
    scores, chosen, validation = {}, {}, {}
    for names in together:
        of_these = [seen[n] for n in names]
        with one_if_few(sum(part.size for parts_of in of_these for part in parts_of)):
            label, auc, fitted = _best(feature, of_these)
            for name in (*names, *unseen):
                scores[name] = _scores(fitted, seen[name][2])
                chosen[name], validation[name] = label, auc
    counts = {n: (len(v[0]), len(v[1]), len(v[2])) for n, v in seen.items()}
    return Detection(scores, chosen, validation, counts, feature, jointly)


def _check_attacked(attacked: Any, unseen: Any, jointly: bool) -> None:
    """Raise unless both are mappings to attacks of the same images, and share no name."""
    if not isinstance(attacked, Mapping) or not attacked:
        raise ValueError("attacked must be a mapping, name → Attacked, of one attack or more")
    if not isinstance(unseen, Mapping):
        raise ValueError(
            f"unseen must be a mapping, name → Attacked, got a {type(unseen).__name__}"
        )
    if unseen and not jointly:
        raise ValueError("unseen: attacks not trained for are met by one detector, jointly=True")
    both = sorted(set(attacked) & set(unseen))
    if both:
        raise ValueError(f"unseen[{both[0]!r}] is trained for, too")
    first = next(iter(attacked.values()))
    for where, of_where in (("attacked", attacked), ("unseen", unseen)):
        for name, of in of_where.items():
            if not isinstance(of, Attacked):
                raise ValueError(
                    f"{where}[{name!r}] must be an Attacked, got a {type(of).__name__}"
                )
            if not np.array_equal(of.clean, first.clean):
                raise ValueError(
                    f"{where}[{name!r}] is of other images than {next(iter(attacked))!r}"
                )


def _parts(
    attacked: Mapping[str, Attacked], unseen: Mapping[str, Attacked], key: jax.Array
) -> np.ndarray:
    """(n,) 0, 1 or 2: training, validation or test, for images with twins to train for; else −1."""
    first = next(iter(attacked.values()))
    with_twin = np.flatnonzero(np.any([of.success for of in attacked.values()], 0))
    order = with_twin[np.asarray(jax.random.permutation(key, len(with_twin)))]
    test = round(_PART * len(order))
    validation = round(_PART * (len(order) - test))
    found = np.full(len(first.x), -1)
    found[order] = 0
    found[order[:test]], found[order[test : test + validation]] = 2, 1
    for name, of in attacked.items():
        counts = [int((of.success & (found == part)).sum()) for part in range(3)]
        if min(counts) == 0:
            raise ValueError(
                f"attacked[{name!r}]: {of.success.sum()} of {len(of.x)} attacks succeeded, which "
                f"are {counts[0]} for training, {counts[1]} for validation and {counts[2]} for the "
                "test; expected some for each: take more images or a stronger attack"
            )
    for name, of in unseen.items():
        if not (of.success & (found == 2)).any():
            raise ValueError(
                f"unseen[{name!r}]: {of.success.sum()} of {len(of.x)} attacks succeeded, none of "
                "them on an image of the test; take more images or a stronger attack"
            )
    return found


def _seen(look: Any, attacked: Mapping[str, Attacked], parts: np.ndarray) -> dict[str, list]:
    """Attack → for each part (pairs, 2, d): features of images and of their twins."""
    rows = np.flatnonzero(parts >= 0)
    clean = np.asarray(next(iter(attacked.values())).clean)[rows]
    twins = {name: np.flatnonzero(of.success & (parts >= 0)) for name, of in attacked.items()}
    every = [of.x[twins[name]] for name, of in attacked.items()]
    # All at once, in batches of one size.
    images = np.concatenate([clean, *every])
    features = np.asarray(look(images))
    if features.ndim != 2 or len(features) != len(images):
        raise ValueError(
            f"feature: of {len(images)} inputs it made {features.shape}, expected "
            f"({len(images)}, d), a row of numbers for each"
        )
    counts = [len(clean), *map(len, every)]
    of_clean, *of_twins = np.split(features, np.cumsum(counts)[:-1])
    found = {}
    for (name, which), moved in zip(twins.items(), of_twins, strict=True):
        both = np.stack([of_clean[np.searchsorted(rows, which)], moved], 1)
        if not np.isfinite(both).all():
            raise ValueError(f"{name!r}: features are not finite; are the losses?")
        found[name] = [both[parts[which] == part] for part in range(3)]
    return found


def _best(feature: Feature, seen: list[list]) -> tuple[str, float, Any]:
    """(name, mean AUC over attacks, classifier) of the one that validation likes best."""
    pairs = np.concatenate([parts[0] for parts in seen])
    x, y = pairs.reshape(-1, pairs.shape[2]), np.tile([0, 1], len(pairs))
    best = "", -1.0, None
    for name, classifier in feature.classifiers().items():
        if getattr(_last(classifier), "n_neighbors", 1) > len(x):
            continue
        classifier.fit(x, y)
        auc = float(np.mean([area(*_scores(classifier, parts[1]).T) for parts in seen]))
        if auc > best[1]:
            best = name, auc, classifier
    return best


def _last(classifier: Any) -> Any:
    return classifier[-1] if hasattr(classifier, "steps") else classifier


def _scores(classifier: Any, pairs: np.ndarray) -> np.ndarray:
    """(pairs, 2)"""
    return classifier.predict_proba(pairs.reshape(-1, pairs.shape[2]))[:, 1].reshape(-1, 2)


__all__ = ["Detection", "area", "detect"]
