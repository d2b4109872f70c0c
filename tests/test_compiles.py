"""The second call of anything with the same shapes compiles nothing."""

from __future__ import annotations

import functools
import inspect
import logging
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mcjax
from mcjax.adjust.stages import Plan
from mcjax.methods import with_protocol
from mcjax.path import Arc, Bezier, Legs, Linear, PolygonalChain
from mcjax.tasks import REGRESSION
from mcjax.testing.models.catalogue import VGG, images, linen
from mcjax.training import Protocol


class Compiled:
    """Messages of what jax compiles inside the block."""

    def __enter__(self):
        self.messages: list[str] = []
        self.handler = logging.Handler()
        self.handler.emit = lambda r: self.messages.append(r.getMessage())
        logging.getLogger("jax").addHandler(self.handler)
        self.switch = jax.log_compiles()
        self.switch.__enter__()
        return self

    def __exit__(self, *error):
        self.switch.__exit__(*error)
        logging.getLogger("jax").removeHandler(self.handler)

    @property
    def programs(self):
        return [m for m in self.messages if "Compiling" in m]


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]


def initial(key):
    of = jax.random.split(key, 3)
    shapes = {"w1": (40, 12), "b1": (12,), "w2": (12, 3)}
    return {name: jax.random.normal(k, shapes[name]) for k, name in zip(of, shapes, strict=True)}


def params(seed):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (40, 12), "b1": (12,), "w2": (12, 3)}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def pair(seed):
    return params(seed), params(seed + 1)


def three(seed):
    return [params(seed + k) for k in range(3)]


def permutation(seed):
    return {"w1": np.random.default_rng(seed).permutation(12)}


def loss(p, batch):
    return jnp.mean(mlp(p, batch) ** 2)


