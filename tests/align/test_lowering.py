"""What aligners compile is lowered for GPUs and TPUs on a machine that has neither."""

from __future__ import annotations

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import cycle_consistent
from mcjax.network import moments
from mcjax.transport import project, sinkhorn

X = jnp.ones((7, 4))


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"]) @ p["w2"]


PARAMS = {"w1": jnp.ones((4, 5)), "w2": jnp.ones((5, 3))}
NETWORK = mcjax.trace(mlp, PARAMS, X)


def of_moments():
    """Two chunks of four and of three examples."""
    plan = tuple(moments.sizes(7, 4))
    chosen = tuple(tuple(moments.pools(NETWORK, X, n, "post", ())[0]) for n, _ in plan)
    keep = moments._keep_tuple(NETWORK, ())
    sums = functools.partial(moments._sums, NETWORK, plan, chosen, keep)
    return sums, (PARAMS, PARAMS, X)


def of_many(function, *more):
    matrices = mcjax.Action.identity(NETWORK).matrices()
    arguments = ([PARAMS] * 3, [matrices] * 3, *([matrices] * 3 for _ in more))
    return functools.partial(function, NETWORK), arguments


CORES = {
    "moments": of_moments,
    "objective": lambda: of_many(cycle_consistent._objective),
    "gradient": lambda: of_many(cycle_consistent._gradient),
    "line search": lambda: of_many(cycle_consistent._along, "towards"),
    "project": lambda: (project, (jnp.eye(4),)),
    "sinkhorn": lambda: (sinkhorn, (jnp.eye(4),)),
}


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
def test_cores_are_lowered(core):
    function, arguments = core()
    exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*arguments)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    found = exported.call(*arguments)
    expected = function(*arguments)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5), found, expected)
