"""Weight matching: match units by their parameters (Ainsworth et al. 2023, Algorithm 1).

Over permutations, or over the whole symmetry group of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._threads import one_if_small
from .._types import Params, Permutations
from ..network.action import Action
from ..network.network import Network
from ..transport.solution import BOUND, LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver, as_solver
from .arrays import Arrays, float_arrays, host_arrays
from .descent import MAX_SWEEPS, Descent
from .matching import Matching
from .whole_group import SYMMETRIES, check_real, descend_whole

_ROUNDING = 1e-7


@_check.on_host
def match_weights(
    network: Network,
    a: Params,
    b: Params,
    *,
    key: jax.Array | None = None,
    restarts: int = 1,
    init: Matching | Action | Permutations | None = None,
    solver: Solver = Exact(),
    symmetry: str = "permutation",
    progress: Callable[[str], None] = lambda line: None,
) -> Matching:
    """Permutations P that maximise ⟨θ_A, P θ_B⟩ by coordinate descent (Git Re-Basin, Alg. 1).

    Each step matches one group (with those inside it), all others held, on the sum over every
    parameter that touches it; sweeps in random order until none improves. This finds local
    optima. The start matches layer after layer from the inputs and outputs inwards, as
    `match_butterflies` does, and corrects what has been matched by what comes after.

    A step is an exact assignment (SciPy), with one exception: groups of one outer group that
    stand on one parameter and do not depend on each other (what a grouped convolution reads and
    what it writes) are assigned in turns for each pair of outer units, which may end in a local
    optimum. So no array has more entries than a parameter, or than (units of an axis)².

    Many pairs can be matched beside each other, in threads of Python: SciPy's assignments let go of
    the interpreter. Products then want one BLAS thread each
    (`threadpoolctl.threadpool_limits(1, "blas")` around all), or they wait for each other.

    With `symmetry="full"`, elements g of the whole group of each unit group (`group.structure`)
    that minimise ‖θ_A − g θ_B‖². Both networks are first made as short as scalings and invertible
    matrices can make them; two points of one orbit then differ by permutations, signs and
    rotations (Kempf and Ness 1979). These are searched as above: a signed assignment (each pair
    counts with the better signs), an orthogonal Procrustes problem, heads by the best rotation of
    each pair. Where so far too little is known of a residual stream to tell a rotation, what is
    known is passed on by W Wᵀ of weights whose other units are not matched yet. Last, scales (the
    best positive root of their stationarity polynomial) and invertible matrices (Gauss–Newton)
    are fitted to A as it was given, in turns with all others; where the networks have come near,
    all scales and matrices at once (Gauss–Newton on the group).

    **Arguments:**
    - `a`, `b`: parameters of the traced structure
    - `key`: order of the groups; the same key gives the same result (default `jax.random.key(0)`)
    - `restarts`: at least 1; each further one settles every group anew together with all groups
      it shares parameters with, and keeps what is better
    - `init`: where to start from, a matching (of activations, say), an action or permutations of
      b's units
    - `solver`: of the assignments
    - `symmetry`: `"permutation"` or `"full"`
    - `progress`: called with a line before each group is matched

    **Returns:** a `Matching`. It is `"optimal"` for one group (with those inside it), and where it
    attains ‖θ_A‖ ‖θ_B‖, with `"full"` ‖θ_A − g θ_B‖ = 0 to rounding; else a local optimum,
    `"stopped at a bound"` after 100 sweeps. `matching.action(network)(b)` is b moved.

    **Raises:** `ValueError` for parameters that do not fit the network or are not finite, for a
    `key`, an `init`, a `solver` or a `progress` that are none, and for complex parameters with
    `"full"`.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w1, w2 = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 4))) for i in range(2))
        >>> a, b = {"w1": w1, "w2": w2}, {"w1": w1[:, ::-1], "w2": w2[::-1]}
        >>> x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 4)))
        >>> network = mcjax.trace(f, a, x)
        >>> mcjax.align.match_weights(network, a, b).permutations["w1"].tolist()
        [3, 2, 1, 0]
        >>> moved = mcjax.Action.random(network, jax.random.key(0))(b)  # permuted and scaled
        >>> found = mcjax.align.match_weights(network, a, moved, symmetry="full")
        >>> bool(jnp.allclose(found.action(network)(moved)["w2"], w2, atol=1e-4))
        True
    """
    _check_model.network(network)
    _check.positive(restarts, "restarts")
    solver = as_solver(solver)
    a, b = network.check_parameters(a=a, b=b)
    _check.one_of(symmetry, SYMMETRIES, "symmetry")
    if not callable(progress):
        raise ValueError(f"progress must be a function of a line, as print is, got {progress!r}")
    rng = np.random.default_rng(seed_of(key))
    read = float_arrays if symmetry == "full" else host_arrays
    of_a, of_b = (read(network.flatten(p, n)) for p, n in ((a, "a"), (b, "b")))
    if symmetry == "full":
        check_real(network, of_a)
        action = None if init is None else _action(network, init)
        return descend_whole(
            network, of_a, of_b, rng, restarts=restarts, start=action, solver=solver,
            progress=progress,
        )  # fmt: skip
    start = None if init is None else _start(network, init)
    return descend(
        network, of_a, of_b, rng, restarts=restarts, start=start, solver=solver, progress=progress
    )


def seed_of(key: Any) -> list[int]:
    """The numbers of a random key; None counts as `jax.random.key(0)`."""
    if key is None:
        return [0, 0]
    return np.asarray(_check.key_data(_check.random_key(key))).ravel().tolist()


def descend(
    network: Network,
    a: Arrays,
    b: Arrays,
    rng: np.random.Generator,
    *,
    restarts: int = 1,
    start: Permutations | None = None,
    solver: Solver = Exact(),
    progress: Callable[[str], None] = lambda line: None,
) -> Matching:
    """As `match_weights`, on the float leaves of both networks, with NumPy and SciPy alone."""
    outer = {g.atom: g.outer for g in network.groups.values()}
    largest = max((math.prod(g.shape) for g in network.groups.values()), default=0)
    with one_if_small(largest):  # assignments take most of the time, and run on one
        descent = Descent(network, a, b, outer, solver, progress)
        before = descent.value()
        if start is None:
            descent.settle()
        else:
            descent.go_to(start)
        sweeps = descent.descend(rng)
        stopped = sweeps >= MAX_SWEEPS
        most = math.prod(map(math.sqrt, descent.squares))
        for _ in range(restarts - 1):
            if descent.value() >= (1 - _ROUNDING) * most:
                break  # Cauchy–Schwarz: there is nothing better
            sweeps += descent.block_moves(rng)
        after = descent.value()
    status = worst(descent.status, BOUND if stopped else OPTIMAL if descent.alone else LOCAL)
    if (1 - _ROUNDING) * most <= after < np.inf:
        status = OPTIMAL
    return Matching(
        permutations={**network.identity_permutations(), **descent.found},
        before={"total": before},
        after={"total": after},
        method="weight matching",
        status=status,
        sweeps=sweeps,
        metadata={"restarts": restarts},
    )


def _action(network: Network, init: Any) -> Action:
    """The action of an `init`."""
    if isinstance(init, Action):
        if init.network != network:
            raise ValueError("init: this mcjax.Action is of another network")
        return init
    try:
        if isinstance(init, Matching):
            return init.action(network)
        return Action.of(network, init)
    except ValueError as error:
        raise ValueError(f"init: {error}") from None


def _start(network: Network, init: Any) -> Permutations:
    """The permutations of an `init`."""
    try:
        if isinstance(init, Matching):
            init = init.action(network)
        return network.check_permutations(init)
    except ValueError as error:
        raise ValueError(f"init: {error}") from None
