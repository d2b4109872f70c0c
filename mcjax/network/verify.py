"""Verification by execution: the groups found must leave the outputs unchanged."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .program import run

if TYPE_CHECKING:
    from .network import Network

# A wrong group moves the outputs by the order of their size; rounding by far less.
_TOLERANCE = {8: 1e-8, 4: 2e-3, 2: 0.2}
# Two examples are run once: what counts is the time to compile.
_KEPT = 8
_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def verify(network: Network, params: Any, x: Any) -> None:
    """Run the model on generic parameters, plain and under random permutations of all groups.

    The parameters are perturbed first: zero biases or a zero last layer would hide a mistake.

    **Raises:** `RuntimeError` naming the groups that change the outputs.
    """
    if not network.groups:
        return
    rng = np.random.default_rng(0)
    leaves = generic(jax.tree.leaves(params))
    inputs = generic_inputs(x)
    compiled = _compiled(network, leaves, inputs)
    expected = compiled(*leaves, *inputs)

    def deviation(names: list[str]) -> float:
        identity = network.identity_permutations()
        permutations = {n: rng.permuted(identity[n], axis=-1) for n in names}
        moved = network.permute(permutations, jax.tree.unflatten(network.treedef, leaves))
        return _deviation(expected, compiled(*jax.tree.leaves(moved), *inputs))

    if deviation(list(network.groups)) <= 1:
        return
    wrong = [n for n in network.groups if not deviation([n]) <= 1]
    raise RuntimeError(
        "mcjax found unit groups that do not leave the function unchanged "
        f"({', '.join(wrong) or 'only jointly'}). Either apply_fn is not deterministic "
        "(dropout, random numbers, training mode), or this is a bug in mcjax: please report it"
    )


_cache: OrderedDict[Any, Any] = OrderedDict()


def _compiled(network: Network, leaves: list[jax.Array], inputs: list[jax.Array]):
    """The model compiled for its outputs alone; the last few are kept, so that tracing a model
    again compiles nothing."""
    program = network.analysis.program
    types = tuple((v.shape, v.dtype) for v in (*leaves, *inputs))
    names = tuple(e.name for e in program.all_equations())
    key = (network.apply_fn, network.treedef, types, names)
    if key not in _cache:

        def outputs(*arguments):
            return run(program, arguments)[0]

        lowered = jax.jit(outputs).lower(*leaves, *inputs)
        _cache[key] = lowered.compile(compiler_options=_options())
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    return _cache[key]


def _options() -> dict[str, Any]:
    return dict(_QUICK) if jax.default_backend() == "cpu" else {}


def generic(leaves) -> list[jax.Array]:
    """Parameters near the given ones without zeros or ties; positive ones stay positive."""
    rng = np.random.default_rng(0)
    out = []
    for leaf in leaves:
        array = jnp.asarray(leaf)
        if not jnp.issubdtype(array.dtype, jnp.inexact) or array.size == 0:
            out.append(array)
            continue
        values = np.asarray(array, np.complex128 if jnp.iscomplexobj(array) else np.float64)
        scale = float(np.sqrt(np.mean(np.abs(values) ** 2))) or 0.1
        values = values * rng.uniform(0.6, 1.4, values.shape)
        values = values + 0.05 * scale * rng.uniform(0, 1, values.shape)
        out.append(jnp.asarray(values, array.dtype))
    return out


def generic_inputs(x: Any) -> list[jax.Array]:
    rng = np.random.default_rng(1)

    def values(v):
        if isinstance(v, jax.ShapeDtypeStruct):
            if jnp.issubdtype(v.dtype, jnp.floating):
                return jnp.asarray(rng.normal(size=v.shape), v.dtype)
            return jnp.zeros(v.shape, v.dtype)
        return jnp.asarray(v)

    return [values(v) for v in jax.tree.leaves(x)]


def _deviation(expected, actual) -> float:
    """Largest deviation in units of what rounding may do; NaN where NaN was not expected."""
    worst = 0.0
    for y, z in zip(expected, actual, strict=True):
        if not jnp.issubdtype(y.dtype, jnp.inexact):
            continue  # counts and classes may flip on a tie
        tolerance = _TOLERANCE.get(y.dtype.itemsize, 1e-8)
        y, z = np.asarray(y, np.complex128), np.asarray(z, np.complex128)
        both = np.isfinite(y) & np.isfinite(z)
        if not np.array_equal(np.isfinite(y), np.isfinite(z)):
            return float("inf")
        if both.any():
            scale = np.abs(y[both]).max() or 1.0
            worst = max(worst, float(np.abs(y - z)[both].max() / scale / tolerance))
    return worst
