"""The contract of actions."""

from __future__ import annotations

from typing import Any

import jax

from .._static import pack
from ._require import require, require_error, require_same


def check_action(action: Any, params: Any, x: Any, other: Any = None, tolerance: float = 1e-4):
    """Raise `AssertionError` unless an action keeps its contract on a network's parameters.

    - the outputs stay, to rounding; structure, shapes and dtypes too
    - `action.inverse()` undoes it, on either side; `(a @ b)(params)` is `a(b(params))`
    - the same under `jit` and as a pytree taken apart; nothing can be set

    **Arguments:**
    - `params`, `x`: of `action.network`, x batched on axis 0
    - `other`: another action of the network to compose with (default: the action itself)
    - `tolerance`: relative to the largest entry, of the outputs, and of the parameters where the
      action does more than permute (permutations are exact)

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.arange(6.0).reshape(2, 3), "w2": jnp.ones((3, 1))}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 2)))
        >>> action = mcjax.Action.random(network, jax.random.key(0))
        >>> mcjax.testing.check_action(action, params, jnp.ones((4, 2)))
    """
    other = action if other is None else other
    exact = not any(getattr(v, "elements", None) for v in (action, other))
    rounded = 0.0 if exact else tolerance

    def same(a: Any, b: Any, what: str) -> None:
        require_same(a, b, what, rounded)

    apply = action.network.function
    moved = action(params)
    require_same(apply(moved, x), apply(params, x), "the outputs after the action", tolerance)
    back = action.inverse()
    same(back(moved), params, "inverse()(action(params))")
    same(action(back(params)), params, "action(inverse()(params))")
    same((back @ action)(params), params, "(inverse() @ action)(params)")
    same((action @ other)(params), action(other(params)), "(a @ b)(params)")
    same((other @ action)(params), other(moved), "(b @ a)(params)")
    packed = pack(params)
    same(jax.jit(lambda a, p: a(p))(action, packed), pack(moved), "jit")
    again = jax.tree.unflatten(jax.tree.structure(action), jax.tree.leaves(action))
    require(type(again) is type(action), "as a pytree it must come back as what it was")
    same(again(params), moved, "taken apart and put together")
    for name in ("network", "something_new"):
        require_error(lambda n=name: setattr(action, n, 1), AttributeError, f"setting {name!r}")
