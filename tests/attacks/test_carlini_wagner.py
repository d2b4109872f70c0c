"""Carlini and Wagner's search, image by image in NumPy's float64."""

from __future__ import annotations

import numpy as np
import pytest

from mcjax.attacks import CarliniWagner


def searched(x, label, w, attack):
    """(nearest, rounds): the attack on one image of a linear network, by the text of the paper."""
    low, high, c = 0.0, np.inf, attack.c
    best, nearest, found_in = np.inf, x, []
    start = np.arctanh((2 * x - 1) * 0.999999)
    middle = (np.tanh(start) + 1) / 2
    for _ in range(attack.rounds):
        v, mean, square, found = start.copy(), 0 * start, 0 * start, False
        for step in range(1, attack.steps + 1):
            tried = (np.tanh(v) + 1) / 2
            logits = tried @ w
            other = max((z, j) for j, z in enumerate(logits) if j != label)[1]
            margin = logits[label] - logits[other]
            if margin < 0:
                found, distance = True, ((tried - x) ** 2).sum()
                if distance < best:
                    best, nearest = distance, tried
            slope = 2 * (tried - middle) + c * (margin > 0) * (w[:, label] - w[:, other])
            slope *= (1 - np.tanh(v) ** 2) / 2
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
            scaled = np.sqrt(square / (1 - 0.999**step)) + 1e-8
            v = v - attack.learning_rate * mean / (1 - 0.9**step) / scaled
        found_in.append(found)
        low, high = (low, c) if found else (c, high)
        c = 10 * c if high == np.inf else (low + high) / 2
    return nearest, found_in


@pytest.mark.parametrize("seed", [0, 1])
def test_against_numpy(seed):
    """c grows and is bisected both ways; the nearest image of all rounds is kept, not the last."""
    rng = np.random.default_rng(seed)
    w, x = rng.normal(size=(5, 3)), rng.uniform(0.2, 0.8, (6, 5))
    y = (x @ w).argmax(1)
    attack = CarliniWagner(30, 7, learning_rate=0.05, c=0.02, stop_early=False)
    made = attack(lambda p, x: x @ p, w.astype(np.float32), x.astype(np.float32), y)
    known = [searched(*row, w, attack) for row in zip(x, y, strict=True)]
    later = [rounds[rounds.index(True) :] for _, rounds in known]
    assert any(not all(r) for r in later)  # bisection upwards
    assert any(r.count(True) > 1 for r in later)  # and downwards
    np.testing.assert_allclose(made.x, [nearest for nearest, _ in known], atol=2e-4)
