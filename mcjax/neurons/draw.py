"""Networks of any width whose neurons are draws of one distribution (ferbach2023)."""

from __future__ import annotations

import jax

from .. import _check, _check_model
from .._types import Params
from ..align.incoming import written_in_order
from ..network.network import Network
from ..network.resized import Resized
from .distributions import Distribution, Gaussian


@_check.on_host
def draw_network(
    network: Network, params: Params, other: Network, distribution: Distribution = Gaussian(), *,
    key: jax.Array,
) -> Params:  # fmt: skip
    """A network of other widths whose units are independent draws from those of a trained one.

    Layer after layer: to a layer's butterflies θ_i (all that writes unit i, all that reads it) a
    distribution µ is fitted, and m units are drawn from it in the place of the n there were, what
    reads them times n / m. So f(x) = n/m Σ_{i ≤ m} g(x; θ_i) has the mean n ∫ g(x; θ) dµ(θ) over
    draws, for one hidden layer, and deviates from it as m^{−1/2}: two such networks are what
    the theory of ferbach2023 speaks of. The next layer's butterflies hold weights of the units
    just drawn.

    What is lost: how the units of a layer depend on each other in training, which makes them
    cover for one another, and what the family of distributions cannot hold. `Empirical()` loses
    the first alone. In a deep network a layer's units are independent given the layer before.

    **Arguments:**
    - `network`, `params`: of a trained network
    - `other`: traced from the same model with the widths wanted (its own, for as many units)
    - `distribution`: `Empirical()`, `Gaussian()`, `Mixture(components)`, `Flow()` or one's own
    - `key`: of the draws

    **Returns:** parameters of `other`.

    **Raises:** `ValueError` for networks that differ in more than widths, groups inside groups or
    twice on one parameter, groups that no layer writes, statistics of batch normalisation, and
    parameters that do not fit or are not finite.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> of = lambda n: {"w1": jnp.ones((3, n)), "w2": jnp.ones((n, 2))}
        >>> network, wide = (mcjax.trace(f, of(n), jnp.eye(3)) for n in (4, 8))
        >>> drawn = mcjax.neurons.draw_network(network, of(4), wide, key=jax.random.key(0))
        >>> drawn["w1"].shape, f(drawn, jnp.eye(3))[0].tolist()  # equal units: nothing to draw
        ((3, 8), [4.0, 4.0])
    """
    for name, one in (("network", network), ("other", other)):
        _check_model.network(one, name)
    if not isinstance(distribution, Distribution):
        raise ValueError(
            "distribution must be a mcjax.neurons.Distribution, e.g. mcjax.neurons.Gaussian(), got "
            f"{distribution!r}"
        )
    _check.random_key(key)
    (params,) = network.check_parameters(params=params)
    resized = Resized(network, other, params)
    order, left = written_in_order(network)
    if left:
        raise ValueError(f"network: no layer writes group {left[0]!r} from the groups before it")
    for k, ((name,), _) in enumerate(order):
        (count,) = other.groups[name].shape
        drawn = distribution.draw(resized.rows(name), count, jax.random.fold_in(key, k))
        resized.put(name, drawn)
    return resized.params()


__all__ = ["draw_network"]
