"""What all attacks promise, and what each is: closed forms, and foolbox where it is installed."""

from __future__ import annotations

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.attacks import BIM, FGSM, PGD, Attack, CarliniWagner, DeepFool

RNG = np.random.default_rng(0)
D, CLASSES, N = 6, 4, 40
PARAMS = {
    "w1": RNG.normal(size=(D, 16)).astype(np.float32),
    "w2": RNG.normal(size=(16, CLASSES)).astype(np.float32),
}
SEARCH = CarliniWagner(40, 4, learning_rate=0.05, c=0.1)
ALL = (FGSM(0.1), BIM(0.1, 0.03, 4), PGD(0.1, 0.03, 4), DeepFool(20), SEARCH)
KINDS = [type(a).__name__ for a in ALL]


def net(params, x):
    return jnp.tanh(x @ params["w1"]) @ params["w2"]


def linear(params, x):
    return x @ params["w"]


X = RNG.uniform(0.1, 0.9, (N, D)).astype(np.float32)
Y = np.asarray(net(PARAMS, X)).argmax(1)
Y[::8] = (Y[::8] + 1) % CLASSES  # some that are misclassified as they are


def in_float64(x):
    w1, w2 = (PARAMS[k].astype(np.float64) for k in ("w1", "w2"))
    return np.tanh(x.astype(np.float64) @ w1) @ w2


@pytest.mark.parametrize("attack", ALL, ids=KINDS)
def test_what_is_said_is_so(attack):
    """Classes, norms and status by NumPy; bounds kept; by itself each, whatever the chunks."""
    made = attack(net, PARAMS, X, Y, key=jax.random.key(3))
    wrong = in_float64(X).argmax(1) != Y
    assert wrong.any()
    np.testing.assert_array_equal(made.status == "misclassified before", wrong)
    np.testing.assert_array_equal(made.x[wrong], X[wrong])
    now = in_float64(made.x)
    sure = np.diff(np.sort(now)[:, -2:])[:, 0] > 1e-5
    np.testing.assert_array_equal((now.argmax(1) != Y)[sure & ~wrong], made.success[sure & ~wrong])
    assert not made.success[wrong].any()
    assert made.success.any()
    assert made.rate == made.success.sum() / (~wrong).sum()
    moved = made.x.astype(np.float64) - X
    np.testing.assert_allclose(made.l2, np.linalg.norm(moved, axis=1))
    np.testing.assert_allclose(made.linf, np.abs(moved).max(1))
    assert made.x.min() >= 0
    assert made.x.max() <= 1
    if hasattr(attack, "epsilon"):
        assert made.linf.max() <= 0.1 + 1e-6
    chunked = attack(net, PARAMS, X, Y, key=jax.random.key(3), chunk=9)
    np.testing.assert_allclose(chunked.x, made.x, atol=2e-4)


@pytest.mark.parametrize("attack", ALL, ids=KINDS)
def test_perturb_is_what_the_call_does(attack):
    key = jax.random.key(2)
    made = attack(net, PARAMS, X, Y, key=key)
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(N))
    run = jax.jit(lambda p, x: attack.perturb(net, p, x, jnp.asarray(Y), key=keys))
    rows = made.attacked
    np.testing.assert_allclose(run(PARAMS, X)[rows], made.x[rows], atol=2e-4)


@pytest.mark.parametrize("attack", ALL, ids=KINDS)
def test_standardised_inputs_are_attacked_in_their_own_units(attack):
    """A network that takes (image − mean) / std: the same images, the same norms."""
    rng = np.random.default_rng(1)
    mean, std = tuple(rng.uniform(0.3, 0.6, D)), tuple(rng.uniform(0.2, 0.5, D))
    inside = lambda p, z: net(p, z * np.float32(std) + np.float32(mean))
    other = dataclasses.replace(attack, mean=mean, std=std)
    plain = attack(net, PARAMS, X, Y)
    made = other(inside, PARAMS, (X - np.float32(mean)) / np.float32(std), Y)
    np.testing.assert_allclose(made.x * np.float32(std) + np.float32(mean), plain.x, atol=2e-3)
    np.testing.assert_allclose(made.l2, plain.l2, atol=2e-3)
    assert np.mean(made.status == plain.status) > 0.95


@pytest.mark.parametrize("attack", [a for a in ALL if a.targets], ids=lambda a: type(a).__name__)
def test_targets(attack):
    """Success is the target alone, and the attack goes there."""
    strong = dataclasses.replace(attack, epsilon=0.4) if hasattr(attack, "epsilon") else attack
    target = (Y + 1) % CLASSES
    target[np.asarray(net(PARAMS, X)).argmax(1) == target] = Y[0]  # none that it has already
    target = np.where(target == Y, (Y + 2) % CLASSES, target)
    made = strong(net, PARAMS, X, Y, target=target)
    np.testing.assert_array_equal(made.success, made.attacked & (made.predicted == target))
    assert made.success.any()
    np.testing.assert_array_equal(made.target, target)


