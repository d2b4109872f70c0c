"""`mcjax.save` and `mcjax.load`: every path and every result comes back, to the bit."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import equinox as eqx
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import mcjax
from mcjax.path import Linear, Path, Swaps, static

from ..handed import CASES
from ..paths import PATHS, network_of, tree


class Parabola(Path):
    """A user's path."""

    a: Any
    b: Any
    power: int = static(default=2)

    def at(self, t):
        return jax.tree.map(lambda a, b: a + t**self.power * (b - a), self.a, self.b)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "saved.safetensors"


def networks(value):
    """The networks that a path was made with."""
    leaves = jax.tree.leaves(value, is_leaf=lambda v: isinstance(v, Path) and v is not value)
    found = [getattr(value, "network", None)]
    return [n for n in found if n is not None] + [
        n for v in leaves if isinstance(v, Path) for n in networks(v)
    ]


def bits(tree):
    return [(str(v.dtype), v.shape, np.asarray(v).tobytes()) for v in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", PATHS)
def test_every_path(name, file):
    path = PATHS[name]()
    mcjax.save(file, path)
    like = next(iter(networks(path)), None)
    again = mcjax.load(file, like=like)
    assert jax.tree.structure(again) == jax.tree.structure(path)
    assert bits(again) == bits(path)
    assert bits(again(0.3)) == bits(path(0.3))
    # Another path holds the same network.
    assert bits(mcjax.load(file, like=path)) == bits(path)


def test_repaired_and_points_on_it(file):
    a = {"w1": jnp.eye(3), "b1": jnp.zeros(3), "w2": jnp.ones((3, 1))}
    f = lambda p, x: jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]
    x = jax.random.normal(jax.random.key(0), (20, 3))
    network = mcjax.trace(f, a, x)
    line = Linear(a, jax.tree.map(jnp.negative, a))
    path = mcjax.evaluation.Repaired(line, network, x)
    mcjax.save(file, path)
    assert bits(mcjax.load(file, like=network)(0.5)) == bits(path(0.5))


def test_a_users_path_and_values_together(file):
    value = {"path": Parabola(tree(0), tree(1), 3), "others": [(Linear(tree(0), tree(1)), None)],
             "permutations": {"w1": np.array([1, 0])}}  # fmt: skip
    mcjax.save(file, value)
    again = mcjax.load(file)
    assert again["path"].power == 3
    assert bits(again["path"](0.5)) == bits(value["path"](0.5))
    assert type(again["others"][0][0]) is Linear
    assert again["permutations"]["w1"].tolist() == [1, 0]


def test_results(file):
    f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
    make = lambda *s: jnp.asarray(np.random.default_rng(s[0]).normal(size=s), jnp.float32)
    a = {"w1": make(3, 4), "w2": make(4, 2)}
    b = {"w1": make(3, 4)[:, ::-1], "w2": make(4, 2)[::-1]}
    network = mcjax.trace(f, a, jnp.ones((2, 3)))
    matching = mcjax.align.match_weights(network, a, b, key=jax.random.key(0))
    curve = mcjax.evaluate(Linear(a, b), f, (jnp.eye(3), jnp.array([0, 1, 1])), t=3)
    loss = np.where([False, True, False], np.nan, curve.loss)
    curve = dataclasses.replace(curve, values={**curve.values, "loss": loss})
    mcjax.save(file, (matching, curve))
    again = mcjax.load(file)
    assert again[0].summary() == matching.summary()
    for found, expected in zip(again, (matching, curve), strict=True):
        for field in dataclasses.fields(expected):
            np.testing.assert_equal(getattr(found, field.name), getattr(expected, field.name))
    assert again[1].task is mcjax.tasks.CLASSIFICATION


class ByTheOrigin:
    """A method of the user's, whose class no file can hold."""

    def connect(self, problem):
        origin = jax.tree.map(lambda v: 0 * v, problem.a)
        points = [problem.a, origin, problem.b]
        return mcjax.methods.Connection(mcjax.path.PolygonalChain(points))


