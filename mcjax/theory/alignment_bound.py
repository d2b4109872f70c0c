"""Upper bounds of the loss on a segment, and what alignment gains (tatro2020, Theorem 3.1)."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._static import unpack
from .._types import Params
from ..evaluation.pieces import time_grid
from ..network.network import Layer, Network
from ..tasks import CLASSIFICATION, cross_entropy

# |∂ cross-entropy / ∂ logits| = ‖softmax − one-hot‖ ≤ √2.
_LIPSCHITZ_CROSS_ENTROPY = 2**0.5


@dataclasses.dataclass(frozen=True)
class Bound:
    """The bound of Theorem 3.1 along a segment.

    - `t`: (T,)
    - `loss`: (T,) B(t), an upper bound of the mean loss at t
    - `layers`: (L − 1, T) bounds of ‖f_i(t) − f_i(0)‖, the pre-activations' distance to the first
      end point's, Frobenius norm over the data
    - `output`: (T,) a bound of ‖f_L(t) − (1 − t) f_L(0) − t f_L(1)‖
    """

    t: np.ndarray
    loss: np.ndarray
    layers: np.ndarray
    output: np.ndarray

    @property
    def mean(self) -> float:
        """B = ∫ B(t) dt by the trapezoidal rule (Eq. 30)."""
        return float(np.trapezoid(self.loss, self.t))


@_check.on_host
def alignment_bound(
    network: Network,
    a: Params,
    b: Params,
    data: tuple[Any, Any],
    t: int | Any = 25,
    *,
    lipschitz: float = 1.0,
) -> Bound:
    """B(t) ≥ ℓ((1 − t) θ_A + t θ_B) for a feed-forward network (App. C.1).

    With f_i the pre-activations of layer i and σ Lipschitz with L_σ,

        d_1(t; 0) = t ‖f_1(1) − f_1(0)‖
        d_i(t; 0) ≤ L_σ ((1 − t) ‖W_i^A‖ d_{i−1}(t; 0) + t ‖W_i^B‖ d_{i−1}(t; 1))
                    + t ‖f_i(1) − f_i(0)‖                                            (Eq. 15–24)

    and alike for the other end. The output is off the chord of the ends' outputs by at most
    D(t) = L_σ ((1 − t) ‖W_L^A‖ d_{L−1}(t; 0) + t ‖W_L^B‖ d_{L−1}(t; 1)) (Eq. 26), and since
    cross-entropy is convex in the logits and Lipschitz with √2,

        B(t) = (1 − t) ℓ(θ_A) + t ℓ(θ_B) + √2 D(t) / √N,

    the theorem's bound with the end points' losses in the place of its ε. Called with b and with b
    aligned by `match_activations(…, "l2", "pre")` it gives B_u and B_a; each term of the sum falls
    with the alignment, so B_a ≤ B_u.

    **Arguments:**
    - `network`: a chain of dense layers with an activation between them
    - `a`, `b`: end points
    - `data`: (x, y), labels of a classification: the bound is one of cross-entropy
    - `t`: a number of points, or points in [0, 1]
    - `lipschitz`: L_σ of the activation (1 for ReLU and tanh)

    **Returns:** a `Bound`.

    **Raises:** `ValueError` for a network that is no chain of dense layers, an empty batch, or
    outputs and labels that are no classification's.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> from mcjax.theory import alignment_bound
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
        >>> network = mcjax.trace(f, a, jnp.eye(3))
        >>> bound = alignment_bound(network, a, a, (jnp.eye(3), jnp.arange(3)), t=3)
        >>> bound.output.tolist()  # equal ends: nothing to lose
        [0.0, 0.0, 0.0]
    """
    _check_model.network(network)
    a, b = network.check_parameters(a=a, b=b)
    (x, y), n = _check.labelled(data)
    outputs = jax.eval_shape(lambda x: network.apply_fn(unpack(a), x), x)
    CLASSIFICATION.check(outputs, y)
    chain = _chain(network)
    ts = time_grid(t)
    gaps = _gaps(network, a, b, jnp.asarray(x), chain)
    norms_a, norms_b = (_norms(network, p, chain) for p in (a, b))
    to_a, to_b = [ts * gaps[0]], [(1 - ts) * gaps[0]]
    for i in range(1, len(chain)):
        carried = lipschitz * ((1 - ts) * norms_a[i] * to_a[-1] + ts * norms_b[i] * to_b[-1])
        if i == len(chain) - 1:
            break
        to_a.append(carried + ts * gaps[i])
        to_b.append(carried + (1 - ts) * gaps[i])
    ends = [
        float(jnp.mean(cross_entropy(network.apply_fn(unpack(p), jnp.asarray(x)), jnp.asarray(y))))
        for p in (a, b)
    ]
    loss = (1 - ts) * ends[0] + ts * ends[1] + _LIPSCHITZ_CROSS_ENTROPY * carried / n**0.5
    return Bound(ts, loss, np.stack(to_a), carried)


def _chain(network: Network) -> tuple[Layer, ...]:
    """The layers, if each reads what the one before it writes."""
    layers = network.layers
    wrong = ""
    if len(layers) < 2:
        wrong = f"it has {len(layers)} layers"
    for before, layer in itertools.pairwise(layers):
        if layer.kind != "dense" or before.kind != "dense":
            wrong = f"layer {layer.name!r} is {layer.kind}"
        elif layer.groups_in != before.groups_out or len(layer.groups_in) != 1:
            wrong = f"layer {layer.name!r} reads {layer.groups_in}, not what {before.name!r} writes"
        elif network.groups[layer.groups_in[0]].shape != (network.groups[layer.groups_in[0]].size,):
            wrong = f"layer {layer.name!r} reads units that depend on others"
    if layers and layers[0].groups_in:
        wrong = f"the first layer reads {layers[0].groups_in}"
    if len(network.leaf_names) != len({n for v in layers for n in (v.weight, v.bias) if n}):
        wrong = "it has parameters other than the weights and biases of its layers"
    if wrong:
        raise ValueError(f"Theorem 3.1 is about a chain of dense layers, and this is none: {wrong}")
    return layers


def _norms(network: Network, params: Params, chain: tuple[Layer, ...]) -> list[float]:
    """Spectral norms of the weights."""
    leaves = dict(zip(network.leaf_names, network.flatten(params, "params"), strict=True))
    return [float(np.linalg.norm(np.asarray(leaves[v.weight], np.float64), 2)) for v in chain]


def _gaps(network: Network, a: Params, b: Params, x: Any, chain: tuple[Layer, ...]) -> list[float]:
    """‖f_i(1) − f_i(0)‖ of every layer over the data."""
    names, total = tuple(layer.name for layer in chain), np.zeros(len(chain))
    for start in range(0, len(x), 1000):
        total += np.array(_squares(network, names, a, b, x[start : start + 1000]))
    return [float(v) for v in np.sqrt(total)]


@partial(jax.jit, static_argnames=("network", "names"))
def _squares(network: Network, names: tuple[str, ...], a: Params, b: Params, x: Any) -> jax.Array:
    of_a, of_b = (network.layer_outputs(p, x) for p in (a, b))
    return jnp.stack([jnp.sum((of_a[name] - of_b[name]) ** 2) for name in names])
