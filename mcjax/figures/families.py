"""Methods put together that are read together: the columns of a figure of many methods."""

from __future__ import annotations

from collections.abc import Iterable

from .colours import key_of

# Methods of a panel, beside each other, that can be told apart.
MOST = 5
_FAMILIES = {
    "One motion": ("linear", "arc", "ot"),
    "Layer by layer, both sides": ("linear butterfly", "arc butterfly", "ot butterfly"),
    "Layer by layer, adjusted": ("linear wa", "arc wa", "ot wa"),
    "Matched": ("weight matching", "activation matching", "learned permutations"),
    "Matched by the whole group": ("weights full", "activations full", "learned full",
                                   "learned from activations full"),
    "Trained curves": ("bezier", "bezier aligned", "bezier full", "garipov 3", "garipov 5", "pam",
                       "pam aligned"),
    "Connection models": ("iaf flow", "realnvp flow", "realnvp bijection"),
}  # fmt: skip
_OTHERS = "Others"


def families_of(labels: Iterable[str]) -> dict[str, list[str]]:
    """Title → methods, at most five each, in the order given: for panels beside each other.

    Families of a single method join the one before, where there is room.
    """
    labels = list(dict.fromkeys(labels))
    where = {key: title for title, keys in _FAMILIES.items() for key in keys}
    found: dict[str, list[str]] = {}
    for label in labels:
        found.setdefault(where.get(key_of(label), _OTHERS), []).append(label)
    order = [t for t in (*_FAMILIES, _OTHERS) if t in found]
    out: dict[str, list[str]] = {}
    for title in order:
        mine = found[title]
        last = next(reversed(out), None)
        if len(mine) == 1 and last is not None and len(out[last]) < MOST - 1:
            joined = f"{last}; {title.lower()}" if last != _OTHERS else last
            out[joined] = out.pop(last) + mine
            continue
        for k in range(0, len(mine), MOST):
            out[title + (f", {k // MOST + 1}" if len(mine) > MOST else "")] = mine[k : k + MOST]
    return out


__all__ = ["MOST", "families_of"]
