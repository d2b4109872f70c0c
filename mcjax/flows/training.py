"""Training of global connection models: Flow (likelihood) and Bijection (loss of the middle)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax

from .. import _check
from .._tree import linear_combination, stack
from .._types import Params
from ..network.network import Network
from ..training.state import TrainingState
from .architecture import (
    Architecture,
    arrays_of,
    build,
    skeleton,
    standardised,
    with_arrays,
)
from .model import ConnectionModel
from .rows import Rows

IAF, REALNVP = Architecture("iaf", blocks=20, depth=0), Architecture("realnvp")
Progress = Callable[[int, float], None]
# Steps compiled into one scan, after which progress is reported.
_BLOCK = 20
# Steps after which the state is kept: a multiple of a block.
_KEEP = 100


def train_flow(
    network: Network,
    networks: Sequence[Params],
    architecture: Architecture = IAF,
    *,
    steps: int = 2000,
    batch: int = 1024,
    learning_rate: float = 1e-4,
    key: jax.Array,
    directory: str | Path | None = None,
    progress: Progress = lambda step, loss: None,
) -> ConnectionModel:
    """Learn ν that maps the neurons of trained networks to a standard Gaussian (Flow).

    Maximises E log[η(ν(θ)) |det ∂ν/∂θ|] over the neurons θ of all networks, by Adam
    (anokhin2020, Sec. 3.3).

    **Arguments:**
    - `network`: the traced network; `networks`: at least two parameter trees
    - `steps`, `batch`: steps of so many neurons each
    - `key`: initialisation and order
    - `directory`: keep the state every 100 steps; the same call goes on from there, bit for bit
    - `progress`: called with (steps done, mean loss) every 20 steps

    **Returns:** a `ConnectionModel` for `"iaf-flow"` or `"realnvp-flow"`.

    **Raises:** `ValueError` for fewer than two networks, or networks without neurons to model.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> draw = lambda k, *shape: jax.random.normal(jax.random.key(k), shape)
        >>> nets = [{"w1": draw(i, 3, 8), "w2": draw(i + 9, 8, 2)} for i in range(4)]
        >>> network = mcjax.trace(f, nets[0], jnp.ones((2, 3)))
        >>> small = mcjax.flows.Architecture("realnvp", blocks=2, width=8, depth=1)
        >>> model = mcjax.flows.train_flow(network, nets[:3], small, steps=5, batch=16,
        ...                                key=jax.random.key(0))
        >>> path = mcjax.connect("realnvp-flow", network, nets[0], nets[3], model=model)
        >>> path(0.5)["w1"].shape
        (3, 8)
    """
    rows, arrays, pooled = _start(network, networks, architecture, key)
    losses = np.zeros(steps)
    for i, (group, neurons) in enumerate(pooled.items()):
        objective = partial(_likelihood, architecture, neurons.shape[1], batch)
        kept = _kept(directory, f"group-{i}", architecture, steps, batch, learning_rate, key)
        arrays[group], found = _minimise(
            objective, arrays[group], neurons, steps, learning_rate, key, progress, kept
        )
        losses += found
    return _finish(f"{architecture.kind}-flow", architecture, rows, arrays, losses,
                   {"steps": steps, "batch": batch, "learning_rate": learning_rate,
                    "networks": len(networks)})  # fmt: skip


def train_bijection(
    network: Network,
    networks: Sequence[Params],
    loss_fn: Callable[[Params, Any], jax.Array],
    data: Any,
    architecture: Architecture = REALNVP,
    *,
    steps: int = 1000,
    batch: int = 128,
    learning_rate: float = 1e-4,
    key: jax.Array,
    directory: str | Path | None = None,
    progress: Progress = lambda step, loss: None,
) -> ConnectionModel:
    """Learn ν such that the middle of a path between two trained networks has low loss (Bijection).

    Minimises E L(ν⁻¹[cos(π/4) ν(Θ_A) + sin(π/4) ν(Θ_B)]) over random pairs of the networks and
    batches of data, by Adam: Eq. 8 of anokhin2020 at t = 0.5, where they find the loss highest.
    The gradient goes through ν and ν⁻¹, so ν is a RealNVP.

    **Arguments:**
    - `network`: the traced network; `networks`: at least two parameter trees
    - `loss_fn`: (params, batch of data) → scalar
    - `data`: a pytree of arrays with examples on axis 0
    - `steps`, `batch`: steps of so many examples each
    - `key`: initialisation, pairs and order
    - `directory`: keep the state every 100 steps; the same call goes on from there, bit for bit
    - `progress`: called with (steps done, mean loss) every 20 steps

    **Returns:** a `ConnectionModel` for `"realnvp-bijection"`.

    **Raises:** `ValueError` for fewer than two networks, another architecture than RealNVP, or
    fewer examples than a batch.
    """
    if architecture.kind != "realnvp":
        raise ValueError("Bijection training needs a fast inverse: kind 'realnvp', got "
                         f"{architecture.kind!r}")  # fmt: skip
    n = _check.batched(data, "data")
    if n < batch:
        raise ValueError(f"data: {n} examples are fewer than one batch of {batch}")
    rows, arrays, _ = _start(network, networks, architecture, key)
    objective = partial(_middle_loss, architecture, rows, loss_fn, batch)
    given = (stack(networks), jax.tree.map(jnp.asarray, data))
    kept = _kept(directory, "bijection", architecture, steps, batch, learning_rate, key)
    arrays, losses = _minimise(objective, arrays, given, steps, learning_rate, key, progress, kept)
    return _finish("realnvp-bijection", architecture, rows, arrays, losses,
                   {"steps": steps, "batch": batch, "learning_rate": learning_rate,
                    "networks": len(networks)})  # fmt: skip


def _start(
    network: Network, networks: Sequence[Params], architecture: Architecture, key: jax.Array
) -> tuple[Rows, dict[str, list[jax.Array]], dict[str, jax.Array]]:
    """Rows, a new ν for each group, and the neurons of all networks."""
    if len(networks) < 2:
        raise ValueError(f"networks: at least two are needed to learn from, got {len(networks)}")
    for i, params in enumerate(networks):
        network.check_parameters(**{f"networks[{i}]": params})
    rows = Rows.of(network)
    if not rows.units:
        raise ValueError("the network has no units whose parameters could be modelled")
    taken = [rows.take(p) for p in networks]
    pooled = {g: jnp.concatenate([t[g] for t in taken]) for g in taken[0]}
    arrays = {}
    for i, (group, neurons) in enumerate(pooled.items()):
        flow = build(architecture, neurons.shape[1], jax.random.fold_in(key, i))
        arrays[group] = arrays_of(standardised(flow, neurons))
        skeleton(architecture, neurons.shape[1])
    return rows, arrays, pooled


def _likelihood(
    architecture: Architecture, dim: int, batch: int, arrays: Any, neurons: jax.Array, key: Any
) -> jax.Array:
    """−log likelihood for each coordinate of a batch of neurons."""
    flow = paramax.unwrap(with_arrays(architecture, dim, arrays))
    some = neurons[jax.random.choice(key, len(neurons), (min(batch, len(neurons)),), False)]
    latent, log_det = jax.vmap(flow.transform_and_log_det)(some)
    likelihood = jnp.sum(jax.scipy.stats.norm.logpdf(latent), 1) + log_det
    return -jnp.mean(likelihood) / dim


def _middle_loss(
    architecture: Architecture,
    rows: Rows,
    loss_fn: Callable,
    batch: int,
    arrays: Any,
    given: Any,
    key: jax.Array,
) -> jax.Array:
    """The loss in the middle between two random networks, on a random batch."""
    networks, data = given
    count, n = (len(jax.tree.leaves(v)[0]) for v in given)
    pair_key, batch_key = jax.random.split(key)
    first, second = jax.random.choice(pair_key, count, (2,), replace=False)
    ends = [jax.tree.map(lambda v, i=i: v[i], networks) for i in (first, second)]
    taken = [rows.take(p) for p in ends]
    middle = {}
    for group, own in arrays.items():
        flow = paramax.unwrap(with_arrays(architecture, taken[0][group].shape[1], own))
        both = [jax.vmap(flow.transform)(t[group]) for t in taken]
        middle[group] = jax.vmap(flow.inverse)(jnp.sqrt(0.5) * (both[0] + both[1]))
    params = rows.put(middle, linear_combination((0.5, 0.5), ends))
    start = jax.random.randint(batch_key, (batch,), 0, n)
    return loss_fn(params, jax.tree.map(lambda v: v[start], data))


def _minimise(
    objective: Callable,
    arrays: Any,
    given: Any,
    steps: int,
    learning_rate: float,
    key: jax.Array,
    progress: Progress,
    kept: TrainingState | None,
) -> tuple[Any, np.ndarray]:
    """Adam, its rate falling along a cosine, on objective(arrays, given, key).

    Only floating-point arrays are trained.
    """
    schedule = optax.cosine_decay_schedule(learning_rate, _check.positive(steps, "steps"))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    free, rest = eqx.partition(arrays, eqx.is_inexact_array)
    state = optimizer.init(free)

    @jax.jit
    def block(free, state, keys, given):
        def step(carry, key):
            free, state = carry
            loss, gradient = jax.value_and_grad(
                lambda f: objective(eqx.combine(f, rest), given, key)
            )(free)
            updates, state = optimizer.update(gradient, state, free)
            return (optax.apply_updates(free, updates), state), loss

        return jax.lax.scan(step, (free, state), keys)

    keys = jax.random.split(jax.random.fold_in(key, 1), steps)
    losses = np.zeros(steps, np.float32)
    done = 0
    if kept is not None:
        done, (free, state, losses) = kept.restore((free, state, losses))
        losses = np.array(losses)
    while done < steps:
        last = min(done + _BLOCK, steps)
        (free, state), found = block(free, state, keys[done:last], given)
        losses[done:last] = found
        if kept is not None and (last % _KEEP == 0 or last == steps):
            kept.save(last, (free, state, losses))
        progress(last, float(losses[done:last].mean()))
        done = last
    if kept is not None:
        kept.close()
    return eqx.combine(free, rest), losses


def _kept(
    directory: str | Path | None, name: str, architecture: Architecture, steps: int, batch: int,
    learning_rate: float, key: jax.Array,
) -> TrainingState | None:  # fmt: skip
    """Where a training keeps its state."""
    if directory is None:
        return None
    run = {
        "steps": steps, "batch": batch, "learning_rate": learning_rate,
        "key": np.asarray(jax.random.key_data(key)).tolist(), **dataclasses.asdict(architecture),
    }  # fmt: skip
    return TrainingState(Path(directory) / name, run)


def _finish(
    method: str, architecture: Architecture, rows: Rows, arrays: Any, losses: np.ndarray,
    metadata: dict[str, Any],
) -> ConnectionModel:  # fmt: skip
    if not np.isfinite(losses).all():
        warnings.warn(
            f"the loss is not finite from step {int(np.argmin(np.isfinite(losses)))} on: lower "
            "the learning rate",
            stacklevel=3,
        )
    return ConnectionModel(method, architecture, rows, arrays, losses, metadata)
