"""What the mean-field theorems assume of a network, and what dropping units does to one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _check, _check_model
from ..network.layers import VIEWS
from ..network.network import Network
from ..transport.problem import finite, real

# Primitives whose values are bounded whatever they are given.
_BOUNDED = {"tanh", "logistic", "erf", "erfc", "sin", "cos", "sign", "atan"}


def mean_field_violations(network: Network, *, deep: bool = False) -> tuple[str, ...]:
    """What of ferbach2023's assumptions a network violates, a sentence each; none: ().

    Thm 3.1 is on f = 1/m Σ_i g(x; θ_i): one group of units with one layer before and one after,
    whose activation is bounded (and Lipschitz, which smooth and bounded ones of JAX are). Bounded
    is what is computed by one of tanh, logistic, erf, sin, cos, sign and atan; of all else, as
    ReLU, it is not known here, and said so. Of deep networks are asked such activations and layers
    one after the other, no skips beside them; what the paper assumes of these is known here by
    second hand, so this may ask for too much.

    **Arguments:**
    - `deep`: what the statements on deep networks (Lemma 4.1, Thm 5.2) assume, in place of Thm 3.1

        >>> import jax, jax.numpy as jnp, mcjax
        >>> params = {"w1": jnp.ones((3, 4)), "w2": jnp.ones((4, 2))}
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> mcjax.theory.mean_field_violations(mcjax.trace(f, params, jnp.eye(3)))
        ("units of 'w1' are computed by max, which is not known to be bounded",)
        >>> g = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> mcjax.theory.mean_field_violations(mcjax.trace(g, params, jnp.eye(3)))
        ()
    """
    _check_model.network(network)
    groups, layers = len(network.groups), len(network.layers)
    found = []
    if not deep and (groups, layers) != (1, 2):
        found.append(
            f"there are {groups} groups of units and {layers} layers, where the theorem has one "
            "and two"
        )
    if deep:
        found.extend(_beside_a_chain(network))
    made: dict[Any, Any] = {o: e for e in network.analysis.program.equations for o in e.outputs}
    for layer in network.layers:
        value: Any = layer.contraction.input
        while value in made and made[value].name in VIEWS:
            value = made[value].inputs[0]
        for group in layer.groups_in:
            by = made[value].name if value in made else "nothing that is followed"
            if by not in _BOUNDED:
                found.append(
                    f"units of {group!r} are computed by {by}, which is not known to be bounded"
                )
    return tuple(dict.fromkeys(found))


def _beside_a_chain(network: Network) -> Iterator[str]:
    """What keeps layers from being one after the other, each group written and read once."""
    if len(network.layers) != len(network.groups) + 1:
        yield (
            f"there are {len(network.groups)} groups of units and {len(network.layers)} layers, "
            "where layers one after the other have a group between each two"
        )
    for name in network.groups:
        written = sum(name in layer.groups_out for layer in network.layers)
        read = sum(name in layer.groups_in for layer in network.layers)
        if (written, read) != (1, 1):
            yield (
                f"units of {name!r} are written by {written} layers and read by {read}, where "
                "without skips it is one and one"
            )


def require_mean_field(network: Network | None, anyway: bool, deep: bool = False) -> None:
    """Raise where a network violates the theorem's assumptions, unless told to go on."""
    if network is None or anyway:
        return
    if violated := mean_field_violations(network, deep=deep):
        raise ValueError(
            f"network: not what the theorem is on: {'; '.join(violated)}; anyway=True goes on"
        )


@_check.on_host
def dropout_error(contributions: Any, kept: int, *, independently: bool = False) -> np.ndarray:
    """√E |m/k Σ_{i ∈ S} c_i − Σ_i c_i|² over random sets S of k of m units: exact.

    f(x) = Σ_i c_i(x) is a sum over the last hidden layer's units, c_i(x) = a_i z_i(x). The total of
    a sample drawn without replacement has the variance m² (1 − k/m) s² / k with s² = Σ_i |c_i −
    c̄|² / (m − 1) (Cochran 1977, Thm 2.2). With each unit kept by a coin of its own, of probability
    q = k/m, the error is √((1 − q)/q Σ_i |c_i|²).

    Of one layer's dropout alone: where units of several layers are dropped, what is dropped first
    goes through the activations after it, and no closed form is known here.

    **Arguments:**
    - `contributions`: c_i, (m, …), units first
    - `kept`: k, from 1 to m
    - `independently`: each unit by a coin of its own, k of them on average

    **Returns:** the error of each output, shape (…).

    **Raises:** `ValueError` for k outside 1 to m, no units, and what is not finite.

        >>> import numpy as np, mcjax
        >>> mcjax.theory.dropout_error(np.array([1.0, 3.0]), 1).item()  # 2 or 6 in place of 4
        2.0
    """
    c = real(contributions, "contributions")
    if not c.ndim or not c.size:
        raise ValueError(f"contributions must be (m, …) with m ≥ 1, got shape {c.shape}")
    finite(c, "contributions")
    units = len(c)
    if _check.positive(kept, "kept") > units:
        raise ValueError(f"kept must be at most the number of units, {units}, got {kept}")
    share = kept / units
    if independently:
        return np.sqrt((1 - share) / share * np.square(c).sum(0))
    spread = c.var(0, ddof=1) if units > 1 else np.zeros(c.shape[1:])
    return units * np.sqrt((1 - share) * spread / kept)


def dropout_bound(
    bound: float, width: int, share: float = 0.5, *, network: Network | None = None,
    anyway: bool = False,
) -> float:  # fmt: skip
    """B √((1 − q) / (q (m − 1))): what `dropout_error` is at most for f = 1/m Σ_i g_i, |g_i| ≤ B.

    Σ |g_i − ḡ|² ≤ m B², put into the closed form. So the error of dropout falls as m^{−1/2}
    whatever the units are, where that of a segment between two draws follows W₂, as m^{−1/d} at
    worst: for neurons of dimension above 2 dropout says more than connectivity does. (That the
    two errors are of one size is ferbach2023's appendix, by second hand and not derived here.)

    **Arguments:**
    - `bound`: B ≥ 0; `width`: m ≥ 2; `share`: q of the units that are kept, in (0, 1]
    - `network`: if given, `mean_field_violations` of it are an error
    - `anyway`: unless this is true; B must then hold on the inputs that there are

    **Raises:** `ValueError` for numbers out of range, and a network that violates the assumptions.

        >>> import mcjax
        >>> mcjax.theory.dropout_bound(1.0, 101)
        0.1
    """
    require_mean_field(network, anyway)
    if not bound >= 0:
        raise ValueError(f"bound must be at least 0, got {bound!r}")
    if _check.positive(width, "width") < 2:
        raise ValueError("width must be at least 2, got 1")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share!r}")
    return bound * math.sqrt((1 - share) / (share * (width - 1)))


__all__ = ["dropout_bound", "dropout_error", "mean_field_violations", "require_mean_field"]
