"""Which leaves of the parameters belong to which layer."""

from __future__ import annotations

from collections.abc import Mapping

from .layers import Contraction, consumers
from .network import Network
from .roles import made_of


def leaves_of_layers(network: Network) -> dict[str, frozenset[int]]:
    """Layer → numbers of the leaves that are its own.

    Its weight, its bias, and what else of the affine maps between its contraction and the next
    nonlinearity comes from leaves: scale, bias and statistics of a batch normalisation that
    follows. A leaf that two layers share (tied weights) is in both; layers that are made of the
    same leaves are one, under the name of the first. Scales of layer normalisations, which data
    stand behind, are in none.
    """
    program = network.analysis.program
    known = made_of(program, len(network.leaf_types))
    users, out = consumers(program), dict[str, frozenset[int]]()
    for layer in network.layers:
        own = _after(layer.contraction, users, known)
        own |= {i for i in (layer.contraction.weight, layer.contraction.bias) if i is not None}
        if own not in out.values():
            out[layer.name] = own
    return out


def _after(contraction: Contraction, users: Mapping, known: Mapping) -> frozenset[int]:
    """The leaves in the affine maps from a layer's biased output to what a nonlinearity reads."""
    value, found = contraction.biased, frozenset[int]()
    while value != contraction.preactivation:
        (equation,) = users[value]
        parameters = [o for o in equation.inputs if o != value and isinstance(o, int)]
        found = found.union(*(known[o] for o in parameters))
        value = equation.outputs[0]
    return found


__all__ = ["leaves_of_layers"]
