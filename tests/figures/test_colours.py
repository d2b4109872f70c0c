"""A colour stays with its method, whatever it is called, and no two of a figure look alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mcjax.figures import METHOD_COLOURS, colours_of, shade
from mcjax.figures.families import MOST, families_of
from mcjax.methods import FLOWS, PRESETS, traits_of


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour of sRGB."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_preset_has_a_colour_by_its_name_and_by_its_label():
    named = {name: traits_of(method).label for name, method in PRESETS.items()} | FLOWS
    by_name, by_label = colours_of(named), colours_of(named.values())
    for name, label in named.items():
        assert by_name[name] == by_label[label], name
        assert by_name[name] in METHOD_COLOURS.values(), name
    assert len(set(by_name.values())) == len(named)


def test_a_colour_does_not_depend_on_what_else_is_drawn():
    alone = colours_of(["OT + WA"])["OT + WA"]
    assert colours_of(["mine", "Linear", "OT + WA"])["OT + WA"] == alone
    mine = colours_of(["mine"])["mine"]
    assert colours_of(["Linear", "mine"])["mine"] == mine


def test_known_colours_are_told_apart():
    apart = {
        (a, b): float(np.linalg.norm(lab(METHOD_COLOURS[a]) - lab(METHOD_COLOURS[b])))
        for a, b in itertools.combinations(METHOD_COLOURS, 2)
    }
    assert min(apart.values()) > 17, min(apart, key=apart.__getitem__)


@pytest.mark.parametrize("count", [3, 12, 40])
def test_unknown_names_never_share_a_colour(count):
    found = colours_of([f"method {k}" for k in range(count)] + ["Linear", "segment", "δ", "β"])
    assert len(set(found.values())) == count + 4


def test_shades():
    assert shade("#336699", 1) == "#FFFFFF"
    assert shade("#336699", -1) == "#000000"
    assert shade("#000000", 0.5) == "#808080"


def test_families_hold_every_method_once():
    labels = [traits_of(m).label for m in PRESETS.values()] + [f"mine {k}" for k in range(7)]
    families = families_of(labels)
    assert sorted(itertools.chain(*families.values())) == sorted(labels)
    assert max(map(len, families.values())) <= MOST
    assert families["One motion"] == ["Linear", "Arc", "OT"]
