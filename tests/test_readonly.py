"""Results that nobody changes by accident."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import Matching
from mcjax.methods import Connection, LayerByLayer, WeightAdjustment
from mcjax.testing.models.catalogue import MLP, linen, vectors


@pytest.fixture(scope="module")
def made():
    case = linen(MLP((5,)), vectors(), [(5,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, b, x = case.another(1), case.another(2), case.inputs(40)
    method = LayerByLayer(mcjax.methods.OT(), WeightAdjustment(3))
    return network, a, b, mcjax.connect(network, a, b, method, x=x)


def every(value, name):
    """(Name, mapping or array) of all that a result holds, its parameters left out."""
    if isinstance(value, dict):
        yield name, value
        for key, v in value.items():
            yield from every(v, f"{name}[{key!r}]")
    elif isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, list | tuple):
        for i, v in enumerate(value):
            yield from every(v, f"{name}[{i}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, mcjax.Network):
        for f in dataclasses.fields(value):
            if f.name not in ("path", "params", "method", "task"):
                yield from every(getattr(value, f.name), f"{name}.{f.name}")


def results(made):
    network, a, b, connection = made
    yield connection
    yield mcjax.align.match_weights(network, a, b, symmetry="full")
    yield mcjax.align.match_many(network, [a, b])
    yield mcjax.canonicalize(network, a)
    x, y = np.ones((4, 6), np.float32), np.zeros(4, int)
    yield mcjax.evaluate(connection.path, network, (x, y), 3)


def test_nothing_of_a_result_can_be_written_to(made):
    seen = 0
    for result in results(made):
        for name, value in every(result, type(result).__name__):
            seen += 1
            if isinstance(value, dict):
                for change in (
                    lambda v=value: v.update(new=1),
                    lambda v=value: v.__setitem__("new", 1),
                    lambda v=value: v.setdefault("new", 1),
                    lambda v=value: v.__delitem__(next(iter(v), "new")),
                    lambda v=value: v.pop("new", None),
                    lambda v=value: v.popitem(),
                    lambda v=value: v.clear(),
                ):
                    with pytest.raises(TypeError, match="results cannot be changed"):
                        change()
            elif value.size:
                with pytest.raises(ValueError, match="read-only"):
                    value[...] = 0
            assert name
    assert seen > 30


def test_what_was_handed_over_stays_the_makers():
    mine = np.array([1, 0, 2])
    given = {"w1": mine}
    made = Connection(None, given)
    given["w2"] = mine
    assert list(made.permutations) == ["w1"]
    mine[0] = 1  # neither frozen nor copied
    assert mine.flags.writeable


def test_as_the_dict_that_it_is(made):
    network, _, b, connection = made
    held = connection.permutations
    plain = {n: np.asarray(p) for n, p in held.items()}
    assert jax.tree.leaves(held)[0].tolist() == jax.tree.leaves(plain)[0].tolist()
    moved = jax.jit(lambda p, params: network.permute(p, params))(held, b)
    jax.tree.map(np.testing.assert_array_equal, moved, network.permute(plain, b))
    twice = jax.tree.map(lambda v: v + v, held)
    assert type(twice) is type(held)
    for again in (copy.copy(held), copy.deepcopy(held), pickle.loads(pickle.dumps(held))):
        assert list(again) == list(held)
        assert type(again) is type(held)
    for free in (held.copy(), held | {}, {**held}, dict(held)):
        free["new"] = 1
        assert "new" not in held
    values = held
    values |= {"new": 1}
    assert "new" not in held
    assert json.loads(json.dumps(connection.metadata))["label"] == "OT + WA"
    assert dataclasses.asdict(Matching(held, {}, {}, "by hand", "heuristic"))["status"]


def test_still_so_after_a_file(made, tmp_path):
    network, *_, connection = made
    mcjax.save(tmp_path / "made.safetensors", connection)
    again = mcjax.load(tmp_path / "made.safetensors", like=network)
    with pytest.raises(TypeError, match="results cannot be changed"):
        again.permutations["new"] = 1
    with pytest.raises(ValueError, match="read-only"):
        next(iter(again.permutations.values()))[0] = 0
    jax.tree.map(np.testing.assert_array_equal, again.permutations, connection.permutations)
    with pytest.raises(TypeError, match="results cannot be changed"):
        Matching({}, {}, {}, "by hand", "heuristic").after["total"] = jnp.inf
