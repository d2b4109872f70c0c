"""A colour that stays with its method in every figure.

The hue says by what B's neurons move or what is trained, the lightness how: dark with weight
adjustment, alignment or the whole group, pale where both sides of a layer move.
"""

from __future__ import annotations

import colorsys
import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

METHOD_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "linear": "#D55E00",
        "linear wa": "#7A2E00",
        "linear butterfly": "#F2A477",
        "arc": "#E69F00",
        "arc wa": "#937000",
        "arc butterfly": "#EFD27C",
        "ot": "#0072B2",
        "ot wa": "#00304F",
        "ot butterfly": "#7DB8E8",
        "weight matching": "#2E9E4F",
        "weights full": "#0E5A2A",
        "activation matching": "#3FBFAD",
        "activations full": "#1A6F70",
        "learned permutations": "#B5B000",
        "learned full": "#6B6A00",
        "learned from activations full": "#A8C66C",
        "bezier": "#B04AA8",
        "bezier aligned": "#5B1660",
        "bezier full": "#E3A3DC",
        "garipov 3": "#E0588A",
        "garipov 5": "#8C1C4B",
        "pam": "#8A7FD6",
        "pam aligned": "#3F35A0",
        "iaf flow": "#7A7A7A",
        "realnvp flow": "#A9A9A9",
        "realnvp bijection": "#2B2B2B",
    }
)
"""A method's words → its colour."""

# Other names of the same, in words as `_words` writes them.
_ALSO = {
    "segment": "linear",
    "orbit": "ot",
    "to b": "linear",
    "not matched": "linear",
    "before alignment": "linear",
    "after alignment": "ot",
    "activations": "activation matching",
    "to pb": "ot",
    "unaligned curve": "bezier",
    "aligned curve": "bezier aligned",
    "weight matching full": "weights full",
    "weight matching whole group": "weights full",
    "weight matching permutations": "weight matching",
    "activation matching full": "activations full",
    "activation matching whole group": "activations full",
    "learned": "learned permutations",
    "learned from weights whole group": "learned full",
    "learned from activations whole group": "learned from activations full",
    "bezier alignment": "bezier aligned",
    "pam alignment": "pam aligned",
    "unaligned": "bezier",
    "unaligned garipov": "bezier",
    "aligned": "bezier aligned",
    "pam unaligned": "pam",
    "bezier from the segment": "bezier",
    "bezier from weight matching": "bezier aligned",
    "bezier from the whole group": "bezier full",
}
# For what is no method of mcjax's: Okabe and Ito's, then Tol's.
_OTHERS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288",
    "#999933", "#882255", "#44AA99", "#DDCC77", "#AA4499",
)  # fmt: skip
# How far from all others of a figure such a colour is, where there is one (black to white is 1).
_APART = 0.17


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each method of a figure: its own, if it is known, and no colour twice.

    **Arguments:**
    - `labels`: names of methods, as the command or as tables have them (`"ot+wa"`, `"OT + WA"`).
      Another name gets a colour by its letters, the next one where that is taken

    **Returns:** label → colour (`"#rrggbb"`).

        >>> from mcjax.figures import colours_of
        >>> colours_of(["Linear", "OT + WA", "mine"])["OT + WA"] == colours_of(["ot+wa"])["ot+wa"]
        True
    """
    labels = list(dict.fromkeys(labels))
    found: dict[str, str] = {}
    for label in labels:
        known = METHOD_COLOURS.get(key_of(label))
        if known is not None and known not in found.values():
            found[label] = known
    for label in labels:
        if label not in found:
            found[label] = _other(label, set(found.values()))
    return {label: found[label] for label in labels}


def shade(colour: str, lightness: float) -> str:
    """A colour nearer to white (lightness above 0, 1 is white) or to black (below 0)."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    toward, part = (1.0, lightness) if lightness > 0 else (0.0, -lightness)
    mixed = (round(255 * (c + part * (toward - c))) for c in (red, green, blue))
    return "#" + "".join(f"{c:02X}" for c in mixed)


def key_of(label: str) -> str:
    """A method's words, the same for all its names: a key of `METHOD_COLOURS` if it is known."""
    words = _words(label)
    return _ALSO.get(words, words)


def _words(label: str) -> str:
    plain = unicodedata.normalize("NFKD", label.lower()).encode("ascii", "ignore").decode()
    plain = plain.replace("b-fly", "butterfly").replace("weight adjustment", "wa")
    return " ".join(re.findall(r"[a-z0-9]+", plain))


def _other(label: str, taken: set[str]) -> str:
    start = zlib.crc32(_words(label).encode() or label.encode())
    ring = [_OTHERS[(start + k) % len(_OTHERS)] for k in range(len(_OTHERS))]
    free = [c for c in ring if all(_distance(c, other) > _APART for other in taken)]
    free += [c for c in ring if c not in taken]
    if free:
        return free[0]
    hue = start % 360  # more than a reader tells apart, yet no two the same
    while True:
        rgb = colorsys.hls_to_rgb((hue % 360) / 360, 0.35 + 0.3 * (hue // 360 % 2), 0.6)
        colour = "#" + "".join(f"{round(255 * c):02X}" for c in rgb)
        if colour not in taken:
            return colour
        hue += 137


def _distance(one: str, other: str) -> float:
    """How far apart two colours look: Euclidean in sRGB, green weighing most."""
    pairs = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return sum(w * (a - b) ** 2 for w, (a, b) in zip((2, 4, 3), pairs, strict=True)) ** 0.5 / 765


__all__ = ["METHOD_COLOURS", "colours_of", "key_of", "shade"]
