"""Planes through three networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.evaluation import Plane, evaluate_plane
from mcjax.path import Linear
from mcjax.testing.models.catalogue import MLP, MODELS, linen, vectors


def three(case=None):
    case = case or linen(MLP(), vectors(), [(8,), (9,)])
    return case, [case.another(k) for k in (1, 2, 3)]


def flat(tree):
    return np.concatenate([np.asarray(v, np.float64).ravel() for v in jax.tree.leaves(tree)])


def test_the_frame_is_orthonormal_and_the_corners_are_the_networks():
    _, networks = three()
    plane = Plane.through(*networks)
    u, v = flat(plane.first), flat(plane.second)
    np.testing.assert_allclose([u @ u, v @ v, u @ v], [1, 1, 0], atol=1e-5)
    for network, corner in zip(networks, plane.corners, strict=True):
        np.testing.assert_allclose(flat(plane.point(*corner)), flat(network), atol=1e-4)
        np.testing.assert_allclose(plane.coordinates(network), corner, atol=1e-4)
    assert plane.corners[2, 1] > 0


def test_distances_are_those_of_parameter_space():
    _, networks = three()
    plane = Plane.through(*networks)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        on_plane = np.linalg.norm(plane.corners[i] - plane.corners[j])
        assert on_plane == pytest.approx(
            np.linalg.norm(flat(networks[i]) - flat(networks[j])), rel=1e-4
        )


def test_a_curve_of_the_three_lies_on_it():
    _, (a, b, c) = three()
    plane = Plane.through(a, b, c)
    bezier = mcjax.path.Bezier([a, c, b])
    for place, t in zip(plane.coordinates_along(bezier, 5), np.linspace(0, 1, 5), strict=True):
        np.testing.assert_allclose(flat(plane.point(*place)), flat(bezier(t)), atol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "vgg-bn"])
def test_values_are_those_of_the_networks(name, tmp_path):
    case, networks = three(MODELS[name]())
    x = case.inputs(60)
    y = jnp.arange(60) % 3
    plane = Plane.through(*networks)
    surface = evaluate_plane(plane, case.apply_fn, (x, y), 5, margin=0.25, statistics=x, chunk=30)
    assert surface.values["loss"].shape == (5, 5)
    for i, j in ((0, 0), (2, 3), (4, 1)):
        params = plane.point(surface.x[j], surface.y[i])
        alone = mcjax.evaluate(
            Linear(params, params), case.apply_fn, (x, y), [0.0], statistics=x, chunk=30
        )
        assert surface.values["loss"][i, j] == pytest.approx(alone.loss[0], rel=2e-3)
    paths = {"segment": plane.coordinates_along(Linear(*networks[:2]), 3)}
    for metric in ("loss", "accuracy"):
        surface.plot(tmp_path / "plane.png", metric, names=("A", "B", "P·B"), paths=paths)
        assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")
    surface.to_json(tmp_path / "plane.json")
    with pytest.raises(ValueError, match="unknown metric 'other'"):
        surface.plot(tmp_path / "plane.png", "other")


def test_no_plane():
    case, (a, b, c) = three()
    with pytest.raises(ValueError, match="lie on one line"):
        Plane.through(a, b, Linear(a, b)(0.3))
    with pytest.raises(ValueError, match="b or c equals a"):
        Plane.through(a, a, c)
    with pytest.raises(ValueError, match="different structures"):
        Plane.through(a, b, {"other": jnp.ones(3)})
    with pytest.raises(ValueError, match="size must be at least 2"):
        evaluate_plane(
            Plane.through(a, b, c), case.apply_fn, (case.inputs(4), jnp.zeros(4, int)), 1
        )
