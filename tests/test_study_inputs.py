"""Pairs of inputs of several kinds: who is drawn, what is said of them, pictures of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from mcjax.figures.inputs import as_images
from mcjax.inputs import Synthesis
from mcjax.study_inputs import ADVERSARIAL, OTHER, SAME, default_bypass, join_inputs

RNG = np.random.default_rng(2)
W = RNG.normal(size=(16, 3))
PARAMS = {"w": (8 * (W - W.mean(0))).astype(np.float32)}
X = RNG.uniform(size=(300, 16)).astype(np.float32)


def net(params, x):
    return x @ params["w"]


Y = net(PARAMS, X).argmax(1)


def losses_in_numpy(x, y):
    z = x.astype(np.float64) @ PARAMS["w"]
    return np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), y]


def test_who_is_drawn_and_what_is_said():
    """Classes of a linear network are convex: nothing stands between two inputs of one."""
    how = default_bypass(X, 0.2, depth=2, points=15)
    found = join_inputs(net, PARAMS, (X, Y), how, each=4, seed=3)
    low = X[losses_in_numpy(X, Y) <= 0.1]
    for kind, made in found.joined.items():
        a, c = (np.stack([p[k] for p in made.points]) for k in (0, -1))
        labels = found.labels[kind]
        first, last = labels.T if labels.ndim == 2 else (labels, labels)
        assert (losses_in_numpy(a, first) <= 0.1001).all()
        assert (losses_in_numpy(c, last) <= 0.1001).all()
        drawn = (a,) if kind == ADVERSARIAL else (a, c)
        for ends in drawn:
            assert all((row == low).all(1).any() for row in ends)
    same = found.joined[SAME]
    assert same.joined(0) == 1.0
    every = np.concatenate([[p[0], p[-1]] for p in same.points])
    assert len(np.unique(every, axis=0)) == len(every)
    of_two = found.labels[OTHER]
    assert (of_two[:, 0] != of_two[:, 1]).all()
    assert found.joined[OTHER].joined(2) == 0  # half-way the loss is log 2 at least
    adversarial = np.stack([p[-1] for p in found.joined[ADVERSARIAL].points])
    assert adversarial.min() >= X.min()
    assert adversarial.max() <= X.max()
    assert "one class" in found.summary()
    assert json.dumps(found.to_dict())
    again = join_inputs(net, PARAMS, (X, Y), how, each=4, seed=3)
    assert again.to_dict() == found.to_dict()


def test_attacks_that_do_not_get_there_are_left_out_and_said():
    weak = Synthesis(0.05, steps=1, block=1, learning_rate=1e-6)
    found = join_inputs(net, PARAMS, (X, Y), default_bypass(X, 0.1, points=5), weak, each=2)
    assert ADVERSARIAL not in found.joined
    assert "Left out: 6 attacks that did not reach half of that loss" in found.summary()
    assert found.shown["kind"] == SAME


def test_a_figure_of_curves_and_images(tmp_path):
    found = join_inputs(net, PARAMS, (X, Y), default_bypass(X, 0.2, points=9, depth=1), each=1)
    with_images, without = found.plot(tmp_path / "a.png"), found.plot(shape=None)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert with_images.shape == (3,)
    assert len(with_images[0].figure.axes) == len(without[0].figure.axes) == 3 + 2 * 9
    own = Figure().subplots(1, 3)
    assert list(found.plot(ax=own)) == list(own)
    assert len(own[0].figure.axes) == 3
    with pytest.raises(ValueError, match="ax: 2 axes for 3 kinds"):
        found.plot(ax=own[:2])


def test_what_is_an_image():
    assert as_images(np.zeros((2, 64))).shape == (2, 8, 8)
    assert as_images(np.zeros((2, 32 * 32 * 3))).shape == (2, 32, 32, 3)
    assert as_images(np.zeros((2, 5, 4, 1))).shape == (2, 5, 4)
    assert as_images(np.zeros((2, 6))) is None
    assert as_images(np.zeros((2, 6)), (2, 3)).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, np.zeros(len(X), int)), "expected two classes"),
        ((X[:2], Y[:2]), "expected two classes"),
        ((X, Y + 3), "expected classes from 0 to 2"),
        ((X, np.eye(3)[Y]), r"y has shape \(300, 3\) of type float64, expected \(300,\) integers"),
        ((np.uint8(255 * X), Y), "an array of floats|one array of floats"),
    ],
)
def test_bad_input(data, message):
    with pytest.raises(ValueError, match=message):
        join_inputs(net, PARAMS, data, default_bypass(X, 0.2))
