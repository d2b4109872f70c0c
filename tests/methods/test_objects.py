"""Methods as objects: values, options, what they say of themselves, one's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.methods import (
    OT,
    PRESETS,
    ActionLearning,
    ActivationMatching,
    Arc,
    Butterfly,
    Connection,
    Flow,
    LayerByLayer,
    Linear,
    Pam,
    TrainedCurve,
    WeightAdjustment,
    WeightMatching,
    WithSwaps,
    traits_of,
    with_epochs,
)
from mcjax.path import Bezier, Legs, PolygonalChain, Swaps
from mcjax.tasks import REGRESSION
from mcjax.testing.models.catalogue import MLP, linen, vectors
from mcjax.training import Protocol, tatro2020

ONE = LayerByLayer(OT(), WeightAdjustment(5))


@pytest.fixture(scope="module")
def pair():
    case = linen(MLP((12,)), vectors(), [(12,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a = case.another(1)
    b = network.permute(network.random_permutations(jax.random.key(3)), case.another(2))
    return case, network, a, b


# -- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_values(name):
    method = PRESETS[name]
    assert [n for n, m in PRESETS.items() if m == method] == [name]
    names = {k: v for k, v in vars(mcjax.methods).items() if isinstance(v, type)}
    paths = {"Bezier": Bezier, "PolygonalChain": PolygonalChain, "Protocol": Protocol}
    solvers = vars(mcjax.transport)
    assert eval(repr(method), {**solvers, **names, **paths}) == method


def test_labels_are_those_of_the_tables():
    labels = {n: m.label for n, m in PRESETS.items()}
    assert labels["ot+wa"] == "OT + WA"
    assert labels["arc+butterfly"] == "Arc + B-fly"
    assert labels["garipov-5"] == "Garipov (5)"
    assert labels["bezier+alignment"] == "Bézier, aligned"
    assert len(set(labels.values())) == len(labels)
    assert TrainedCurve(Bezier, bends=2).label == "Bézier (4)"
    assert WithSwaps(OT()).label == "OT, swaps"
    assert all(m.source for m in PRESETS.values())


def test_presets_have_the_papers_options():
    assert PRESETS["ot+wa"].reader.points == 11
    assert PRESETS["garipov-3"].protocol == Protocol(epochs=60)
    assert PRESETS["bezier"].protocol == tatro2020(learning_rate=0.01)
    assert PRESETS["bezier+alignment"].align == ActivationMatching()
    assert PRESETS["activation-matching"].examples == 10_000
    assert (PRESETS["pam"].proximal, PRESETS["pam"].iterations) == (1e3, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(solver="exact"),
        lambda: Arc(points=3),
        lambda: Butterfly(points=3),
        lambda: WeightMatching(solver="magic"),
        lambda: WeightAdjustment(protocol=1),
    ],
)
def test_an_option_that_a_method_does_not_have(make):
    with pytest.raises(TypeError, match=r"unexpected keyword argument|takes no arguments"):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OT(solver="magic"), r"solver must be a mcjax\.transport\.Solver"),
        (lambda: ActivationMatching("cosine"), "statistic must be one of"),
        (lambda: ActivationMatching(tap="mid"), "tap must be one of"),
        (lambda: ActivationMatching(examples=0), "examples must be a positive integer"),
        (lambda: WeightMatching(0), "restarts must be a positive integer"),
        (lambda: TrainedCurve(protocol=3), "protocol must be a mcjax.training.Protocol, got"),
        (lambda: Pam(proximal=0.0), "proximal must be positive"),
        (lambda: TrainedCurve(bends=0), "bends must be a positive integer"),
        (lambda: TrainedCurve(curve=mcjax.path.Linear), "curve must be a class of paths with free"),
        (lambda: TrainedCurve(align=Linear()), "align must be a method that brings B's units"),
        (lambda: Pam(align="ot"), "align must be the name of a preset or an object|align must"),
        (lambda: WithSwaps(OT), "method is the class OT; pass an object of it"),
        (lambda: Flow("iaf-flow"), "model must be a connection model"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_epochs_keep_the_shape_of_a_schedule():
    halves = with_epochs(PRESETS["bezier"], 25).protocol
    assert (halves.epochs, halves.halve_every) == (25, 2.0)
    assert with_epochs(PRESETS["garipov-5"], 7).protocol == Protocol(epochs=7)
    assert with_epochs(PRESETS["ot"], 7) is PRESETS["ot"]


# -- what comes out ---------------------------------------------------------------------------


def test_connection_says_how_it_was_made(pair):
    case, network, a, b = pair
    x = case.inputs(60)
    made = mcjax.connect(network, a, b, ONE, x=x, key=jax.random.key(7))
    assert made.method == ONE
    assert made.metadata["examples"] == 60
    assert made.metadata["task"] is None  # no labels were given
    assert made.metadata["key"] == [0, 7]
    assert made.metadata["seconds"] > 0
    assert made.metadata["jax"] == jax.__version__
    shown = made.summary()
    assert "OT + WA" in shown
    assert "WeightAdjustment(points=5)" in shown
    assert "Dense_1: solved at 5 t, rank 12 of 12" in shown
    assert len(shown) < 1000


def test_the_action_of_a_connection(pair):
    _, network, a, b = pair
    made = mcjax.connect(network, a, b, "weight-matching")
    jax.tree.map(np.testing.assert_array_equal, made.action(b), made.path(1.0))
    with pytest.raises(ValueError, match="network is None: an action belongs to a network"):
        _ = Connection(made.path, made.permutations).action


def test_an_end_moved_by_the_whole_group(pair, tmp_path):
    case, network, a, b = pair
    b = mcjax.Action.random(network, jax.random.key(4))(b)
    made = mcjax.connect(network, a, b, "weights-full")
    assert list(made.elements) == ["Dense_0"]
    jax.tree.map(np.testing.assert_array_equal, made.action(b), made.path(1.0))
    outputs = (case.run(p, case.x) for p in (b, made.path(1.0)))
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)
    assert "and moved by 1 groups' elements: positive" in made.summary()
    mcjax.save(tmp_path / "made.safetensors", made)
    again = mcjax.load(tmp_path / "made.safetensors", like=network)
    jax.tree.map(np.testing.assert_array_equal, again.action(b), made.path(1.0))
    curve = TrainedCurve(protocol=Protocol(1, batch=5), align=WeightMatching(symmetry="full"))
    x, y = case.inputs(20), np.arange(20) % 4
    trained = mcjax.connect(network, a, b, curve, x=x, y=y)
    jax.tree.map(np.testing.assert_array_equal, trained.path(1.0), made.path(1.0))
    with pytest.raises(ValueError, match="swaps lead back what is permuted"):
        mcjax.connect(network, a, b, WithSwaps(PRESETS["weights-full"]))
    pam = Pam(Protocol(1, batch=5), WeightMatching(symmetry="full"))
    with pytest.raises(ValueError, match="PAM learns permutations"):
        mcjax.connect(network, a, b, pam, x=x, y=y)


def test_methods_by_activations_and_by_the_loss_move_by_the_whole_group(pair):
    case, network, a, b = pair
    b = mcjax.Action.random(network, jax.random.key(4))(b)
    x, y = case.inputs(20), np.arange(20) % 4
    seen = mcjax.connect(network, a, b, "activations-full", x=x)
    learned = with_epochs(PRESETS["learned-full"], 1)
    assert learned.protocol.epochs == 1
    learned = ActionLearning(Protocol(1, batch=5))
    learned = mcjax.connect(network, a, b, learned, x=x, y=y)
    for made in (seen, learned):
        jax.tree.map(np.testing.assert_array_equal, made.action(b), made.path(1.0))
        outputs = (case.run(p, case.x) for p in (b, made.path(1.0)))
        np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)
        assert "positive" in made.elements["Dense_0"]
    assert learned.status in ("improved", "not improved")
    assert learned.metadata["objective after"] <= learned.metadata["objective before"]
    with pytest.raises(ValueError, match="align must be a method that brings"):
        ActionLearning(align=PRESETS["linear"])
    with pytest.raises(ValueError, match="symmetry must be"):
        ActivationMatching(symmetry="all")


@pytest.mark.parametrize("inner", [OT(), WeightMatching(), ONE])
def test_with_swaps_ends_at_b(pair, inner):
    case, network, a, b = pair
    made = mcjax.connect(network, a, b, WithSwaps(inner, together=3), x=case.inputs(60))
    assert not made.permutations
    assert isinstance(made.path, Legs)
    assert isinstance(made.path.legs[-1], Swaps)
    jax.tree.map(np.testing.assert_array_equal, made.path(1.0), b)
    jax.tree.map(np.testing.assert_array_equal, made.path(0.0), a)


def test_with_swaps_where_nothing_moves(pair):
    _, network, a, _ = pair
    made = mcjax.connect(network, a, a, WithSwaps(OT()))
    assert isinstance(made.path, mcjax.path.Linear)
    assert not made.permutations


def test_aligned_curve_starts_from_the_aligned_segment(pair):
    """With a rate of zero the curve is the segment to B in the order of the matching."""
    case, network, a, b = pair
    x, still = case.inputs(64), Protocol(1, 32, learning_rate=0.0)
    y = np.zeros(64, int)
    for align in (WeightMatching(), ActivationMatching("l2", "pre")):
        method = TrainedCurve(Bezier, protocol=still, align=align)
        made = mcjax.connect(network, a, b, method, x=x, y=y)
        line = mcjax.connect(network, a, b, align, x=x)
        assert made.status == "trained"
        for name, p in line.permutations.items():
            np.testing.assert_array_equal(made.permutations[name], p)
        close = lambda u, v: np.testing.assert_allclose(u, v, atol=1e-6)
        jax.tree.map(close, made.path(0.3), line.path(0.3))


def test_pam_is_a_method(pair):
    case, network, a, b = pair
    x = case.inputs(64)
    y = np.asarray(jnp.argmax(case.run(a, x), -1))
    method = Pam(Protocol(2, 32, 0.05), WeightMatching(), permutation_protocol=Protocol(1, 32))
    made = mcjax.connect(network, a, b, method, x=x, y=y)
    end = network.permute(made.permutations, b)
    jax.tree.map(np.testing.assert_array_equal, made.path(1.0), end)
    assert made.status == "trained"


@pytest.mark.parametrize("method", [ONE, OT(mcjax.transport.Sinkhorn(0.5))])
def test_every_mode_at_once(method):
    """Transfer guards, strict promotion of types and ranks: the same path, evaluated alike."""

    def apply_fn(p, x):
        return jax.nn.relu(x @ p["u"] + p["b"][None]) @ p["v"]

    def draw(seed):
        k = jax.random.split(jax.random.key(seed), 3)
        shapes = {"u": (3, 5), "b": (5,), "v": (5, 2)}
        return {n: jax.random.normal(key, shapes[n]) for n, key in zip(shapes, k, strict=True)}

    a, b, x = draw(0), draw(1), np.asarray(draw(2)["u"].T.repeat(5, 0))
    network = mcjax.trace(apply_fn, a, x)
    y = np.arange(len(x)) % 2

    def losses():
        made = mcjax.connect(network, a, b, method, x=x)
        return mcjax.evaluate(made.path, network, (x, y), 5).loss

    expected = losses()
    with (
        jax.transfer_guard("disallow"), jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"), jax.debug_nans(True),
    ):  # fmt: skip
        np.testing.assert_allclose(losses(), expected, rtol=1e-5)


# -- one's own --------------------------------------------------------------------------------


class Detour:
    """Three points, the middle one given; nothing but `connect`."""

    def __init__(self, scale=0.0):
        self.scale = scale

    def connect(self, problem):
        assert problem.task == REGRESSION
        middle = jax.tree.map(lambda v: self.scale * v, problem.a)
        return Connection(PolygonalChain([problem.a, middle, problem.b]))


def test_ones_own_method(pair):
    _, network, a, b = pair
    made = mcjax.connect(network, a, b, Detour(2.0), task=REGRESSION)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, 2 * v), made.path(0.5), a)
    assert made.metadata["label"] == "Detour"
    assert traits_of(Detour()).needs_inputs == "no"
    assert not traits_of(Detour()).moves_end
    swapped = mcjax.connect(network, a, b, WithSwaps(Detour()), task=REGRESSION)
    jax.tree.map(np.testing.assert_array_equal, swapped.path(1.0), b)


def test_what_is_no_method(pair):
    _, network, a, b = pair

    class Two:
        def connect(self, a, b):
            return None

    class Greedy:
        needs_inputs = "everything"

        def connect(self, problem):
            return None

    class Bare:
        def connect(self, problem):
            return mcjax.path.Linear(problem.a, problem.b)

    for method, message in (
        (Linear, r"method is the class Linear; pass an object of it, Linear\(…\)"),
        (3, r"object with connect\(problem\) -> mcjax.methods.Connection, got a int"),
        (Two(), r"Two.connect must take one argument, the problem .*Flow\(model\)"),
        (Greedy(), "needs_inputs of Greedy must be one of 'no', 'sample', 'all'"),
        (Bare(), r"Bare: connect must return .* got a Linear; return Connection\(path\)"),
    ):
        with pytest.raises(ValueError, match=message):
            mcjax.connect(network, a, b, method)