def test_a_connection_of_a_method_of_the_users(file):
    f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
    a, b = ({"w1": s * jnp.eye(3), "w2": jnp.ones((3, 2))} for s in (1.0, 2.0))
    network = mcjax.trace(f, a, jnp.ones((2, 3)), check=False)
    mcjax.save(file, mcjax.connect(network, a, b, ByTheOrigin()))
    again = mcjax.load(file, like=network)
    assert again.method is None
    assert "ByTheOrigin" in again.metadata["method"]
    np.testing.assert_array_equal(again.path(0.75)["w1"], np.eye(3))


def test_a_merged_network(file):
    f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
    a, b = ({"w1": s * jnp.eye(3), "w2": jnp.ones((3, 2))} for s in (1.0, 2.0))
    network = mcjax.trace(f, a, jnp.ones((2, 3)), check=False)
    made = mcjax.merge.merge(network, [a, b], mcjax.merge.Dare(), base=a)
    mcjax.save(file, made)
    again = mcjax.load(file)
    assert again.summary() == made.summary()
    assert again.method == made.method
    assert bits(again.params) == bits(made.params)
    mcjax.save(file, mcjax.merge.merge(network, [a, b], lambda problem: problem.mean()))
    assert mcjax.load(file).method is None


def test_a_task_of_the_users(file):
    error = lambda outputs, y: jnp.abs(outputs - y).max(-1)
    task = mcjax.Task("worst coordinate", {"loss": error}, {"loss": "high"})
    f = lambda p, x: x @ p["w"]
    path = Linear({"w": jnp.eye(2)}, {"w": -jnp.eye(2)})
    curve = mcjax.evaluate(path, f, (jnp.eye(2), jnp.eye(2)), t=3, task=task)
    mcjax.save(file, curve)
    assert mcjax.load(file, like=task).worst("loss") == curve.worst("loss") == 2
    assert mcjax.load(file, like=curve).task is task
    with pytest.raises(ValueError, match=r"for the task 'worst coordinate'.*pass like=task"):
        mcjax.load(file)


@pytest.mark.parametrize("name", CASES)
def test_parameters_of_every_kind_in_a_path(name, file):
    given = CASES[name]()
    a, b = given.make(0), given.make(1)
    path = Linear(a, b)
    mcjax.save(file, path)
    again = mcjax.load(file, like=a)
    assert jax.tree.structure(again) == jax.tree.structure(path)
    kept = lambda v: [x for x in jax.tree.leaves(v) if jnp.issubdtype(x.dtype, jnp.inexact)]
    assert bits(kept(again)) == bits(kept(path))
    network = mcjax.trace(
        given.apply_fn, a, given.x if given.x is not None else np.ones((2, 3), "f")
    )
    assert jax.tree.structure(mcjax.load(file, like=network)) == jax.tree.structure(path)


def test_parts_of_other_libraries_are_told_apart_by_their_place(file):
    make = lambda act, s: eqx.nn.MLP(2, 2, 3, 1, activation=act, key=jax.random.key(s))
    one = {"first": make(jnp.tanh, 0), "second": make(jnp.sin, 1)}
    two = {"first": make(jnp.tanh, 2), "second": make(jnp.sin, 3)}
    path = mcjax.path.Bezier([one, two, one])
    mcjax.save(file, path)
    point = mcjax.load(file, like=one)(0.5)
    assert point["first"].activation is jnp.tanh
    assert point["second"].activation is jnp.sin
    with pytest.raises(ValueError, match="MLP, whose class the file does not hold"):
        mcjax.load(file)
    with pytest.raises(ValueError, match="MLP, whose class the file does not hold"):
        mcjax.load(file, like={"first": one["first"]})
    wider = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"leaf 'layers/0/weight' is float32 of shape \(3, 2\)"):
        mcjax.load(file, like={"first": wider, "second": wider})


