"""Blocks on which groups stand that are not inside one another, matched by elements in turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..network.axes import Atom
from .joints import Joint, crossed
from .terms import Outer, Term


@dataclasses.dataclass(frozen=True, eq=False)
class JointPart:
    """Blocks of two networks, and for each atom which of its signs act on them (a bit each)."""

    joint: Joint
    signs: Mapping[Atom, int]

    def at(self, root: Atom, i: int, j: int) -> JointPart:
        return JointPart(self.joint.at(root, i, j), self.signs)

    def times(self, sign: int) -> JointPart:
        if sign == 1:
            return self
        return dataclasses.replace(self, joint=dataclasses.replace(self.joint, b=-self.joint.b))

    def concerns(self, atom: Atom) -> bool:
        return atom in (*self.joint.units, *self.joint.fixed)

    def crossed(self, outer: Outer) -> bool:
        return crossed([a for a in self.joint.units if a in outer], outer)

    def value(self) -> float:
        """The inner product where nothing moves."""
        return float(np.vdot(self.joint.a, self.joint.b))

    def moved(
        self, atom: Atom, permutation: np.ndarray, signs: np.ndarray, rotation: np.ndarray | None
    ) -> JointPart:
        """With an element applied to b's units of a group without units inside.

        **Arguments:**
        - `signs`: (signs of a unit, units)
        """
        joint, code = self.joint, self.signs.get(atom, 0)
        axis = len(joint.fixed) + joint.units.index(atom)
        b = np.moveaxis(joint.b, axis, 0)[permutation]
        for bit, s in enumerate(signs):
            if code >> bit & 1:
                b = b * s.reshape(-1, *(1,) * (b.ndim - 1))
        if rotation is not None:
            b = np.tensordot(rotation, b, 1)
        return dataclasses.replace(
            self, joint=dataclasses.replace(joint, b=np.moveaxis(b, 0, axis))
        )

    def term(self, units: tuple[Atom, ...]) -> Term:
        """The profit over some units, all others held where they are."""
        joint = self.joint
        axes = [len(joint.fixed) + joint.units.index(a) for a in units]
        a, b = (np.moveaxis(v, axes, range(len(axes))) for v in (joint.a, joint.b))
        sizes = a.shape[: len(axes)]
        rows = int(np.prod(sizes, dtype=int))
        product = a.reshape(rows, -1) @ b.reshape(rows, -1).T
        return Term(product.reshape(*sizes, *sizes), (), units)


__all__ = ["JointPart"]
