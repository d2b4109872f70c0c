"""The swap stage of optimal transport: units brought back in order (anokhin2020, Sec. 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._tree import linear_combination
from .._types import Params, Permutations
from ..network.network import Network
from ._base import Path, static, time


class Swaps(Path):
    """From a network with permuted units to the network itself, swap by swap.

    Starts at `network.permute(permutations, end)`, which computes the same function as `end`, and
    goes straight from one transposition to the next: on each leg a pair of units (θ_i, θ_j)
    becomes (θ_j, θ_i), so that every completed leg computes that function too. A cycle of length
    c takes c − 1 swaps. In the middle of a swap both units are (θ_i + θ_j)/2; with n units that
    changes the outputs by O(1/n), and by m times as much when m swaps go together: one at a time
    keeps the loss lowest (measured in `experiments/anokhin2020`).

    **Arguments:**
    - `network`: the traced network
    - `end`: parameters at which the path ends
    - `permutations`: group name → index array; `network.permute(permutations, end)` is the start
    - `together`: the number of disjoint swaps on a leg

    Groups follow one another; units inside heads come before the heads.

    **Raises:** `ValueError` for what is no permutation, parameters that do not fit the network,
    or permutations that leave nothing to swap.

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.eye(3), "w2": jnp.arange(3.)[:, None]}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 3)))
        >>> stage = mcjax.path.Swaps(network, params, {"w1": np.array([2, 0, 1])})
        >>> stage.legs, stage(0.0)["w2"].ravel().tolist(), stage(1.0)["w2"].ravel().tolist()
        (2, [2.0, 0.0, 1.0], [0.0, 1.0, 2.0])
    """

    costly = True
    end: Params
    starts: tuple[Any, ...]
    rounds: tuple[Any, ...]
    network: Network = static()
    groups: tuple[str, ...] = static()

    def __init__(
        self, network: Network, end: Params, permutations: Permutations, *, together: int = 1
    ) -> None:
        _check_model.network(network)
        network.check_parameters(end=end)
        permutations = network.check_permutations(permutations)
        _check.positive(together, "together")
        found = {}
        for name in sorted(permutations, key=lambda n: -len(network.groups[n].outer)):
            swaps = transpositions(np.asarray(permutations[name]), together)
            if len(swaps):
                found[name] = swaps
        if not found:
            raise ValueError("permutations: every unit is in its place, there is nothing to swap")
        self._set(
            end=end,
            starts=tuple(jnp.asarray(np.asarray(permutations[n]), jnp.int32) for n in found),
            rounds=tuple(jnp.asarray(swaps) for swaps in found.values()),
            network=network,
            groups=tuple(found),
        )

    @property
    def legs(self) -> int:
        """The number of straight legs."""
        return sum(len(r) for r in self.rounds)

    def middles(self, count: int) -> np.ndarray:
        """The t in the middle of `count` legs spread evenly over the stage (all if fewer)."""
        count = min(_check.positive(count, "count"), self.legs)
        return (np.linspace(0, self.legs - 1, count).round() + 0.5) / self.legs

    def at(self, t: Any) -> Params:
        s = time(t) * self.legs
        whole = jnp.clip(jnp.floor(s), 0, self.legs - 1)
        k = whole.astype(jnp.int32)
        here, there = (self._params(self._state(i)) for i in (k, k + 1))
        return linear_combination((1 - (s - whole), s - whole), (here, there))

    def _state(self, done: jax.Array) -> Mapping[str, jax.Array]:
        """The permutations after `done` legs."""
        out, before = {}, 0
        for name, start, rounds in zip(self.groups, self.starts, self.rounds, strict=True):
            mine = jnp.clip(done - before, 0, len(rounds))
            before += len(rounds)

            def swap(i, flat, rounds=rounds):
                first, second = rounds[i, :, 0], rounds[i, :, 1]
                moved = flat.at[first].set(flat[second])
                return moved.at[second].set(flat[first])

            state = jax.lax.fori_loop(0, mine, swap, start.reshape(-1))
            out[name] = state.reshape(start.shape)
        return out

    def _params(self, permutations: Mapping[str, jax.Array]) -> Params:
        given = {self.network.groups[n].atom: p for n, p in permutations.items()}
        leaves = [
            self.network.permute_leaf(given, jnp.asarray(leaf), axes)
            for leaf, axes in zip(jax.tree.leaves(self.end), self.network.leaf_axes, strict=True)
        ]
        return jax.tree.unflatten(self.network.treedef, leaves)


def transpositions(permutation: np.ndarray, together: int = 1) -> np.ndarray:
    """Rounds of disjoint transpositions that bring a permutation to the identity.

    Neighbours in a cycle are swapped, (q_0, q_1), (q_2, q_3), …: each swap puts one unit in its
    place, so that a cycle of length c takes c − 1 of them, in at least ⌈log2 c⌉ rounds.

    **Arguments:**
    - `permutation`: (…, n) index array; each row is permuted on its own
    - `together`: at most so many swaps in a round

    **Returns:** (rounds, together', 2) indices into the flattened array; a round of fewer swaps
    is filled with pairs (i, i).

        >>> transpositions(np.array([1, 2, 3, 0])).tolist()
        [[[0, 1]], [[0, 2]], [[0, 3]]]
    """
    n = permutation.shape[-1]
    cycles = [
        [int(row * n + i) for i in cycle]
        for row, values in enumerate(permutation.reshape(-1, n))
        for cycle in _cycles(values)
    ]
    rounds: list[list[tuple[int, int]]] = []
    while cycles:
        pairs: list[tuple[int, int]] = []
        for cycle in cycles:
            take = min(len(cycle) // 2, together - len(pairs))
            pairs += zip(cycle[: 2 * take : 2], cycle[1 : 2 * take : 2], strict=True)
            del cycle[1 : 2 * take : 2]
            if len(pairs) == together:
                break
        rounds.append(pairs)
        cycles = [c for c in cycles if len(c) > 1]
    width = max(map(len, rounds), default=0)
    out = np.zeros((len(rounds), width, 2), np.int32)
    for i, pairs in enumerate(rounds):
        filler = pairs[0][0]
        # A unit outside the round's pairs would do as well; within it (i, i) would undo a swap.
        used = {unit for pair in pairs for unit in pair}
        if len(pairs) < width:
            filler = next(u for u in range(permutation.size) if u not in used)
        out[i] = [*pairs, *[(filler, filler)] * (width - len(pairs))]
    return out


def _cycles(permutation: np.ndarray) -> list[list[int]]:
    """The cycles of more than one unit, [q, p[q], p[p[q]], …]."""
    seen, out = np.zeros(len(permutation), bool), []
    for start in range(len(permutation)):
        cycle, i = [], start
        while not seen[i]:
            seen[i] = True
            cycle.append(i)
            i = int(permutation[i])
        if len(cycle) > 1:
            out.append(cycle)
    return out
