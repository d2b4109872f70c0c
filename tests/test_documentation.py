"""The pages: their Python compiles, and every public name is on a page of the API.

`sphinx-build` (docs/conf.py) runs the code, and looks at links, formulas and names.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import mcjax

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.fixture
def public(monkeypatch):
    """The module that knows the public names, beside Sphinx's configuration."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    return importlib.import_module("public")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_compiles(page):
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M):
        compile(code, page.name, "exec")


def test_every_public_module_has_a_page(public):
    pages = "\n".join(p.read_text() for p in (ROOT / "docs" / "api").glob("*.md"))
    assert sorted(re.findall(r"^```{api} (\S+)$", pages, re.M)) == sorted(public.MODULES)
    named = {f"mcjax.{name}" for name in mcjax.__all__ if inspect.ismodule(getattr(mcjax, name))}
    expected = {"mcjax", "mcjax.interop.torch", "mcjax.study", *named} - {"mcjax.interop"}
    assert expected <= set(public.MODULES)


def test_every_public_name_is_described_once(public, monkeypatch):
    names = ["mcjax.align", "mcjax.methods", "mcjax"]
    monkeypatch.setattr(public, "MODULES", names)
    described, spelled = public.public()
    for module in map(importlib.import_module, names):
        for name in public.names_of(module):
            place = spelled[f"{module.__name__}.{name}"]
            assert described[place].value is getattr(module, name)
    places = [id(n.value) for n in described.values()]
    assert len(set(places)) == len(places)
    assert spelled["mcjax.connect"] == "mcjax.methods.connect"  # named there first, in this order
    assert spelled["mcjax.Network.explain"] == "mcjax.Network.explain"


def test_short_names_lead_to_one_place(public):
    spelled = {
        "mcjax.align": "mcjax.align",
        "mcjax.align.match_many": "mcjax.align.match_many",
        "mcjax.path.Linear": "mcjax.path.Linear",
        "mcjax.methods.Linear": "mcjax.methods.Linear",
        "mcjax.load": "mcjax.load",
        "mcjax.Network.leaf_names": "mcjax.Network.leaf_names",
    }
    assert public.short(spelled) == {"match_many": "mcjax.align.match_many"}


def test_examples_are_blocks_however_they_are_indented(public):
    def indented():
        """One line.

            >>> 1 + 1
            2

        More.
        """

    def flush():
        """One line.

        >>> 1 + 1
        2
        """

    block = "One line.\n\n```pycon\n>>> 1 + 1\n2\n```"
    assert public.documentation(indented) == f"{block}\n\nMore."
    assert public.documentation(flush) == block


def test_members_are_ours(public):
    found = public.members(mcjax.models.MLP)
    assert "parent" not in found  # flax's
    assert public.documentation(found["__call__"]) == ""  # not Python's "Call self as a function."
    assert public.is_property(public.members(mcjax.attacks.Attacked)["linf"])
    assert "init" in public.members(mcjax.attacks.BIM)  # whose docstring is `Attack`'s
    # No docstring, but Python's of `bool` and `str`.
    assert "costly" not in public.members(mcjax.path.Legs)
    assert "source" not in public.members(mcjax.methods.TrainedCurve)


@pytest.mark.parametrize(
    ("formula", "read"),
    [
        (r"\frac32 c - \tfrac12(a)", r"\frac{3}{2} c - \tfrac{1}{2}(a)"),  # not 32 over c
        (r"\frac1N \sum_n", r"\frac{1}{N} \sum_n"),
        (r"\frac{\pi}{2} t", r"\frac{\pi}{2} t"),
        (r"\exp(t \log g)", r"\exp(t\,\log\,g)"),
        (r"(1 - a) \operatorname{diag} M", r"(1 - a)\,\operatorname{diag}\,M"),
        (r"\sin((1-t)\,\Omega)", r"\sin((1-t)\,\Omega)"),
    ],
)
def test_formulas_are_spelled_as_docutils_reads_them(public, formula, read):
    assert importlib.import_module("tex").spelled(formula) == read


def test_every_public_name_says_what_it_is(public):
    described, _ = public.public()
    kinds = [
        n for n in described.values() if inspect.isclass(n.value) or inspect.isroutine(n.value)
    ]
    assert len(kinds) > 300
    assert [n.place for n in kinds if not public.documentation(n.value)] == []
