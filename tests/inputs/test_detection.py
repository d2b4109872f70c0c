"""Detection: parts, scores and features against NumPy, SciPy and planted twins."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.attacks import FGSM, DeepFool
from mcjax.inputs import (
    Feature,
    InputSpectrum,
    LayerSpectrum,
    LocalDimension,
    LossCurve,
    Mahalanobis,
    Watched,
    detect,
)
from mcjax.inputs.detection import _parts, area
from mcjax.inputs.features import local_dimension
from mcjax.tasks import CLASSIFICATION

RNG = np.random.default_rng(0)
N, SIDE, CLASSES = 120, 5, 3
PARAMS = {
    "k": RNG.normal(size=(3, 3, 1, 4)).astype(np.float32),
    "w": RNG.normal(size=(4 * SIDE * SIDE, CLASSES)).astype(np.float32),
}


def net(params, x):
    maps = jax.lax.conv_general_dilated(
        x, params["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(maps).reshape(len(x), -1) @ params["w"]


X = RNG.uniform(0, 1, (3 * N, SIDE, SIDE, 1)).astype(np.float32)
Y = np.asarray(net(PARAMS, X)).argmax(1)
REFERENCE = X[2 * N :], Y[2 * N :]


@functools.cache
def attacked():
    return {
        "FGSM": FGSM(0.2)(net, PARAMS, X[: 2 * N], Y[: 2 * N]),
        "DeepFool": DeepFool(10)(net, PARAMS, X[: 2 * N], Y[: 2 * N]),
    }


@functools.cache
def watched():
    return Watched(mcjax.trace(net, PARAMS, X[:2]), PARAMS, CLASSIFICATION, 50)


@dataclasses.dataclass(frozen=True)
class Planted(Feature):
    """Where an image is in the data, and whether it has been attacked as far as told."""

    told: bool

    def learn(self, watched, x, y):
        flat = X.reshape(len(X), -1)

        def look(x):
            x = x.reshape(len(x), -1)
            nearest = [int(np.argmin(((flat - row) ** 2).sum(1))) for row in x]
            moved = ((flat[nearest] - x) ** 2).sum(1) > 0
            return np.stack([1e3 * np.array(nearest), moved * self.told], 1)

        return look

    def classifiers(self):
        from sklearn.tree import DecisionTreeClassifier

        return {"tree": DecisionTreeClassifier()}


@pytest.mark.parametrize("jointly", [True, False])
def test_planted_twins(jointly):
    """What is told is found; who only knows the image cannot tell it from its twin."""
    found = detect(Planted(True), net, PARAMS, REFERENCE, attacked(), jointly=jointly)
    assert found.auc == {"FGSM": 1.0, "DeepFool": 1.0}
    assert found.accuracy == {"FGSM": 1.0, "DeepFool": 1.0}
    blind = detect(Planted(False), net, PARAMS, REFERENCE, attacked(), jointly=jointly)
    assert all(v == pytest.approx(0.5, abs=1e-9) for v in blind.auc.values())


class Choice(Planted):
    """One classifier that can learn what is told, and one that cannot."""

    def classifiers(self):
        from sklearn.dummy import DummyClassifier

        return {**super().classifiers(), "constant": DummyClassifier(strategy="prior")}


def test_validation_chooses_the_classifier():
    found = detect(Choice(True), net, PARAMS, REFERENCE, attacked())
    assert set(found.chosen.values()) == {"tree"}
    assert set(found.validation.values()) == {1.0}


def test_an_image_and_its_twins_are_in_one_part():
    parts = _parts(attacked(), {}, jax.random.key(0))
    with_twin = attacked()["FGSM"].success | attacked()["DeepFool"].success
    np.testing.assert_array_equal(parts >= 0, with_twin)
    total = with_twin.sum()
    assert (parts == 2).sum() == round(0.2 * total)
    assert (parts == 1).sum() == round(0.2 * (total - round(0.2 * total)))
    found = detect(Planted(True), net, PARAMS, REFERENCE, attacked())
    for name, counts in found.pairs.items():
        expected = [(attacked()[name].success & (parts == k)).sum() for k in range(3)]
        assert list(counts) == expected


def test_an_unseen_attack_is_tested_only():
    """The detector and what it says of the others are those without it."""
    unseen = {"unseen": FGSM(0.3)(net, PARAMS, X[: 2 * N], Y[: 2 * N])}
    feature = LossCurve(6)
    given = (feature, net, PARAMS, REFERENCE, attacked())
    plain, found = detect(*given), detect(*given, unseen=unseen)
    assert {k: v for k, v in found.auc.items() if k != "unseen"} == plain.auc
    parts = _parts(attacked(), {}, jax.random.key(0))
    count = int((unseen["unseen"].success & (parts == 2)).sum())
    assert found.pairs["unseen"] == (0, 0, count)
    assert found.scores["unseen"].shape == (count, 2)
    with pytest.raises(ValueError, match="jointly=True"):
        detect(*given, unseen=unseen, jointly=False)
    with pytest.raises(ValueError, match="is trained for, too"):
        detect(*given, unseen={"FGSM": unseen["unseen"]})
    with pytest.raises(ValueError, match=r"unseen\['weak'\]: \d of 240 attacks succeeded"):
        detect(*given, unseen={"weak": FGSM(1e-6)(net, PARAMS, X[: 2 * N], Y[: 2 * N])})
    with pytest.raises(ValueError, match="unseen must be a mapping"):
        detect(*given, unseen=[])


def test_area_by_enumeration():
    low, high = RNG.integers(0, 6, 40) / 6, RNG.integers(1, 8, 30) / 6
    pairs = [(h > v) + (h == v) / 2 for v in low for h in high]
    assert area(low, high) == pytest.approx(np.mean(pairs))


def test_area_under_the_drawn_curve():
    found = detect(LossCurve(8), net, PARAMS, REFERENCE, attacked())
    for name, auc in found.auc.items():
        false, true = found.roc(name)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
        assert np.trapezoid(true, false) == pytest.approx(auc)
    assert "one detector for all" in found.summary()
    assert found.plot() is not None


def test_loss_curves_against_numpy():
    look = LossCurve(5).learn(watched(), *REFERENCE)
    logits = np.asarray(net(PARAMS, REFERENCE[0]), np.float64)
    losses = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    losses -= logits[np.arange(N), REFERENCE[1]]
    x, c = X[:4], Y[:4]
    expected = []
    for image, k in zip(x, c, strict=True):
        rows = np.flatnonzero(REFERENCE[1] == k)
        template = REFERENCE[0][rows[losses[rows].argmin()]]
        line = np.stack([(1 - t) * image + t * template for t in np.linspace(0, 1, 5)])
        z = np.asarray(net(PARAMS, line), np.float64)
        expected.append(np.log(np.exp(z - z[:, k : k + 1]).sum(1)))
    own = -np.sort(-np.asarray(net(PARAMS, x)), 1)
    np.testing.assert_allclose(look(x), np.hstack([expected, own]), rtol=1e-3, atol=1e-4)
    assert LossCurve(5, logits=False).learn(watched(), *REFERENCE)(x).shape == (4, 5)


@pytest.mark.parametrize("n", [3, 5, 7])
def test_layers_that_read_no_inputs_are_none_of_them(n):
    """Of as many rows as there are inputs, or not: learned positions, here."""

    def f(p, x):
        positions = (p["positions"] @ p["mix"]).mean(0) @ p["to"]
        return jax.nn.relu(x @ p["in"] + positions) @ p["out"]

    shapes = {"positions": (5, 4), "mix": (4, 4), "to": (4, 6), "in": (2, 6), "out": (6, 3)}
    rng = np.random.default_rng(0)
    p = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    x = rng.normal(size=(n, 2)).astype(np.float32)
    seen = Watched(mcjax.trace(f, p, x[:2]), p, mcjax.tasks.CLASSIFICATION, 64)
    assert [v.shape for v in seen.layers(x, lambda v: v)] == [(n, 2), (n, 6)]


def test_spectra_by_the_definition():
    x = X[:3]
    omega = np.exp(-2j * np.pi * np.outer(np.arange(SIDE), np.arange(SIDE)) / SIDE)
    transformed = np.einsum("ua,vb,nabc->nuvc", omega, omega, x.astype(np.float64))
    found = InputSpectrum().learn(watched(), *REFERENCE)(x)
    np.testing.assert_allclose(found, np.abs(transformed).reshape(3, -1), atol=1e-4)
    layers = LayerSpectrum().learn(watched(), *REFERENCE)(x)
    np.testing.assert_allclose(layers[:, : SIDE * SIDE], found, atol=1e-4)
    phases = LayerSpectrum(phase=True).learn(watched(), *REFERENCE)(x)
    sure = np.abs(transformed).reshape(3, -1) > 0.1
    turned = np.exp(1j * phases[:, : SIDE * SIDE]) - np.exp(1j * np.angle(transformed)).reshape(
        3, -1
    )
    assert np.abs(turned[sure]).max() < 1e-3


def test_local_dimension_of_planes():
    """Points of a d-dimensional cube in 8 dimensions: about d; the formula by a loop."""
    for d in (2, 4):
        points = np.zeros((2000, 8))
        points[:, :d] = RNG.uniform(size=(2000, d))
        assert np.median(local_dimension(points[:200], points, 20)) == pytest.approx(d, rel=0.2)
    r = np.sort(np.linalg.norm(points[0] - points[1:], axis=1))[:20]
    expected = -1 / np.mean([np.log(v / r[-1]) for v in r])
    assert local_dimension(points[:1], points, 20)[0] == pytest.approx(expected)
    found = LocalDimension(5, 50).learn(watched(), *REFERENCE)(X[:7])
    assert found.shape == (7, 2)


def test_mahalanobis_against_scipy():
    from scipy.spatial.distance import mahalanobis

    found = Mahalanobis().learn(watched(), *REFERENCE)(X[:6])
    read = np.asarray(watched().model.layer_inputs(PARAMS, REFERENCE[0])["k"], np.float64).mean(
        (1, 2)
    )
    v = X[:6].astype(np.float64).mean((1, 2))
    means = [read[REFERENCE[1] == c].mean(0) for c in range(CLASSES)]
    around = read - np.stack(means)[REFERENCE[1]]
    inverse = np.linalg.inv(around.T @ around / N)
    expected = [-min(mahalanobis(row, m, inverse) ** 2 for m in means) for row in v]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


class Own(Feature):
    def __init__(self, look):
        self.look = look

    def learn(self, watched, x, y):
        return self.look


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attacked": {}}, "attacked must be a mapping"),
        ({"attacked": {"FGSM": X}}, "must be an Attacked, got a ndarray"),
        ({"feature": "curve"}, "feature must be one of mcjax.inputs"),
        ({"reference": X}, "reference must be"),
        ({"reference": (X[:5], Y[:5] * 0 + Y[0])}, "it has no image of class"),
        ({"reference": (X, Y + 1)}, "y: labels lie in"),
        ({"reference": (X, np.eye(CLASSES)[Y])}, "reference: y must be integer classes"),
        ({"feature": Own(lambda x: x[:, 0, 0, 0])}, r"feature: of \d+ inputs it made"),
        ({"feature": Own(lambda x: x[:5].reshape(5, -1))}, r"feature: of .* it made \(5,"),
        ({"feature": LayerSpectrum(), "model": net}, "model must be a mcjax.Network"),
        ({"feature": LocalDimension(), "reference": (X[:9], Y[:9])}, "9 inputs for 20 neighbours"),
    ],
)
def test_bad_input(change, message):
    given = {"feature": LossCurve(4), "model": net, "reference": REFERENCE, "attacked": attacked()}
    given |= change
    with pytest.raises(ValueError, match=message):
        detect(given["feature"], given["model"], PARAMS, given["reference"], given["attacked"])


def test_no_adversarial_examples():
    weak = FGSM(1e-6)(net, PARAMS, X[:N], Y[:N])
    with pytest.raises(ValueError, match=r"attacked\['weak'\]: \d of 120 attacks succeeded"):
        detect(LossCurve(4), net, PARAMS, REFERENCE, {"weak": weak})
    other = FGSM(0.2)(net, PARAMS, X[N : 2 * N], Y[N : 2 * N])
    with pytest.raises(ValueError, match="is of other images"):
        detect(LossCurve(4), net, PARAMS, REFERENCE, {"FGSM": attacked()["FGSM"], "other": other})
    with pytest.raises(ValueError, match="points must be 2 or more"):
        LossCurve(1)
    with pytest.raises(ValueError, match="neighbours must be 2 to 499"):
        LocalDimension(1)
    with pytest.raises(ValueError, match="a spectrum is of images"):
        InputSpectrum().learn(watched(), jnp.ones((3, 4)), np.zeros(3, int))
