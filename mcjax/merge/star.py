"""Star domains: a network from which segments to several others are of low loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import jax
import numpy as np

from .. import _check
from .._inputs import per_example
from .._readonly import make_read_only
from .._static import pack, unpack
from .._tree import linear_combination, unstack
from .._types import Params
from ..align import match_many, match_weights
from ..evaluation import estimate_batch_norm
from ..network.action import Action
from ..network.network import Network
from ..path import Star
from ..tasks import CLASSIFICATION, Task
from ..training import Fit, Protocol, Renewed, train_curve
from .ensemble import check_networks
from .problem import Each, Method, Problem

# Inputs that statistics of batch normalisation are estimated from.
_SAMPLE = 10_000


@dataclasses.dataclass(frozen=True)
class StarDomain:
    """A star network and the networks around it: the result of `mcjax.merge.star`.

    - `path`: the star as a path, `path.center` θ*; `path.spokes`: the segment to each network
    - `permutations`: P_i of each network, in whose order it stands around θ*
    - `fit`: losses of the epochs
    """

    path: Star
    permutations: tuple[Mapping[str, np.ndarray], ...]
    fit: Fit = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        make_read_only(self, "permutations")

    @property
    def params(self) -> Params:
        """θ*."""
        return unpack(self.path.center)

    @property
    def status(self) -> str:
        """As of the `Fit`."""
        return self.fit.status

    def summary(self) -> str:
        """How many networks, and how the mean loss on the segments fell."""
        return f"a star of {len(self.path)} networks: {self.status}\n{self.fit.summary()}"


@_check.on_host
def star(
    network: Network,
    networks: Sequence[Params],
    data: tuple[Any, Any],
    protocol: Protocol,
    *,
    key: jax.Array,
    start: Params | None = None,
    align: bool = True,
    task: Task = CLASSIFICATION,
    directory: str | FilePath | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> StarDomain:
    """A network θ* from which the segments to all given networks are of low loss.

    Minimises 1/N Σ_i E_{s ~ U[0,1]} ℓ((1 − s) θ* + s P_i θ_i) by SGD, a network and an s drawn at
    each step. Before every epoch each network is matched to θ* as it is then (weight matching, from
    the common order), and once more to the final one.

    **Arguments:**
    - `network`: the traced network
    - `networks`: at least one parameter tree; more of them make it likelier that θ* is joined with
      networks that it has not seen, too
    - `data`: (x, y), batched on axis 0
    - `protocol`: epochs, batch, schedule; its weight decay acts on the network at s
    - `key`: order of the data, draws, and the order of groups in matchings
    - `start`: θ* to begin with; default: the mean of the networks, in a common order
      (`match_many`). The paper begins with a network of random weights
    - `align`: whether networks are matched; False: they are taken in the order that they have
      (fine-tuned from one)
    - `task`: whose loss is minimised
    - `directory`, `progress`: as `mcjax.training.train_curve`: an interrupted training goes on, bit
      for bit

    **Returns:** a `StarDomain`. Statistics of batch normalisation are estimated for θ* from the
    first 10,000 inputs.

    **Raises:** `ValueError` for networks that do not fit, and as `train_curve`.

    *Sonthalia et al. 2024, "Do deep neural network solutions form a star domain?", Alg. 1.*

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: x @ p["w"]
        >>> x = jnp.eye(2)
        >>> networks = [{"w": jnp.array([[s], [0.0]])} for s in (0.0, 2.0)]
        >>> how = mcjax.training.Protocol(300, batch=2, learning_rate=0.1, momentum=0.0)
        >>> made = mcjax.merge.star(
        ...     mcjax.trace(f, networks[0], x), networks, (x, jnp.array([[1.0], [0.0]])), how,
        ...     key=jax.random.key(0), task=mcjax.tasks.REGRESSION)
        >>> bool(abs(made.params["w"][0, 0] - 1) < 0.1)  # 3/2 · 1 − 1/2 · the networks' mean
        True
    """
    trees = check_networks(network, networks, least=1)
    first: Any = [network.identity_permutations()] * len(trees)
    if align and len(trees) > 1:
        first = match_many(network, trees, key=_check.random_key(key)).permutations
    found, last = _trained(
        network, _permuted(network, first, trees), data, protocol, key=key, start=start,
        align=align, task=task, directory=directory, progress=progress,
    )  # fmt: skip
    pairs = zip(last, first, strict=True)
    last = [(Action.of(network, p) @ Action.of(network, q)).permutations for p, q in pairs]
    path = found.path
    assert isinstance(path, Star)
    path = path.with_networks(_permuted(network, last, trees))
    permutations = tuple({n: np.asarray(v) for n, v in p.items()} for p in last)
    return StarDomain(path, permutations, dataclasses.replace(found, path=path))


def _trained(
    network: Network, trees: Sequence[Params], data: Any, protocol: Protocol, *, key: jax.Array,
    start: Params | None = None, align: bool = True, **options: Any,
) -> tuple[Fit, Sequence[Mapping[str, Any]]]:  # fmt: skip
    """(The star around networks in one order, how they are matched to it in the end)."""
    if start is None:
        start = linear_combination([1 / len(trees)] * len(trees), trees)
    (center,) = network.check_parameters(start=start)
    path = Star.around(unpack(center), [unpack(v) for v in trees])
    matched = _Matched(network, key)
    trained = Renewed(path, matched) if align else path
    fit = train_curve(trained, network, data, protocol, key=key, **options)
    found = fit.path
    assert isinstance(found, Star)
    if network.normalisations.leaves:
        sample = per_example(lambda v: v[:_SAMPLE], data[0])
        center = estimate_batch_norm(network, unpack(found.center), sample)
        found = Star.around(center, [unpack(v) for v in trees])
    last: Any = [network.identity_permutations()] * len(trees)
    if align:
        last = matched.permutations(protocol.epochs, found.center, trees)
    return dataclasses.replace(fit, path=found), last


@dataclasses.dataclass(frozen=True)
class Starlight(Method):
    """The star network of `mcjax.merge.star` as a merging method; it trains.

    - `protocol`: epochs, batch, schedule
    - `align`: whether networks are matched to it before every epoch
    """

    protocol: Protocol = Protocol()  # noqa: RUF009  (frozen)
    align: bool = True

    label = "Star"
    source = "Sonthalia et al. 2024, Alg. 1"
    needs_inputs = True
    needs_labels = True
    trains = True

    def __call__(self, problem: Problem) -> Params:
        network = problem.network
        trees = check_networks(network, problem.networks, least=1)
        data = tuple(
            jax.tree.map(lambda *parts: np.concatenate(parts), *v.values) if isinstance(v, Each)
            else v for v in (problem.x, problem.y)
        )  # fmt: skip
        found, _ = _trained(
            network, trees, data, self.protocol, key=problem.key, align=self.align,
            task=problem.task,
        )  # fmt: skip
        assert isinstance(found.path, Star)
        return unpack(found.path.center)


@dataclasses.dataclass(frozen=True)
class _Matched:
    """(epoch, star) → the star with its networks matched to θ* anew."""

    network: Network = dataclasses.field(repr=False, compare=False)
    key: jax.Array

    def __call__(self, epoch: int, path: Star) -> Star:
        networks = unstack(path.networks, len(path))
        found = self.permutations(epoch, path.center, networks)
        return path.with_networks(_permuted(self.network, found, networks))

    def permutations(
        self, epoch: int, center: Params, networks: Sequence[Params]
    ) -> list[Mapping[str, np.ndarray]]:
        start, draw = self.network.identity_permutations(), jax.random.fold_in(self.key, epoch)
        center = unpack(center)
        return [
            match_weights(self.network, center, unpack(v), key=draw, init=start).permutations
            for v in networks
        ]


def _permuted(network: Network, permutations: Sequence[Any], networks: Sequence[Params]) -> Any:
    pairs = zip(permutations, networks, strict=True)
    return [pack(network.permute(p, unpack(v))) for p, v in pairs]


__all__ = ["StarDomain", "Starlight", "star"]
