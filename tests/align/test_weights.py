"""Weight matching where it is hard: grouped convolutions, U-nets, noise, crossed groups."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import tracemalloc

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import mcjax
from mcjax.align import match_weights
from mcjax.align.parameters import Products, move
from mcjax.testing.models.cases import Case, by_hand, images, linen, sequences, tokens, vectors
from mcjax.testing.models.catalogue import MLP, Transformer

from ..unet import unet


def noisy(params, level, seed=0):
    """Parameters with Gaussian noise of `level` times each leaf's standard deviation."""
    rng = np.random.default_rng(seed)

    def add(v):
        v = np.asarray(v)
        return jnp.asarray(v + level * v.std() * rng.normal(size=v.shape), v.dtype)

    return jax.tree.map(add, params)


def inner(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(np.vdot(np.float64(x), np.float64(y))) for x, y in pairs)


def planted(network, b, seed=5):
    return network.permute(network.random_permutations(jax.random.key(seed)), b)


def check_planted(network, a, level=0.0, seed=0, **arguments):
    """The planted optimum is reached (or, with noise, something better)."""
    b = noisy(a, level, seed) if level else a
    matching = match_weights(network, a, planted(network, b, seed), **arguments)
    # The bound of Cauchy and Schwarz is attained where there is no noise.
    assert matching.status in (("local optimum", "optimal") if level else ("optimal",))
    assert matching.after["total"] >= (1 - 1e-6) * inner(a, b)
    return network.permute(matching.permutations, planted(network, b, seed))


# -- groups on one parameter that do not depend on each other --------------------------------


def blocks_in_blocks(groups, read, written, inputs=4, outputs=2) -> Case:
    """What a grouped convolution is on one position: units read and written inside groups."""

    def apply_fn(p, x):
        h = jnp.tanh(jnp.einsum("bi,igk->bgk", x, p["a"]))
        h = jnp.tanh(jnp.einsum("bgk,gkm->bgm", h, p["b"]))
        return jnp.einsum("bgm,gmo->bo", h, p["c"])

    shapes = {
        "a": (inputs, groups, read), "b": (groups, read, written), "c": (groups, written, outputs)
    }  # fmt: skip
    return by_hand(apply_fn, shapes, vectors(inputs), [])


@pytest.mark.parametrize("seed", range(5))
def test_units_read_and_written_inside_groups_against_brute_force(seed):
    """2! · (3!)² · (3!)² permutations."""
    case = blocks_in_blocks(2, 3, 3)
    a, b = ({k: np.asarray(v, np.float64) for k, v in case.another(s).items()}
            for s in (seed, seed + 100))  # fmt: skip

    def pair(i, j):
        return max(
            np.sum(a["a"][:, i] * b["a"][:, j][:, r])
            + np.sum(a["b"][i] * b["b"][j][r][:, w])
            + np.sum(a["c"][i] * b["c"][j][w])
            for r in map(list, itertools.permutations(range(3)))
            for w in map(list, itertools.permutations(range(3)))
        )

    best = max(pair(0, 0) + pair(1, 1), pair(0, 1) + pair(1, 0))
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    assert sorted(g.shape for g in network.groups.values()) == [(2,), (2, 3), (2, 3)]
    found = match_weights(network, case.another(seed), case.another(seed + 100))
    assert found.after["total"] == pytest.approx(best, rel=1e-5)


class Bottleneck(nn.Module):
    groups: int
    width: int

    @nn.compact
    def __call__(self, x):
        channels = self.groups * self.width
        y = nn.relu(nn.Conv(channels, (1, 1))(x))
        y = nn.relu(nn.Conv(channels, (3, 3), feature_group_count=self.groups)(y))
        return nn.Dense(3)(nn.relu(nn.Conv(8, (1, 1))(y)).mean((1, 2)))


