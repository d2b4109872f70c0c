"""The rows of the tables: how two transformers are joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path as Folder
from typing import Any

import jax

import mcjax
from mcjax import Action
from mcjax.align import (
    ActionSearch,
    Matching,
    Objective,
    learn_action,
    match_activations,
    match_weights,
)
from mcjax.path import Bezier, Linear, Path
from mcjax.training import Protocol, train_curve

from .endpoints import Problem

# Training inputs that activations are compared on.
_SAMPLE = 2000
# Training inputs that tell whether what was learned is better than the start.
_SCORED = 512


@dataclasses.dataclass
class Pair:
    """Two trained networks, and what is found on the way from one to the other.

    - `learning`: how alignments are learned, `curves`: how curves are trained
    - `folder`: checkpoints
    """

    problem: Problem
    network: mcjax.Network
    a: Any
    b: Any
    learning: Protocol
    curves: Protocol
    folder: Folder
    key: jax.Array

    @cached_property
    def matched(self) -> Matching:
        """Permutations by weight matching."""
        return match_weights(self.network, self.a, self.b, key=self.key, restarts=3)

    @cached_property
    def matched_in_full(self) -> Matching:
        """Weight matching over the whole group of each unit group."""
        return match_weights(self.network, self.a, self.b, key=self.key, symmetry="full")

    @cached_property
    def matched_by_activations_in_full(self) -> Matching:
        """Activation matching over the whole group of each unit group."""
        x = self.problem.train[0][:_SAMPLE]
        return match_activations(self.network, self.a, self.b, x, symmetry="full")

    @cached_property
    def absorbed(self) -> Pair:
        """The same functions, with scales and biases of normalisations in the weights beside."""
        network, a = self.network.absorbed(self.a)
        _, b = self.network.absorbed(self.b)
        folder = self.folder / "absorbed"
        return dataclasses.replace(self, network=network, a=a, b=b, folder=folder)

    @cached_property
    def permutations_only(self) -> mcjax.Network:
        """The network with nothing left of its groups but permutations."""
        return self.network.restricted()

    def permuted(self, permutations: Any) -> Any:
        return self.network.permute(permutations, self.b)

    def bezier(self, end: Any, name: str) -> Found:
        """The quadratic Bézier curve trained from the segment to `end`."""
        start = Bezier.between(self.a, end)
        fitted = train_curve(
            start, self.network, self.problem.train, self.curves, key=self.key,
            task=self.problem.task, directory=self.folder / name,
        )  # fmt: skip
        return fitted.path, {"losses": fitted.losses.tolist()}


# What a row finds: a path, and what is to be told of it besides.
Found = tuple[Path, dict[str, Any]]


def segment(pair: Pair) -> Found:
    return Linear(pair.a, pair.b), {}


def by_activations(pair: Pair) -> Found:
    sample = pair.problem.train[0][:_SAMPLE]
    found = match_activations(pair.network, pair.a, pair.b, sample)
    return Linear(pair.a, pair.permuted(found.permutations)), {"status": found.status}


def by_activations_in_full(pair: Pair) -> Found:
    found = pair.matched_by_activations_in_full
    return Linear(pair.a, found.action(pair.network)(pair.b)), {"status": found.status}


def by_weights(pair: Pair) -> Found:
    told = {"status": pair.matched.status, "value": pair.matched.after["total"]}
    return Linear(pair.a, pair.permuted(pair.matched.permutations)), told


def by_weights_in_full(pair: Pair) -> Found:
    found = pair.matched_in_full
    told = {"status": found.status, "value": found.after["total"]}
    return Linear(pair.a, found.action(pair.network)(pair.b)), told


def search(pair: Pair) -> ActionSearch:
    """How elements are learned: what starts within a tenth of another permutation may change."""
    p, how = pair.problem, pair.learning
    steps = how.epochs * (len(p.train[0]) // how.batch)
    objective = Objective.on(pair.network, p.train, how.batch, task=p.task, examples=_SCORED)
    return ActionSearch(how, how.optimizer(steps), margin=0.1, objective=objective)


def learned(pair: Pair, network: mcjax.Network, start: Action, name: str) -> Found:
    """The segment to the orbit of B under a network's symmetries, found by the loss."""
    found = learn_action(
        network, pair.a, pair.b, pair.problem.train, search(pair), start=start,
        key=pair.key, task=pair.problem.task, directory=pair.folder / name,
    )  # fmt: skip
    told = {
        "status": found.status, "objective": [found.before, found.after],
        "losses": found.losses.tolist(),
    }  # fmt: skip
    return Linear(pair.a, found.action(pair.b)), told


def learned_permutations(pair: Pair) -> Found:
    network = pair.permutations_only
    start = Action.of(network, pair.matched.permutations)
    return learned(pair, network, start, "learned-permutations")


def learned_full(pair: Pair) -> Found:
    start = pair.matched_in_full.action(pair.network)
    return learned(pair, pair.network, start, "learned-full")


def learned_full_from_activations(pair: Pair) -> Found:
    start = pair.matched_by_activations_in_full.action(pair.network)
    return learned(pair, pair.network, start, "learned-activations-full")


def bezier(pair: Pair) -> Found:
    return pair.bezier(pair.b, "bezier")


def bezier_by_weights(pair: Pair) -> Found:
    return pair.bezier(pair.permuted(pair.matched.permutations), "bezier-weights")


def bezier_by_weights_in_full(pair: Pair) -> Found:
    end = pair.matched_in_full.action(pair.network)(pair.b)
    return pair.bezier(end, "bezier-weights-full")


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to join a pair.

    - `absorbed`: paths are taken between parameters in which normalisations have neither scale
      nor bias (`Network.absorbed`); else between those that were trained
    """

    name: str
    label: str
    find: Callable[[Pair], Found]
    absorbed: bool = False


ROWS = (
    Row("segment", "Segment", segment),
    Row("activations", "Activation matching", by_activations),
    Row("weights", "Weight matching, permutations", by_weights),
    Row("learned", "Learned permutations", learned_permutations),
    Row("bezier", "Bézier from the segment", bezier),
    Row("bezier-weights", "Bézier from weight matching", bezier_by_weights),
    Row("absorbed-segment", "Segment", segment, True),
    Row("absorbed-weights", "Weight matching, permutations", by_weights, True),
    Row("absorbed-learned", "Learned permutations", learned_permutations, True),
    Row("full", "Weight matching, whole group", by_weights_in_full, True),
    Row("activations-full", "Activation matching, whole group", by_activations_in_full, True),
    Row("learned-full", "Learned from weights, whole group", learned_full, True),
    Row(
        "learned-activations-full",
        "Learned from activations, whole group",
        learned_full_from_activations,
        True,
    ),
    Row("bezier-full", "Bézier from the whole group", bezier_by_weights_in_full, True),
)