@pytest.mark.parametrize("attack", ALL, ids=KINDS)
def test_the_contract(attack):
    mcjax.testing.check_attack(attack, net, PARAMS, X[:20], Y[:20])


def planes():
    """A linear network of three classes, and each input's distance to the nearest boundary."""
    rng = np.random.default_rng(3)
    w, x = rng.normal(size=(D, 3)), rng.uniform(0.45, 0.55, (30, D))
    w -= w.sum(0) / D  # all boundaries pass close by the middle of the cube
    z = x @ w
    y = z.argmax(1)
    others = [[k for k in range(3) if k != c] for c in y]
    distance = [
        min((z[i, c] - z[i, k]) / np.linalg.norm(w[:, c] - w[:, k]) for k in others[i])
        for i, c in enumerate(y)
    ]
    return {"w": w.astype(np.float32)}, x.astype(np.float32), y, np.array(distance)


def test_the_distance_to_a_plane():
    """DeepFool goes 1 + η times as far (and 1e-4), Carlini and Wagner as near as their search.

    It is a heuristic: where two boundaries are near, a few end at the farther one.
    """
    params, x, y, distance = planes()
    near = DeepFool(overshoot=0.1)(linear, params, x, y)
    assert near.success.all()
    np.testing.assert_allclose(near.l2, 1.1 * (distance + 1e-4), rtol=1e-3)
    search = CarliniWagner(300, 6, 1e-3, c=0.1, stop_early=False)(linear, params, x, y)
    assert search.success.all()
    assert (search.l2 >= distance * (1 - 1e-3)).all()
    assert np.mean(search.l2 <= 1.05 * distance + 1e-3) >= 0.9
    assert np.median(search.l2 / distance) < 1.02


def test_confidence_is_a_margin_of_the_logits():
    params, x, y, _ = planes()
    made = dataclasses.replace(SEARCH, confidence=0.05)(linear, params, x, y)
    z = made.x[made.success].astype(np.float64) @ params["w"].astype(np.float64)
    own = z[np.arange(len(z)), y[made.success]]
    assert ((z.max(1) - own) > 0.05 - 1e-5).all()
    assert made.success.any()


def test_an_attack_that_succeeds_on_nothing():
    """A constant network: no success is claimed, and nothing is NaN."""
    constant = lambda p, x: 0 * (x @ p["w1"][:, :3]) + jnp.array([1.0, 0.0, -1.0])
    y = np.zeros(N, int)
    for attack in ALL:
        made = attack(constant, PARAMS, X, y)
        assert set(made.status) == {"failed"}
        assert made.rate == 0
        assert np.isfinite(made.x).all()
        if isinstance(attack, CarliniWagner):
            np.testing.assert_array_equal(made.x, X)
        assert "0.0%" in made.summary()


