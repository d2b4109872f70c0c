"""An attacker who knows the detector: what it raises, and what is left of the detection."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcjax.attacks import PGD, DeepFool
from mcjax.inputs import AdaptivePGD, LossCurve, detect
from mcjax.inputs.adaptive import Templates
from mcjax.tasks import CLASSIFICATION

RNG = np.random.default_rng(5)
D, CLASSES, N = 5, 4, 240
W = RNG.normal(size=(D, CLASSES))
PARAMS = {"w": (6 * (W - W.mean(0))).astype(np.float32)}  # boundaries pass by the middle
X = RNG.uniform(0.1, 0.9, (2 * N, D)).astype(np.float32)


def net(params, x):
    return x @ params["w"]


Y = np.asarray(net(PARAMS, X)).argmax(1)
REFERENCE = X[N:], Y[N:]
OPTIONS = {"epsilon": 0.3, "step": 0.03, "steps": 20}


def against(**options):
    return AdaptivePGD.against(net, PARAMS, REFERENCE, **OPTIONS | options)


def cross_entropy(x, c):
    z = x.astype(np.float64) @ PARAMS["w"]
    return np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, c[..., None], -1)[..., 0]


def template(c):
    rows = np.flatnonzero(REFERENCE[1] == c)
    losses = cross_entropy(REFERENCE[0], REFERENCE[1])
    return REFERENCE[0][rows[losses[rows].argmin()]]


def test_the_templates_are_the_detectors():
    with jax.transfer_guard("disallow"):
        attack = against()
    for c in range(CLASSES):
        np.testing.assert_array_equal(attack.templates.images[c], template(c))


@pytest.mark.parametrize("targeted", [False, True])
def test_what_the_steps_raise_against_numpy(targeted):
    x, y = X[:6], Y[:6]
    attack = against(weight=0.7, points=5)
    labels = (y + 1) % CLASSES if targeted else y
    aim = attack.aim(net, PARAMS, x, labels, CLASSIFICATION, not targeted)
    logits = net(PARAMS, x).astype(np.float64)
    logits[np.arange(6), y] = -np.inf
    to = labels if targeted else logits.argmax(1)
    curve = 0
    for t in np.linspace(0, 1, 5):
        line = np.stack([(1 - t) * v + t * template(c) for v, c in zip(x, to, strict=True)])
        curve = curve + cross_entropy(line, to) / 5
    sign = -1 if targeted else 1
    expected = sign * cross_entropy(x, labels) - 0.7 * curve
    np.testing.assert_allclose(attack.raised(aim, jnp.asarray(x)), expected, rtol=1e-4, atol=1e-4)


def test_without_weight_it_is_pgd():
    key = jax.random.key(1)
    made, plain = (
        a(net, PARAMS, X[:N], Y[:N], key=key) for a in (against(weight=0.0), PGD(**OPTIONS))
    )
    np.testing.assert_allclose(made.x, plain.x, atol=1e-6)


def test_curves_are_lower_and_detection_falls():
    """DeepFool's images lie on the boundary and are told by their losses; those beyond are not."""
    x, y = X[:N], Y[:N]
    attacked = {"DeepFool": DeepFool()(net, PARAMS, x, y)}
    made = against(epsilon=0.5, weight=5.0, steps=40)(net, PARAMS, x, y)
    assert made.rate > 0.5
    assert made.linf.max() <= 0.5 + 1e-6
    found = detect(LossCurve(10), net, PARAMS, REFERENCE, attacked, unseen={"adaptive": made})
    curve = {}
    for name, of in (*attacked.items(), ("adaptive", made)):
        to = of.predicted[of.success]
        ends = np.stack([template(c) for c in to])
        lines = [(1 - t) * of.x[of.success] + t * ends for t in np.linspace(0, 1, 10)]
        curve[name] = np.mean([cross_entropy(v, to) for v in lines], 0).mean()
    assert curve["adaptive"] < 0.1 * curve["DeepFool"]
    assert found.auc["DeepFool"] > 0.9
    assert found.auc["adaptive"] < found.auc["DeepFool"] - 0.2


def test_equal_by_content():
    """A second attack of the same templates compiles nothing."""
    first, again = against(), against()
    assert first == again
    assert hash(first) == hash(again)
    other = dataclasses.replace(first, templates=Templates(first.templates.images + 1))
    assert other != first
    assert repr(first) == repr(again) != repr(other)
    with pytest.raises(ValueError, match="read-only"):
        first.templates.images[0] = 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (AdaptivePGD, r"templates are needed: make the attack by AdaptivePGD\.against"),
        (lambda: against(weight=-1.0), "weight must be ≥ 0"),
        (lambda: against(points=1), "points must be 2 or more"),
        (lambda: against(epsilon=0), "epsilon must be positive"),
        (
            lambda: AdaptivePGD.against(net, PARAMS, (X[Y != 2], Y[Y != 2])),
            "reference: it has no image of class 2 of 4",
        ),
        (
            lambda: AdaptivePGD.against(net, PARAMS, (X[N:], np.eye(4)[Y[N:]])),
            "reference: y must be integer classes",
        ),
        (
            lambda: AdaptivePGD.against(net, PARAMS, REFERENCE, chunk=0),
            "chunk must be a positive integer, got 0",
        ),
        (
            lambda: AdaptivePGD(templates=Templates(X[:3]))(net, PARAMS, X[:5], Y[:5]),
            r"templates: \(3, 5\) are of another detector; .* need \(4, 5\)",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()
