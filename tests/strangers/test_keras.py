"""Keras' models: the same outputs, their variables, and symmetries found in them."""

from __future__ import annotations

import os

import jax
import numpy as np
import pytest

import mcjax

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="Keras is not installed: pip install keras")
interop = mcjax.interop.keras
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RNG = np.random.default_rng(0)


def build():
    pixels, context = keras.Input((8, 8, 3), name="pixels"), keras.Input((4,), name="context")
    h = keras.layers.Conv2D(6, 3)(pixels)
    h = keras.layers.ReLU()(keras.layers.BatchNormalization()(h))
    h = keras.layers.Dropout(0.5, seed=1)(keras.layers.GlobalAveragePooling2D()(h))
    h = keras.layers.Concatenate()([h, keras.layers.Dense(5, activation="relu")(context)])
    return keras.Model({"pixels": pixels, "context": context}, keras.layers.Dense(4)(h))


def inputs(count=3):
    return {"pixels": RNG.normal(size=(count, 8, 8, 3)).astype("f4"),
            "context": RNG.normal(size=(count, 4)).astype("f4")}  # fmt: skip


def randomised(params):
    return {k: v + 0.1 * np.abs(RNG.normal(size=v.shape)).astype("f4") for k, v in params.items()}


def test_a_model_comes_and_goes():
    model, x = build(), inputs()
    apply_fn, params = interop.from_model(model)
    assert not any("seed" in name for name in params)
    np.testing.assert_allclose(jax.jit(apply_fn)(params, x), model(x, training=False), rtol=1e-5)
    moved = randomised(params)
    before = np.asarray(model(x, training=False))
    out = np.asarray(apply_fn(moved, x))
    np.testing.assert_array_equal(model(x, training=False), before)  # it stays as it is
    interop.into_model(moved, model)
    np.testing.assert_allclose(model(x, training=False), out, rtol=1e-5)
    for name, value in interop.from_model(model)[1].items():
        np.testing.assert_array_equal(value, moved[name])


def test_groups_are_found_and_planted_permutations_recovered():
    model, x = build(), inputs()
    apply_fn, params = interop.from_model(model)
    params = randomised(params)
    network = mcjax.trace(apply_fn, params, x)
    assert sorted(g.size for g in network.groups.values()) == [5, 6]
    moved = network.permute(network.random_permutations(jax.random.key(0)), params)
    matching = mcjax.align.match_weights(network, params, moved)
    interop.into_model(matching.action(network)(moved), model)
    for name, value in interop.from_model(model)[1].items():
        np.testing.assert_array_equal(value, params[name])


def test_variables_of_one_path_have_names_of_their_own():
    @keras.saving.register_keras_serializable()
    class Twice(keras.Layer):
        def __init__(self):
            super().__init__(name="twice")
            self.first, self.second = (keras.layers.Dense(3, name="dense") for _ in range(2))

        def call(self, x):
            return self.second(self.first(x))

    layer, x = Twice(), RNG.normal(size=(2, 3)).astype("f4")
    layer(x)
    apply_fn, params = interop.from_model(layer)
    assert len(params) == 4
    np.testing.assert_allclose(apply_fn(params, x), layer(x), rtol=1e-5)


def test_what_does_not_fit_is_named(monkeypatch):
    model = build()
    _, params = interop.from_model(model)
    name = next(n for n in params if n.endswith("kernel"))
    cut = {**params, name: params[name][..., 1:]}
    with pytest.raises(ValueError, match=rf"leaf '{name}' has shape .*, expected"):
        interop.into_model(cut, model)
    with pytest.raises(ValueError, match=f"leaf '{name}' is not there"):
        interop.into_model({k: v for k, v in params.items() if k != name}, model)
    with pytest.raises(ValueError, match="leaf 'more' is nothing of the model's"):
        interop.into_model({**params, "more": 1}, model)
    with pytest.raises(ValueError, match=r"keras\.Model or keras\.Layer, got a dict"):
        interop.from_model(params)
    with pytest.raises(ValueError, match="not built"):
        interop.from_model(keras.Sequential([keras.layers.Dense(3)]))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="set KERAS_BACKEND=jax"):
        interop.from_model(model)