def test_flax_structs_and_types(file):
    @flax.struct.dataclass
    class State:
        w: jax.Array
        step: int = flax.struct.field(pytree_node=False)

    state = State(jnp.ones(2), 3)
    mcjax.save(file, state)
    assert mcjax.load(file, like=jax.eval_shape(lambda: state)).step == 3


# -- what does not fit -----------------------------------------------------------------------


def test_another_network(file):
    a, b = tree(0), tree(1)
    network = network_of(b, jnp.float32)
    (name,) = network.groups
    mcjax.save(file, Swaps(network, b, {name: np.array([1, 2, 3, 0])}))
    with pytest.raises(ValueError, match="belongs to a network, which is not in the file"):
        mcjax.load(file)
    with pytest.raises(ValueError, match="belongs to a network"):
        mcjax.load(file, like=a)
    f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
    other = mcjax.trace(f, {"w1": jnp.eye(3), "w2": jnp.eye(3)}, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"another network than like: leaves: .*'layer/b'"):
        mcjax.load(file, like=other)


def written(file):
    """What stands in a file beside its arrays."""
    with safetensors.safe_open(file, "numpy") as opened:
        return json.loads(opened.metadata()["mcjax"])


def changed(file, change):
    """The file with its header's JSON changed."""
    header = written(file)
    with safetensors.safe_open(file, "numpy") as opened:
        arrays = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
    change(header)
    safetensors.numpy.save_file(arrays, file, {"mcjax": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=2), "has format 2, and this mcjax reads format 1"),
        (lambda h: h.pop("value"), "its header cannot be read"),
        (lambda h: h["value"].update({"class": "mcjax.path.Spline"}), "another version of mcjax"),
        (lambda h: h["value"].update({"class": "gone:Spline"}), "import its module before"),
        (lambda h: h["value"].update({"class": "subprocess:Popen"}), "not known here"),
        (lambda h: h["value"].update({"class": "os:system"}), "not known here"),
        (lambda h: h["value"].update({"class": "mcjax.training.Protocol"}), "has other fields"),
        (lambda h: h["value"].update({"is": "spline"}), "does not hold what mcjax writes"),
        (lambda h: h["value"]["fields"].pop("b"), "'b' is in one only"),
        (lambda h: h["value"]["fields"]["a"]["of"][0][1].update(array="no"), "changed by hand"),
    ],
)
def test_changed_and_newer_files(file, change, message):
    mcjax.save(file, Linear({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}))
    changed(file, change)
    with pytest.raises(ValueError, match=message):
        mcjax.load(file)


def test_cut_off_files(file):
    mcjax.save(file, Linear({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}))
    content = file.read_bytes()
    for n in (0, 7, 50, len(content) - 1):
        file.write_bytes(content[:n])
        with pytest.raises(ValueError, match="is no whole safetensors file"):
            mcjax.load(file)


def test_a_file_imports_nothing(file, tmp_path, monkeypatch):
    """The class of a user's path must be there already: its module is not looked for."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trap_for_files.py").write_text("raise SystemExit('imported')")
    mcjax.save(file, Linear({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}))
    changed(file, lambda h: h["value"].update({"class": "trap_for_files:Linear"}))
    with pytest.raises(ValueError, match="import its module before loading"):
        mcjax.load(file)


def test_classes_of_ours_are_named_by_their_place(file):
    ends = {"w": np.zeros(2)}, {"w": np.ones(2)}
    curve = mcjax.evaluation.Curve(np.zeros(1), {"loss": np.ones(1)}, np.zeros(0))
    for value, name in (
        (Linear(*ends), "mcjax.path.Linear"),
        (curve, "mcjax.evaluation.Curve"),
        (Parabola(*ends), f"{__name__}:Parabola"),
    ):
        mcjax.save(file, value)
        assert written(file)["value"]["class"] == name
