"""`mcjax.testing.check_method`: every method keeps the contract, and each break of it is found."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import numpy as np
import pytest

import mcjax
from mcjax.methods import OT, PRESETS, Connection, WithSwaps
from mcjax.path import Linear
from mcjax.testing import check_method
from mcjax.testing.models.catalogue import MLP, linen, vectors
from mcjax.training import Protocol


@pytest.fixture(scope="module")
def problem():
    case = linen(MLP((5,)), vectors(), [(5,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    x = case.inputs(24)
    return (network, case.another(1), case.another(2)), {"x": x, "y": np.arange(24) % 4}


def quick(method):
    """With one epoch of each protocol."""
    brief = {
        name: Protocol(1, batch=12, learning_rate=0.05)
        for name in ("protocol", "permutation_protocol")
        if hasattr(method, name)
    }
    return dataclasses.replace(method, **brief)


@pytest.mark.parametrize("name", [*PRESETS, "with swaps"])
def test_every_preset(problem, name):
    networks, data = problem
    method = PRESETS.get(name, WithSwaps(OT(), 2))
    check_method(quick(method), *networks, **data, key=jax.random.key(3))


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """The segment to B in a random order of its units."""

    label = "Shuffled"
    moves_end = True

    def connect(self, problem):
        p = problem
        order = p.network.random_permutations(p.key)
        return Connection(Linear(p.a, p.network.permute(order, p.b)), order, "heuristic")


def test_a_users(problem):
    networks, _ = problem
    check_method(Shuffled(), *networks)
    check_method(Whole(), *networks)


class Plain:
    """An option that can be set."""

    def __init__(self):
        self.scale = 1.0

    def connect(self, problem):
        return Connection(Linear(problem.a, problem.b))


class Nameless:
    """Told by its address alone."""

    def connect(self, problem):
        return Connection(Linear(problem.a, problem.b))


@dataclasses.dataclass(frozen=True)
class Whole:
    """A segment that keeps the contract: what is broken below is one thing at a time."""

    options: object = 1

    def connect(self, problem):
        return Connection(Linear(problem.a, problem.b))


class Far(Whole):
    def connect(self, problem):
        return Connection(Linear(problem.a, jax.tree.map(lambda v: v * 1.0001, problem.b)))


class Silent(Shuffled):
    """Moves units without saying that it does."""

    moves_end = False


class Another(Shuffled):
    """Ends at B with its units moved, and gives no permutations."""

    def connect(self, problem):
        return Connection(super().connect(problem).path)


class Wanting(Whole):
    def connect(self, problem):
        assert problem.x is not None, "x is not there"
        return super().connect(problem)


class Counting(Whole):
    """Draws by a count of its own and not by the key."""

    counter = itertools.count()
    moves_end = True

    def connect(self, problem):
        key = jax.random.key(next(self.counter))
        return Shuffled().connect(dataclasses.replace(problem, key=key))


class Remembering(Whole):
    """Writes into its own option."""

    def connect(self, problem):
        object.__setattr__(self, "options", 2)
        return super().connect(problem)


class Spoiling(Whole):
    """Writes into A."""

    def connect(self, problem):
        jax.tree.leaves(problem.a)[0][...] = 0
        return super().connect(problem)


class Mute(Whole):
    def connect(self, problem):
        return dataclasses.replace(super().connect(problem), status="")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Plain(), "a method must be frozen .*: setting 'scale' must raise AttributeError"),
        (Nameless(), "a copy of the method must have its repr"),
        (Whole([1]), "a copy of the method must have a hash: unhashable type"),
        (Far(), "the path at t = 1: leaf .* differs"),
        (Silent(), "moves_end is False, and the result moves units"),
        (Another(), "the path at t = 1: leaf .* differs"),
        (Wanting(), "x is not there"),
        (Counting(), "the same key, the path at t = 0.137: leaf .* differs"),
        (Remembering(), "the method after connecting must have its repr"),
        (Spoiling(), "a and b after connecting: leaf .* differs"),
        (Mute(), "the status must be a word or more"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_each_break_is_found(problem, method, message):
    networks, data = problem
    network, *ends = networks
    ends = [jax.tree.map(np.array, p) for p in ends]
    with pytest.raises(AssertionError, match=message):
        check_method(method, network, *ends, **data)