@pytest.mark.parametrize(("groups", "width"), [(3, 6), (12, 8)])
def test_a_grouped_convolution_is_recovered(groups, width):
    case = linen(Bottleneck(groups, width), images(c=16), [])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    for level in (0.0, 0.3, 1.0):
        check_planted(network, case.another(1), level)


def test_the_joint_profit_of_a_grouped_convolution_is_never_made():
    """Far below (groups · width²)² numbers: a few times the parameters and (groups · width)²."""
    groups, width = 12, 16
    case = linen(Bottleneck(groups, width), images(c=16), [])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a = case.another(1)
    b = planted(network, a)
    tracemalloc.start()
    match_weights(network, a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    parameters = sum(v.nbytes for v in jax.tree.leaves(a))
    channels = groups * width
    assert peak < 8 * parameters + 8 * 4 * channels**2 + 2**21
    assert peak < 4 * (channels * width) ** 2 / 4


def test_blocks_of_a_recurrence():
    """A group twice on one parameter, inside an outer one."""

    def apply_fn(p, x):
        def step(h, xt):
            h = jnp.tanh(jnp.einsum("bi,igk->bgk", xt, p["w"])
                         + jnp.einsum("bgk,gkm->bgm", h, p["r"]))  # fmt: skip
            return h, None

        zero = jnp.zeros((x.shape[0], 3, 6), x.dtype)
        h, _ = jax.lax.scan(step, zero, jnp.moveaxis(x, 1, 0))
        return jnp.einsum("bgk,gko->bo", h, p["out"])

    shapes = {"w": (5, 3, 6), "r": (3, 6, 6), "out": (3, 6, 2)}
    case = by_hand(apply_fn, shapes, sequences(), [])
    network = mcjax.trace(apply_fn, case.params, case.x)
    assert sorted(g.shape for g in network.groups.values()) == [(3,), (3, 6)]
    for level in (0.0, 0.3):
        check_planted(network, case.another(1), level)


@pytest.mark.slow
def test_a_regnet_is_matched_in_bounded_memory():
    """RegNetX-3.2GF's shapes: under 4 GB beyond what two networks and their trace take."""
    program = """
import resource, time
import jax, numpy as np
import mcjax
from tests.regnet import regnet

apply_fn, types, x = regnet()
rng = np.random.default_rng(0)
a = jax.tree.map(lambda v: (1 + 0.2 * rng.normal(size=v.shape)).astype(v.dtype)
                 if v.ndim == 1 else 0.1 * rng.normal(size=v.shape).astype(v.dtype), types)
network = mcjax.trace(apply_fn, a, x)
b = network.permute(network.random_permutations(jax.random.key(1)), a)
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
before, start = rss(), time.time()
matching = mcjax.align.match_weights(network, a, b)
print(rss() - before, time.time() - start)
best = sum(float(np.vdot(v, v)) for v in jax.tree.leaves(a))
assert matching.after["total"] >= (1 - 1e-5) * best, (matching.after, best)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 4, done.stdout


# -- starts and the search ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_unet():
    apply_fn, params, x = unet(blocks=1)
    return Case(apply_fn, params, x, None), mcjax.trace(apply_fn, params, x)


def check_unet(case, network, level):
    a = case.another(1)
    aligned = check_planted(network, a, level)
    if not level:
        jax.tree.map(np.testing.assert_array_equal, aligned, a)
        run = jax.jit(case.apply_fn)
        np.testing.assert_allclose(run(aligned, case.x), run(a, case.x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_a_diffusion_unet_is_recovered(small_unet, level):
    check_unet(*small_unet, level)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_larger_diffusion_unet_is_recovered(level):
    apply_fn, params, x = unet(widths=(32, 64, 64), groups=8)
    check_unet(Case(apply_fn, params, x, None), mcjax.trace(apply_fn, params, x), level)


def test_groups_that_always_stand_together():
    """No parameter holds one of two groups alone: there is nothing settled to begin with."""

    def apply_fn(p, x):
        h = jnp.einsum("bi,ijk->bjk", x, p["in"])
        for q in (p["first"], p["second"]):
            h = h + jnp.tanh(h).mean(1, keepdims=True)
            u = jnp.tanh(jnp.einsum("bjk,jkm->bm", h, q["up"]))
            h = h + jnp.einsum("bm,mjk->bjk", u, q["down"])
        return jnp.einsum("bjk,jko->bo", h, p["out"])

    layer = {"up": (8, 7, 24), "down": (24, 8, 7)}
    shapes = {"in": (5, 8, 7), "first": layer, "second": layer, "out": (8, 7, 3)}
    case = by_hand(apply_fn, shapes, vectors(5), [])
    network = mcjax.trace(apply_fn, case.params, case.x)
    assert sorted(g.shape for g in network.groups.values()) == [(7,), (8,), (24,), (24,)]
    for level, seed in itertools.product((0.0, 0.3, 1.0), range(4)):
        check_planted(network, case.another(1), level, seed)


def test_what_comes_after_corrects_what_has_been_matched():
    """The noise is three times the signal: no layer is matched well by what comes before it."""
    model, x = Transformer(4, 32, 4, 50), tokens()
    params = jax.jit(model.init)(jax.random.key(0), x)
    network = mcjax.trace(model.apply, params, x)
    for seed in range(3):
        check_planted(network, params, 3.0, seed)


def test_no_layer_can_be_matched_better():
    """A local optimum over single layers, by SciPy's assignments in float64."""
    f = lambda p, x: functools.reduce(lambda h, w: jnp.tanh(h) @ w, p, x)
    sizes = (4, *[20] * 6, 3)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        a, b = ([rng.normal(size=s).astype("f") for s in itertools.pairwise(sizes)] for _ in "ab")
        network = mcjax.trace(f, a, jnp.ones((2, 4)))
        found = match_weights(network, a, b, key=jax.random.key(seed))
        assert found.status == "local optimum"
        moved = [v.astype(float) for v in network.permute(found.permutations, b)]
        for i in range(6):
            profit = a[i].T.astype(float) @ moved[i] + a[i + 1].astype(float) @ moved[i + 1].T
            rows, columns = linear_sum_assignment(profit, maximize=True)
            assert profit[rows, columns].sum() <= np.trace(profit) + 1e-4


def test_block_moves_leave_local_optima():
    case = linen(MLP((64,) * 4, 10), vectors(30), [])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    for seed in range(4):
        check_planted(network, case.params, 2.0, seed, restarts=3)


def test_a_start_is_given():
    """One input and six layers: from the inputs alone the planted optimum is not found."""
    case = linen(MLP((32,) * 6, 1), vectors(1), [])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, b = case.params, noisy(case.params, 1.0)
    p = network.random_permutations(jax.random.key(1))
    moved, back = network.permute(p, b), mcjax.Action.of(network, p).inverse().permutations
    assert match_weights(network, a, moved).after["total"] < 0.9 * inner(a, b)
    first = match_weights(network, a, moved, init=back)
    assert first.after["total"] >= (1 - 1e-6) * inner(a, b)
    again = match_weights(network, a, moved, init=first)
    assert again.after["total"] == first.after["total"]
    name, group = next(iter(network.groups.items()))
    with pytest.raises(ValueError, match=r"init: permutations\['.*'\] is no permutation"):
        match_weights(network, a, moved, init={name: np.zeros(group.size, int)})


def test_experts_inside_a_residual_stream():
    def apply_fn(p, x):
        r = x @ p["in"]
        for q in (p["first"], p["second"]):
            y = jax.nn.relu(jnp.einsum("bd,edh->beh", r, q["up"]))
            y = jnp.einsum("beh,ehd->bed", y, q["down"])
            r = r + jnp.einsum("be,bed->bd", jax.nn.softmax(r @ q["gate"]), y)
        return r @ p["out"]

    layer = {"gate": (16, 8), "up": (8, 16, 12), "down": (8, 12, 16)}
    shapes = {"in": (6, 16), "first": layer, "second": layer, "out": (16, 3)}
    case = by_hand(apply_fn, shapes, vectors(), [])
    network = mcjax.trace(apply_fn, case.params, case.x)
    for level, seed in itertools.product((0.0, 0.3), range(3)):
        check_planted(network, case.another(1), level, seed)


def test_progress_names_every_group_and_what_is_done_is_not_matched_again():
    f = lambda p, x: jnp.tanh(jnp.tanh(x @ p["w1"]) @ p["w2"]) @ p["w3"]
    shapes = {"w1": (9, 7), "w2": (7, 6), "w3": (6, 5)}
    a = {k: jax.random.normal(jax.random.key(i), s) for i, (k, s) in enumerate(shapes.items())}
    network = mcjax.trace(f, a, jnp.ones((2, 9)))
    b = network.permute(network.random_permutations(jax.random.key(3)), a)
    lines = []
    matching = mcjax.align.match_weights(network, a, b, progress=lines.append)
    assert matching.status == "optimal"
    assert [line.split(":")[0] for line in lines] == ["settling"] * 2
    assert lines[0] == "settling: 0 of 2 matched, next w1"
    lines.clear()
    mcjax.align.match_weights(network, a, b, symmetry="full", progress=lines.append)
    assert any("w2" in line for line in lines)


@pytest.mark.parametrize("units", [3, 40])
def test_16_bits_are_matched_as_their_values_in_float32(units):
    f = lambda p, x: jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"]
    shapes = {"w1": (9, units), "b1": (units,), "w2": (units, 5)}
    draw = lambda seed: {
        k: jax.random.normal(jax.random.key(seed + i), s, jnp.bfloat16)
        for i, (k, s) in enumerate(shapes.items())
    }
    a, b = draw(0), draw(10)
    wide = lambda p: jax.tree.map(lambda v: v.astype(jnp.float32), p)
    network = mcjax.trace(f, a, jnp.ones((2, 9), jnp.bfloat16))
    float32 = mcjax.trace(f, wide(a), jnp.ones((2, 9)))
    found = mcjax.align.match_weights(network, a, b)
    expected = mcjax.align.match_weights(float32, wide(a), wide(b))
    assert found.permutations["w1"].tolist() == expected.permutations["w1"].tolist()
    assert found.after["total"] == pytest.approx(expected.after["total"])


def test_products_that_are_kept_are_those_of_the_network_as_it_is():
    """Whatever moves between two questions: after each, as if nothing had been kept."""
    shapes = {"w1": (7, 8), "w2": (8, 9), "w3": (9, 6), "w4": (6, 5)}

    def model(p, x):
        for name in ("w1", "w2", "w3"):
            x = jnp.tanh(x @ p[name])
        return x @ p["w4"]

    rng = np.random.default_rng(0)
    a, b = ([rng.normal(size=s).astype(np.float32) for s in shapes.values()] for _ in range(2))
    network = mcjax.trace(model, dict(zip(shapes, a, strict=True)), jnp.ones((2, 7)), check=False)
    groups = [[group.atom] for group in network.groups.values()]
    names, kept = list(network.groups), Products(network, a, groups)
    for step in range(60):
        i = int(rng.integers(3))
        if step % 3:
            swap = rng.permutation(network.groups[names[i]].size)[:2]
            permutation = np.arange(network.groups[names[i]].size)
            permutation[swap] = permutation[swap[::-1]]
            b = move(network, {names[i]: permutation}, b)
            kept.moved(i, {names[i]: permutation}, b)
            continue
        for found, oracle in zip(
            kept.problem(b, i).terms, Products(network, a, groups).problem(b, i).terms, strict=True
        ):
            np.testing.assert_allclose(found.profit, oracle.profit, atol=1e-4)
