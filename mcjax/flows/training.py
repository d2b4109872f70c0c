"""Training of global connection models: Flow (likelihood) and Bijection (loss of the middle)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax

from .. import _check, _check_model
from .._static import unpack
from .._tree import linear_combination, stack
from .._types import Params
from ..network.network import Network
from ..tasks import CLASSIFICATION, Task
from ..training import identity
from ..training.data import Data, Layout
from ..training.driver import Trainer, run, warn_unless_finite
from ..training.loss import MeanLoss
from ..training.store import Store
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


@dataclasses.dataclass(frozen=True)
class AdamProtocol:
    """Steps of Adam, whose rate falls along a cosine over all of them; gradients clipped to norm 1.

    - `steps`, `batch`: steps of so many neurons (`train_flow`) or examples (`train_bijection`) each
    - `learning_rate`: of the first step

    **Raises:** `ValueError` for a number that is out of range.

        >>> import mcjax
        >>> mcjax.flows.AdamProtocol(1000, 128).learning_rate
        0.0001
    """

    steps: int
    batch: int
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        _check.positive(self.steps, "steps")
        _check.positive(self.batch, "batch")
        if not 0 <= self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must be ≥ 0 and finite, got {self.learning_rate}")


IAF, REALNVP = Architecture("iaf", blocks=20, depth=0), Architecture("realnvp")
Progress = Callable[[int, float], None]
# Steps taken together, after which progress is reported.
_BLOCK = 20
# Blocks after which the state is kept.
_KEEP = 5


@_check.on_host
def train_flow(
    network: Network,
    networks: Sequence[Params],
    architecture: Architecture = IAF,
    protocol: AdamProtocol = AdamProtocol(2000, 1024),
    *,
    key: jax.Array,
    directory: str | Path | None = None,
    progress: Progress = lambda step, loss: None,
) -> ConnectionModel:
    """Learn ν that maps the neurons of trained networks to a standard Gaussian (Flow).

    Maximises E log[η(ν(θ)) |det ∂ν/∂θ|] over the neurons θ of all networks, by Adam
    (anokhin2020, Sec. 3.3).

    **Arguments:**
    - `network`: the traced network; `networks`: at least two parameter trees
    - `protocol`: steps of so many neurons each
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
        >>> brief = mcjax.flows.AdamProtocol(steps=5, batch=16)
        >>> model = mcjax.flows.train_flow(network, nets[:3], small, brief, key=jax.random.key(0))
        >>> path = model.connect(network, nets[0], nets[3])  # or by mcjax.methods.Flow(model)
        >>> path(0.5)["w1"].shape
        (3, 8)
    """
    rows, arrays, pooled, networks = _start(network, networks, architecture, key)
    plan = Plan(architecture, checked(protocol), key, progress)
    losses = np.zeros(protocol.steps)
    for i, (group, neurons) in enumerate(pooled.items()):
        kept = plan.store(directory, f"group-{i}", {"neurons": identity.of_array(neurons)})
        objective = Likelihood(architecture, neurons.shape[1], protocol.batch)
        arrays[group], found = plan.minimise(
            objective, arrays[group], neurons, lambda keys: keys, kept
        )
        losses += found
    return plan.model(f"{architecture.kind}-flow", rows, arrays, losses, len(networks))


@_check.on_host
def train_bijection(
    network: Network,
    networks: Sequence[Params],
    data: tuple[Any, Any],
    architecture: Architecture = REALNVP,
    protocol: AdamProtocol = AdamProtocol(1000, 128),
    *,
    key: jax.Array,
    task: Task = CLASSIFICATION,
    directory: str | Path | None = None,
    progress: Progress = lambda step, loss: None,
) -> ConnectionModel:
    """Learn ν such that the middle of a path between two trained networks has low loss (Bijection).

    Minimises E L(ν⁻¹[cos(π/4) ν(Θ_A) + sin(π/4) ν(Θ_B)]) over random pairs of the networks and
    batches of data, by Adam: Eq. 8 of anokhin2020 at t = 0.5, where they find the loss highest.
    The gradient goes through ν and ν⁻¹, so ν is a RealNVP.

    **Arguments:**
    - `network`: the traced network; `networks`: at least two parameter trees
    - `data`: (x, y), batched on axis 0
    - `protocol`: steps of so many examples each
    - `key`: initialisation, pairs and order
    - `task`: whose loss is minimised
    - `directory`: keep the state every 100 steps; the same call goes on from there, bit for bit
    - `progress`: called with (steps done, mean loss) every 20 steps

    **Returns:** a `ConnectionModel` for `"realnvp-bijection"`.

    **Raises:** `ValueError` for fewer than two networks, another architecture than RealNVP,
    fewer examples than a batch, or outputs or labels that are not the task's.
    """
    if architecture.kind != "realnvp":
        raise ValueError("Bijection training needs a fast inverse: kind 'realnvp', got "
                         f"{architecture.kind!r}")  # fmt: skip
    whole = Data(data, network)
    whole.steps(checked(protocol).batch)
    rows, arrays, _, networks = _start(network, networks, architecture, key)
    whole.check(task, network.apply_fn, networks[0], None)
    plan = Plan(architecture, protocol, key, progress)
    kept = plan.store(directory, "bijection", {
        "networks": identity.of_params(networks), "data": identity.of_data(data),
        "model": identity.of_model(network.apply_fn, networks[0], whole.example(1)[0]),
        "task": identity.describe(task),
    })  # fmt: skip

    def batches(keys: jax.Array) -> Any:
        return whole.rows(np.asarray(_examples(keys, protocol.batch, whole.n))), keys

    objective = Middle(architecture, rows, MeanLoss(network.function, task), whole.layout)
    given = (stack(networks), whole.shared)
    arrays, losses = plan.minimise(objective, arrays, given, batches, kept)
    return plan.model("realnvp-bijection", rows, arrays, losses, len(networks))


def checked(protocol: Any) -> AdamProtocol:
    if isinstance(protocol, AdamProtocol):
        return protocol
    raise ValueError(
        "protocol must be a mcjax.flows.AdamProtocol(steps, batch), got a "
        f"{type(protocol).__name__}"
    )


def _start(
    network: Network, networks: Sequence[Params], architecture: Architecture, key: jax.Array
) -> tuple[Rows, dict[str, list[jax.Array]], dict[str, jax.Array], list[Params]]:
    """Rows, a new ν for each group, the neurons of all networks, and these, checked."""
    _check_model.network(network)
    _check.random_key(key)
    if len(networks) < 2:
        raise ValueError(f"networks: at least two are needed to learn from, got {len(networks)}")
    networks = list(network.check_parameters(
        **{f"networks[{i}]": params for i, params in enumerate(networks)}
    ))  # fmt: skip
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
    return rows, arrays, pooled, networks


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """−log likelihood for each coordinate of a random batch of neurons; given are all neurons."""

    architecture: Architecture
    dim: int
    batch: int

    def __call__(self, arrays: Any, key: jax.Array, draw: None, neurons: jax.Array) -> jax.Array:
        flow = paramax.unwrap(with_arrays(self.architecture, self.dim, arrays))
        size = min(self.batch, len(neurons))
        some = neurons[jax.random.choice(key, len(neurons), (size,), False)]
        latent, log_det = jax.vmap(flow.transform_and_log_det)(some)
        likelihood = jnp.sum(jax.scipy.stats.norm.logpdf(latent), 1) + log_det
        return -jnp.mean(likelihood) / self.dim


@dataclasses.dataclass(frozen=True)
class Middle:
    """The loss in the middle between two random networks; given are all of them, stacked."""

    architecture: Architecture
    rows: Rows
    loss: MeanLoss
    layout: Layout

    def __call__(self, arrays: Any, batch: Any, draw: None, given: Any) -> jax.Array:
        (examples, key), (networks, shared) = batch, given
        count = len(jax.tree.leaves(networks)[0])
        pair_key, _ = jax.random.split(key)
        first, second = jax.random.choice(pair_key, count, (2,), replace=False)
        ends = [jax.tree.map(lambda v, i=i: v[i], networks) for i in (first, second)]
        taken = [self.rows.take(p) for p in ends]
        middle = {}
        for group, own in arrays.items():
            dim = taken[0][group].shape[1]
            flow = paramax.unwrap(with_arrays(self.architecture, dim, own))
            both = [jax.vmap(flow.transform)(t[group]) for t in taken]
            middle[group] = jax.vmap(flow.inverse)(jnp.sqrt(0.5) * (both[0] + both[1]))
        params = self.rows.put(middle, linear_combination((0.5, 0.5), ends))
        return self.loss(unpack(params), self.layout.join(examples, shared))


@partial(jax.jit, static_argnames=("batch", "n"))
def _examples(keys: jax.Array, batch: int, n: int) -> jax.Array:
    """(steps, batch) numbers of random examples: the second half of each step's key."""

    def of(key: jax.Array) -> jax.Array:
        return jax.random.randint(jax.random.split(key)[1], (batch,), 0, n)

    return jax.vmap(of)(keys)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What both trainings have in common."""

    architecture: Architecture
    protocol: AdamProtocol
    key: jax.Array
    progress: Progress

    def store(self, directory: str | Path | None, name: str, more: dict[str, Any]) -> Store | None:
        """Where a training keeps its state."""
        if directory is None:
            return None
        return Store(Path(directory) / name, {
            "what": "a connection model", "architecture": dataclasses.asdict(self.architecture),
            identity.FALLING.format("steps"): self.protocol.steps,
            "batch": self.protocol.batch, "learning_rate": self.protocol.learning_rate,
            "key": identity.of_array(self.key), **more,
        })  # fmt: skip

    def minimise(
        self,
        objective: Callable,
        arrays: Any,
        given: Any,
        batches: Callable[[jax.Array], Any],
        store: Store | None,
    ) -> tuple[Any, np.ndarray]:
        """(arrays, losses) of all steps.

        **Arguments:**
        - `batches`: keys of some steps → the block of them
        """
        steps = self.protocol.steps
        trainer = Trainer(objective, _optimizer(self.protocol.learning_rate, steps))
        keys = jax.random.split(jax.random.fold_in(self.key, 1), steps)

        def blocks(part: int) -> Iterator[tuple[Any, int]]:
            numbers = np.arange(part * _BLOCK, (part + 1) * _BLOCK)
            block = batches(keys[np.minimum(numbers, steps - 1)])
            yield block, min(_BLOCK, steps - part * _BLOCK)

        def progress(part: int, losses: np.ndarray) -> None:
            self.progress(part * _BLOCK + len(losses), float(losses.mean()))

        state, losses = run(
            trainer, trainer.init(arrays), -(-steps // _BLOCK), blocks, given=given,
            store=store, every=_KEEP, progress=progress,
        )  # fmt: skip
        return state.trained, losses

    def model(
        self, method: str, rows: Rows, arrays: Any, losses: np.ndarray, networks: int
    ) -> ConnectionModel:
        warn_unless_finite(losses, "step", stacklevel=5)
        metadata = {**dataclasses.asdict(self.protocol), "networks": networks}
        return ConnectionModel(method, self.architecture, rows, arrays, losses, metadata)


@lru_cache(maxsize=16)
def _optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