X, Y = jax.random.normal(jax.random.key(0), (60, 40)), jnp.zeros(60, int)
TARGETS, TS = jnp.ones((60, 3)), jnp.linspace(0, 1, 5)
NETWORK = mcjax.trace(mlp, params(0), X[:2])
OPTIMIZER, SHORT = optax.adam(0.01), Protocol(2, 16)
ATTACK = mcjax.attacks.PGD(0.1, 0.05, 2, bounds=(-9.0, 9.0))
BN = linen(VGG(), images(), [])
FLOW = mcjax.flows.Architecture("realnvp", blocks=1, width=8, depth=1)
ADAM = mcjax.flows.AdamProtocol(2, 4)
core = jax.jit(lambda n, path: mcjax.evaluation.metrics_at(path, n, (X, Y), TS), static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def permuted(network, permutations, params):
    return network.permute(permutations, params)


def actions(n, s):
    action = mcjax.Action.of(n, permutation(s))
    again = action.inverse() @ mcjax.Action.random(n, jax.random.key(s)) @ action
    return again(params(s)), again.matrices(), again.allclose(action)


def matrix(seed):
    """Of positive determinant."""
    found = np.random.default_rng(seed).normal(size=(3, 3))
    return found if np.linalg.det(found) > 0 else -found


def of_bn(function, s, **options):
    path = Linear(BN.another(s), BN.another(s + 1))
    return function(path, BN.apply_fn, **options)


BN_DATA = images(batch=16), Y[:16]
evaluate, evaluation, symmetry = mcjax.evaluate, mcjax.evaluation, mcjax.symmetry
# Name of a public function, and of what is done by it → (network, seed) → a call of it.
CALLS = {
    "trace": lambda n, s: mcjax.trace(mlp, params(s), X[:2]),
    "Network.permute": lambda n, s: n.permute(permutation(s), params(s)),
    "Network.permute: under jit": lambda n, s: permuted(n, permutation(s), params(s)),
    "Network.activations": lambda n, s: n.activations(params(s), X[:13]),
    "Action": actions,
    "match_activations": lambda n, s: mcjax.align.match_activations(n, *pair(s), X),
    "match_incoming": lambda n, s: mcjax.align.match_incoming(n, *pair(s), X),
    "match_incoming: both": lambda n, s: mcjax.align.match_incoming(n, *pair(s), X, both=True),
    "match_weights": lambda n, s: mcjax.align.match_weights(n, *pair(s)),
    "match_butterflies": lambda n, s: mcjax.align.match_butterflies(n, *pair(s)),
    "match_many": lambda n, s: mcjax.align.match_many(n, three(s)),
    "correlation_signature": lambda n, s: mcjax.align.correlation_signature(n, *pair(s), X),
    "learn_permutations": lambda n, s: mcjax.align.learn_permutations(
        mcjax.path.Transported.between(n, *pair(s)), (X, Y), mcjax.align.Search(SHORT),
        key=jax.random.key(s),
    ),
    "learn_action": lambda n, s: mcjax.align.learn_action(
        n, *pair(s), (X, Y), mcjax.align.ActionSearch(SHORT), key=jax.random.key(s),
    ),
    "canonicalize": lambda n, s: mcjax.canonicalize(n, pair(s)[0]),
    "evaluate: linear": lambda n, s: evaluate(Linear(*pair(s)), n, (X, Y), 5),
    "evaluate: arc": lambda n, s: evaluate(Arc(*pair(s)), n, (X, Y), 5),
    "evaluate: bezier": lambda n, s: evaluate(Bezier(three(s)), n, (X, Y), 5),
    "evaluate: chain": lambda n, s: evaluate(PolygonalChain(three(s)), n, (X, Y), 5),
    "evaluate: legs": lambda n, s: evaluate(
        Legs([Linear(*pair(s)), Arc(*pair(s + 1))]), n, (X, Y), 5
    ),
    "evaluate: a function": lambda n, s: evaluate(Linear(*pair(s)), mlp, (X, Y), 5),
    "evaluate: a regression": lambda n, s: evaluate(
        Linear(*pair(s)), n, (X, TARGETS), 5, task=REGRESSION
    ),
    "evaluate: attacked": lambda n, s: evaluate(
        Linear(*pair(s)), n, (X, Y), 5, attack=ATTACK, key=jax.random.key(s)
    ),
    "evaluate: batches": lambda n, s: evaluate(
        Linear(*pair(s)), n, [(X[:25], Y[:25]), (X[25:], Y[25:])], 5, chunk=20
    ),
    "evaluate: the end points' statistics": lambda n, s: of_bn(evaluate, s, data=BN_DATA, t=3),
    "evaluate: statistics estimated": lambda n, s: of_bn(
        evaluate, s, data=BN_DATA, t=3, statistics=images(batch=12), chunk=8
    ),
    "metrics_at": lambda n, s: evaluation.metrics_at(Linear(*pair(s)), n, (X, Y), TS),
    "metrics_at: under jit": lambda n, s: core(n, Linear(*pair(s))),
    "evaluate_points": lambda n, s: evaluation.evaluate_points(
        Linear(*pair(s)), n, (X, Y), TS[::-1]
    ),
    "evaluate_pairs": lambda n, s: evaluation.evaluate_pairs(three(s), n, (X, Y), 3),
    "evaluate_plane": lambda n, s: evaluation.evaluate_plane(
        evaluation.Plane.through(*three(s)), n, (X, Y), 3
    ),
    "batch_norm_along": lambda n, s: of_bn(
        evaluation.batch_norm_along, s, x=images(batch=12), t=3, chunk=8
    ),
    "estimate_batch_norm": lambda n, s: evaluation.estimate_batch_norm(
        BN.apply_fn, BN.another(s), images(batch=16), chunk=8
    ),
    "Repaired": lambda n, s: evaluation.Repaired(Linear(*pair(s)), n, X)(0.5),
    "Path.velocity": lambda n, s: Arc(*pair(s)).velocity(0.25),
    "PGD.perturb": lambda n, s: ATTACK.perturb(mlp, params(s), X, Y, key=jax.random.key(s)),
    "solve_layers": lambda n, s: mcjax.adjust.solve_layers(n, *pair(s), X, layers=["w2"]),
    "evaluate_layers": lambda n, s: evaluation.evaluate_layers(n, *pair(s), (X, Y), 3),
    "soup": lambda n, s: mcjax.merge.soup(n, pair(s)),
    "star": lambda n, s: mcjax.merge.star(
        n, pair(s), (X, Y), SHORT, key=jax.random.key(s)
    ),
    **{
        f"merge: {name}": lambda n, s, m=name: mcjax.merge.merge(
            n, pair(s), m, base=params(s + 2), x=X
        )
        for name in mcjax.merge.PRESETS
        if name != "star"
    },
    "fisher_diagonal": lambda n, s: mcjax.merge.fisher_diagonal(
        n, params(s), X, task=mcjax.tasks.CLASSIFICATION, key=jax.random.key(s)
    ),
    "independent": lambda n, s: mcjax.merge.independent(n, pair(s))(X),
    "wa_ensemble": lambda n, s: mcjax.merge.wa_ensemble(n, pair(s), X)(X),
    "alignment_bound": lambda n, s: mcjax.theory.alignment_bound(n, *pair(s), (X, Y)),
    "layer_dimensions": lambda n, s: mcjax.theory.layer_dimensions(n, params(s), X),
    "neuron_clouds": lambda n, s: mcjax.theory.neuron_clouds(n, params(s), X),
    "curvature": lambda n, s: mcjax.theory.curvature(Arc(*pair(s)), [0.25, 0.5]),
    "connect_minima": lambda n, s: mcjax.theory.connect_minima(*linear_minima(s))(0.5),
    "fit": lambda n, s: mcjax.fit(
        Bezier(three(s)), loss, jnp.ones((4, 5, 40)) * s, OPTIMIZER, key=jax.random.key(s)
    ),
    "train_curve": lambda n, s: mcjax.training.train_curve(
        Bezier(three(s)), n, (X, Y), SHORT, key=jax.random.key(s)
    ),
    "train_networks": lambda n, s: mcjax.training.train_networks(
        mlp, initial, (X, Y), (s, s + 1), SHORT
    ),
    "train_flow": lambda n, s: mcjax.flows.train_flow(
        n, three(s), FLOW, ADAM, key=jax.random.key(s)
    ),
    "train_bijection": lambda n, s: mcjax.flows.train_bijection(
        n, three(s), (X, Y), FLOW, ADAM, key=jax.random.key(s)
    ),
    "Pam.minimise": lambda n, s: mcjax.methods.Pam(SHORT).minimise(
        mcjax.methods.Problem(n, *pair(s), X, Y, jax.random.key(s))
    ),
    "sinkhorn": lambda n, s: mcjax.transport.sinkhorn(jnp.eye(5) * s),
    **{
        name: lambda n, s, of=getattr(symmetry, name): of(jax.random.key(s), (2, 3))
        for name in (
            "random_orthogonal", "random_general_linear", "random_scaling", "random_signs"
        )
    },
    "nearest_orthogonal": lambda n, s: symmetry.nearest_orthogonal(jnp.asarray(matrix(s))),
    "log": lambda n, s: symmetry.log(matrix(s)).power(0.25),
    "interpolate": lambda n, s: mcjax.inputs.interpolate(
        n, params(s), (X[:6] + s, X[6:12]), Y[:6], 5, chunk=10
    ),
    "bypass": lambda n, s: mcjax.inputs.bypass(
        n, params(s), (X[:1] + s, X[1:2]), Y[:1], mcjax.inputs.Bypass(steps=4, block=4, points=5)
    ),
    "synthesise": lambda n, s: mcjax.inputs.synthesise(
        n, params(s), X[:2] + s, Y[:2], mcjax.inputs.Synthesis(steps=4, block=4)
    ),
    "pleas": lambda n, s: mcjax.merge.pleas(n, *pair(s), X),
    "couple_incoming": lambda n, s: mcjax.align.couple_incoming(
        n, params(s), n, params(s + 1)
    ),
    "draw_network": lambda n, s: mcjax.neurons.draw_network(
        n, params(s), n, key=jax.random.key(s)
    ),
    "project": lambda n, s: mcjax.transport.project(jnp.eye(5) * s),
    "solve: entropic": lambda n, s: mcjax.transport.solve(
        np.eye(3, 5) * s, mcjax.transport.Sinkhorn(0.1 * s)
    ),
    **{
        f"connect: {name}": lambda n, s, m=with_protocol(method, SHORT): mcjax.connect(
            n, *pair(s), m, x=X, y=Y
        )
        for name, method in mcjax.methods.PRESETS.items()
    },
}  # fmt: skip
# What compiles nothing by itself: values, checks, what runs on the host, parts of the others.
OTHERS = {
    "load", "save", "barrier", "method_of", "traits_of", "with_epochs", "with_protocol", "static",
    "time", "compose", "identity", "invert", "random", "absolute_error", "accuracy",
    "cross_entropy", "from_dict", "one_array", "require", "squared_error", "token_accuracy",
    "token_cross_entropy", "check_action", "check_family", "check_path", "check_task", "run",
    "tatro2020", "act_between", "approximate_action", "barrier_height", "bounded_barrier",
    "chord_bound", "component_count", "component_label", "connecting_permutations",
    "distance_to_hyperbola", "distance_to_orbit", "group_components",
    "level_set_components_bound", "orbit_components", "permute_linear", "permuted_barrier",
    "residual_component", "residual_component_count", "scale_for_barrier", "segment_gain",
    "worst_alpha",
    "percolate", "infinite_cluster", "outside_infinite_cluster", "lipschitz_bound", "cell_side",
    "check_attack", "check_merging", "check_method", "mean_over_pairs", "effective_dimension",
    "wasserstein", "fit_rate",
    "worst_case_exponent", "gaussian_exponent", "two_layer_bound", "relu_bound", "layer_errors",
    "sufficient_width", "dropout_bound", "dropout_error", "mean_field_violations",
    "intrinsic_dimension", "low_rank_noise",
    "birkhoff", "nearest_permutation", "sample_permutations", "units_of", "partial_assignment",
    "detect",  # as many rows as attacks succeed: sizes of the data's own
}  # fmt: skip


def linear_minima(seed):
    """Two minima of a linear network in one component."""
    w, g = np.eye(3) * (seed + 1.0), np.diag([2.0, 3.0, seed + 1.0])
    return (w, w), (g @ w, w @ np.linalg.inv(g))


def again():
    """A second trace of the model, through another function."""
    return mcjax.trace(lambda p, x: mlp(p, x), params(0), X[:2])


@pytest.mark.filterwarnings("ignore::mcjax.evaluation.StatisticsWarning")
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_compiled_twice(name):
    """Neither for other parameters nor for a second trace of the model."""
    CALLS[name](NETWORK, 1)
    second = again()
    assert second.apply_fn is not NETWORK.apply_fn
    for network, seed in ((NETWORK, 2), (second, 3)):
        with Compiled() as found:
            CALLS[name](network, seed)
        assert found.programs == []


@pytest.mark.filterwarnings("ignore::mcjax.evaluation.StatisticsWarning")
@pytest.mark.parametrize(("method", "width"), [("linear+wa", 5), ("ot+wa", 6)])
def test_layer_by_layer_compiles_no_more_than_its_stages_have_shapes(method, width):
    """A residual network of widths that no other test has, so that nothing is compiled before."""
    model = mcjax.models.ResNet(blocks=1, widths=(width, width + 4), outputs=3)
    x = np.random.default_rng(0).normal(size=(24, 8, 8, 2)).astype(np.float32)
    a, b = (model.init(jax.random.key(k), x[:1]) for k in (0, 1))
    network = mcjax.trace(model.apply, a, x[:2])
    with Compiled() as found:
        made = mcjax.connect(network, a, b, method, x=x)
    shapes = [
        {network.leaf_types[network.layers[n].contraction.weight].shape for n in stage.readers}
        for stage in Plan(network).stages
    ]
    assert len(made.legs) >= len(shapes) == 4
    assert 1 <= len(found.programs) <= sum(map(len, shapes)) + 3


def test_every_public_function_is_called():
    public = {name: getattr(mcjax, name) for name in mcjax.__all__}
    for module in list(public.values()):
        if isinstance(module, types.ModuleType):
            public |= {name: getattr(module, name) for name in module.__all__}
    kept = inspect.isfunction, lambda v: hasattr(v, "lower") and not isinstance(v, type)
    functions = {name for name, value in public.items() if any(is_one(value) for is_one in kept)}
    called = {name.partition(":")[0] for name in CALLS}
    assert functions - called == OTHERS


def test_the_counter_counts():
    with Compiled() as found:
        jax.jit(lambda x: x * 3.25 + 1)(jnp.ones(17))
    assert found.programs
