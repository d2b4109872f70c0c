"""`python docs/valley.py`: the figure that opens README.md, on MNIST, in a few minutes.

Two networks 784-512-512-512-10, trained from different seeds; B aligned by activations. The test
loss on the plane through A, B and P·B, and the accuracy along both segments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import mcjax
from mcjax.align import match_activations
from mcjax.data import load
from mcjax.evaluation import Plane, evaluate_plane
from mcjax.figures import AFTER, BEFORE, along_path, house_style, line, save_figure
from mcjax.models import MLP
from mcjax.path import Linear
from mcjax.training import Protocol, train_networks

OUT = Path(__file__).parent / "valley.png"
# Points a side of the plane, and test images that it is evaluated on.
_SIZE, _IMAGES = 49, 2000


def measure() -> dict[str, Any]:
    """The surface, both segments on it and along it, and where the networks are."""
    data = load("mnist").flat()
    x, y, test = data.x_train, data.y_train, (data.x_test, data.y_test)
    model = MLP((512, 512, 512))
    a, b = train_networks(
        model.apply, lambda key: model.init(key, x[:1]), (x, y), (0, 1), Protocol(6, 128)
    )
    network = mcjax.trace(model.apply, a, x[:2])
    moved = match_activations(network, a, b, x[:10_000]).action(network)(b)
    plane = Plane.through(a, b, moved)
    few = tuple(v[:_IMAGES] for v in test)
    surface = evaluate_plane(plane, network, few, _SIZE)
    t = np.linspace(0, 1, 61)
    found: dict[str, Any] = {
        "x": surface.x, "y": surface.y, "loss": surface.loss, "corners": surface.corners, "t": t,
    }  # fmt: skip
    for name, path in (("B", Linear(a, b)), ("P·B", Linear(a, moved))):
        whole, part = (mcjax.evaluate(path, network, of, t) for of in (test, few))
        found[name] = {
            "at": plane.coordinates_along(path, len(t)), "loss": part.loss,
            "accuracy": 100 * whole.accuracy, "barrier": whole.barrier(),
        }  # fmt: skip
    return found