def test_outputs_that_are_not_finite_are_no_success():
    cliff = lambda p, x: jnp.where(x[:, :1] > 0.5, jnp.nan, linear(p, x))
    params = {"w": np.float32([[1, -1], [0, 0]])}
    x = np.float32([[0.45, 0.5], [0.7, 0.5], [0.2, 0.5]])
    made = FGSM(0.1)(cliff, params, x, np.array([1, 1, 0]))
    assert made.status.tolist() == ["misclassified before", "not finite", "failed"]
    up = lambda p, x: cliff(p, x) * jnp.array([1.0, -1.0]) + jnp.array([-0.1, 0.9])
    made = FGSM(0.1)(up, params, x[:1], np.array([1]))
    assert made.status.tolist() in (["not finite"], ["failed"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (X * 255).astype(np.uint8)}, "x: an attack moves inputs that are one array of flo"),
        ({"x": X * 2}, "outside the attack's bounds"),
        ({"x": np.where(X > 0.5, np.nan, X)}, "x"),
        ({"y": Y[:-1]}, "x and y have different lengths"),
        ({"y": Y + CLASSES}, "expected classes from 0 to 3"),
        ({"y": np.eye(CLASSES, dtype=np.float32)[Y]}, "known of integer classes"),
        ({"target": Y}, "target: that of example 0 is its label"),
        ({"target": CLASSES}, "expected 0 to 3"),
        ({"target": np.array([1, 2])}, "one for each of 40 examples"),
        ({"chunk": 0}, "chunk must be a positive integer"),
    ],
)
def test_bad_input(changed, message):
    arguments = {"x": X, "y": Y} | changed
    with pytest.raises(ValueError, match=message):
        FGSM()(net, PARAMS, **arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepFool(0), "steps must be a positive"),
        (lambda: DeepFool(overshoot=-1), "overshoot must be ≥ 0"),
        (lambda: DeepFool(candidates=1), "candidates must be 2 or more"),
        (lambda: CarliniWagner(rounds=0), "rounds must be a positive"),
        (lambda: CarliniWagner(c=0), "c must be positive"),
        (lambda: CarliniWagner(confidence=-1), "confidence must be ≥ 0"),
        (lambda: FGSM(0), "epsilon must be positive"),
        (lambda: BIM(mean=(float("nan"),)), "mean must be finite"),
        (lambda: DeepFool()(net, PARAMS, X, Y, target=0), "DeepFool has no targeted form"),
        (
            lambda: DeepFool().perturb(net, PARAMS, X, Y * 1.0, key=jax.random.key(0)),
            "DeepFool needs integer classes",
        ),
        (lambda: FGSM(std=(1.0, 2.0))(net, PARAMS, X, Y), "one for each of 6 channels"),
    ],
)
def test_bad_attacks(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_that_the_network_never_predicts():
    with pytest.warns(UserWarning, match="none of 40 examples is classified right"):
        made = FGSM()(net, PARAMS, X, (np.asarray(net(PARAMS, X)).argmax(1) + 1) % CLASSES)
    assert np.isnan(made.rate)
    assert "misclassified before" in made.summary()


def test_an_attack_of_ones_own():
    """A dozen lines; it serves evaluation as those of mcjax do."""

    @dataclasses.dataclass(frozen=True)
    class Darker(Attack):
        by: float = 0.05
        length = 2

        def init(self, aim, key):
            return aim.images

        def advance(self, aim, state):
            return jnp.clip(state - self.by, *aim.bounds)

        def moved(self, state):
            return state

    mcjax.testing.check_attack(Darker(), net, PARAMS, X, Y)
    made = Darker()(net, PARAMS, X, Y)
    expected = np.clip(X - 0.1, 0, 1)[made.attacked]
    np.testing.assert_allclose(made.x[made.attacked], expected, atol=1e-6)
    path = mcjax.path.Linear(PARAMS, jax.tree.map(lambda v: v + 0.1, PARAMS))
    curve = mcjax.evaluate(path, net, (X, Y), 3, attack=Darker())
    plain = mcjax.evaluate(path, net, (np.clip(X - 0.1, 0, 1), Y), 3)
    np.testing.assert_allclose(curve.loss, plain.loss, rtol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("foolbox") is None, reason="foolbox is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_as_foolbox_does(name):
    """The same successes, and perturbations of the same size."""
    import foolbox  # type: ignore[import-not-found]

    theirs, ours, epsilon, tolerance = {
        "FGSM": (foolbox.attacks.FGSM(), FGSM(0.1), 0.1, 1e-5),
        "BIM": (
            foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.3, steps=4),
            BIM(0.1, 0.03, 4), 0.1, 1e-5,
        ),
        "PGD": (
            foolbox.attacks.LinfPGD(rel_stepsize=0.2, steps=10), PGD(0.1, 0.02, 10), 0.1, 0.1
        ),
        "DeepFool": (foolbox.attacks.L2DeepFoolAttack(), DeepFool(), None, 1e-4),
        "CarliniWagner": (
            foolbox.attacks.L2CarliniWagnerAttack(4, 40, 0.05, 0, 0.1, False),
            dataclasses.replace(SEARCH, stop_early=False), None, 0.02,
        ),
    }[name]  # fmt: skip
    model = foolbox.models.JAXModel(jax.jit(lambda x: net(PARAMS, x)), bounds=(0, 1))
    made = ours(net, PARAMS, X, Y)
    rows = made.attacked
    x, y = jnp.asarray(X[rows]), jnp.asarray(Y[rows])
    _, found, success = theirs(model, x, y, epsilons=epsilon)
    success = np.asarray(success)
    assert abs(success.mean() - made.rate) <= (0.05 if name == "PGD" else 0.01)
    both = success & made.success[rows]
    sizes = np.linalg.norm(np.asarray(found) - X[rows], axis=1)
    np.testing.assert_allclose(
        np.median(made.l2[rows][both]), np.median(sizes[both]), rtol=tolerance
    )
    if name not in ("PGD", "CarliniWagner"):
        np.testing.assert_allclose(made.x[rows][both], np.asarray(found)[both], atol=1e-4)
