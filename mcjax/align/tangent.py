"""All scales and matrices of an action at once, where two networks are near: Gauss–Newton.

Alternating over factors is slow where several of them share their parameters (heads that read one
another's keys, a stream that many layers write): each is held back by the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..network.blocks import cut, join, plan
from ..network.elements import Key, factor_of, factors
from ..network.network import Network
from ..network.stands import Stand, grams, inner_products, stands
from .arrays import Arrays

# Of the equations of a step: what they leave is part of the next one.
_TOLERANCE, _ITERATIONS = 1e-6, 100
# No entry of a logarithm of a step is larger.
_LARGEST = 0.5


def tangent_step(network: Network, a: Arrays, b: Arrays) -> dict[Key, np.ndarray]:
    """Elements exp(X) where X is the least X, of all connected factors, with least ‖θ_A − X θ_B‖.

    θ_B + X θ_B is what exp(X) θ_B is to first order. LSMR solves for X (Fong and Saunders 2011);
    nothing is formed but sums over the parameters.

    **Arguments:**
    - `a`, `b`: NumPy arrays by number, float64, None for leaves that are not looked at

    **Returns:** factor → its element; none where there is no such factor
    """
    from scipy.sparse.linalg import LinearOperator, lsmr

    tangent = Tangent(network, b)
    if not tangent.keys:
        return {}
    size = sum(v.size for v in b if v is not None)
    operator: Any = LinearOperator
    operator = operator(
        (size, tangent.size), matvec=tangent.forward, rmatvec=tangent.adjoint, dtype=np.float64
    )
    difference = [None if x is None else x - y for x, y in zip(a, b, strict=True)]
    x = lsmr(operator, _flat(difference), atol=_TOLERANCE, btol=_TOLERANCE, maxiter=_ITERATIONS)[0]
    largest = np.abs(x).max(initial=0)
    return tangent.elements(x * min(1.0, _LARGEST / max(largest, _LARGEST)))


class Tangent:
    """X ↦ X θ_B, linear, and what is transposed to it.

    - `keys`: the factors that curves of actions move; `size`: numbers of all their X together
    - `blocks`: of each leaf; `rows`: of θ_B, where each factor stands
    """

    def __init__(self, network: Network, b: Arrays) -> None:
        self.network, self.b = network, b
        every = [(k, f) for g in network.groups.values() for k, f in factors(g)]
        self.keys = [k for k, f in every if f.kind != "sign"]
        shapes = {k: network.groups[k[0]].shape for k in self.keys}
        self.shapes = {
            k: (*s, s[-1]) if factor_of(network, k).matrices else s for k, s in shapes.items()
        }
        self.size = sum(int(np.prod(s)) for s in self.shapes.values())
        self.plans = [plan(axes)[0] for axes in network.leaf_axes]
        self.blocks = [
            [] if v is None else cut(v, how) for v, how in zip(b, self.plans, strict=True)
        ]
        self.rows = {
            k: [(s, s.rows(b[s.leaf], self.plans[s.leaf], shapes[k])) for s in stands(network, k)]
            for k in self.keys
        }

    def forward(self, x: np.ndarray) -> np.ndarray:
        """X θ_B, all leaves in one."""
        moved = [[np.zeros(v.shape) for v in of] for of in self.blocks]
        for key, own in self._apart(x).items():
            mix = _mixed if factor_of(self.network, key).matrices else _scaled
            for stand, rows in self.rows[key]:
                moved[stand.leaf][stand.block] += stand.layout.back(mix(own, stand, rows))
        return np.concatenate([
            join(blocks, how, v.shape).ravel()
            for blocks, how, v in zip(moved, self.plans, self.b, strict=True) if v is not None
        ])  # fmt: skip

    def adjoint(self, r: np.ndarray) -> np.ndarray:
        """Xᵀ of what `forward` returns."""
        leaves, start = [], 0
        for v in self.b:
            size = 0 if v is None else v.size
            leaves.append(None if v is None else r[start : start + size].reshape(v.shape))
            start += size
        found = []
        for key in self.keys:
            total = np.zeros(self.shapes[key])
            if factor_of(self.network, key).matrices:
                of = grams(self.network, key, leaves, self.b)
                total += of.get(1, 0.0)
                if -1 in of:
                    total -= of[-1].swapaxes(-1, -2)
            else:
                of = inner_products(self.network, key, leaves, self.b)
                total += sum(k * v for k, v in of.items())
            found.append(self._projected(key, total).ravel())
        return np.concatenate(found)

    def elements(self, x: np.ndarray) -> dict[Key, np.ndarray]:
        """exp(X)."""
        import scipy.linalg

        found = {}
        for key, own in self._apart(x).items():
            kind = factor_of(self.network, key).kind
            if kind == "positive":
                found[key] = np.exp(own)
            else:
                found[key] = scipy.linalg.expm(own)
        return found

    def _apart(self, x: np.ndarray) -> dict[Key, np.ndarray]:
        found, start = {}, 0
        for key in self.keys:
            size = int(np.prod(self.shapes[key]))
            own = x[start : start + size].reshape(self.shapes[key])
            found[key], start = self._projected(key, own), start + size
        return found

    def _projected(self, key: Key, x: np.ndarray) -> np.ndarray:
        """Onto the logarithms of the factor's elements."""
        kind = factor_of(self.network, key).kind
        if kind.startswith("orthogonal"):
            x = (x - x.swapaxes(-1, -2)) / 2
        if kind == "orthogonal fixing ones":
            x = x - x.mean(-1, keepdims=True)
            x = x - x.mean(-2, keepdims=True)
        return x


def _scaled(x: np.ndarray, stand: Stand, rows: np.ndarray) -> np.ndarray:
    return stand.exponents * x[stand.index][..., None] * rows


def _mixed(x: np.ndarray, stand: Stand, rows: np.ndarray) -> np.ndarray:
    own = x[stand.index]
    if np.ndim(stand.exponents) == 0:
        return own @ rows if stand.exponents == 1 else -own.swapaxes(-1, -2) @ rows
    moved = np.where(stand.exponents == 1, own @ rows, 0)
    return np.where(stand.exponents == -1, -own.swapaxes(-1, -2) @ rows, moved)


def _flat(leaves: Sequence[Any]) -> np.ndarray:
    found = [v.ravel() for v in leaves if v is not None]
    return np.concatenate(found) if found else np.zeros(0)


__all__ = ["Tangent", "tangent_step"]
