"""Sphinx: `{api} mcjax.align` describes a module's public names, and `mcjax.trace` in backticks
anywhere is a link.

Docstrings are Markdown, and so are the pages: a description is text that is parsed as any other.
A name in backticks that begins with `mcjax.` and does not exist is a warning, and so is a public
name that no page describes.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from docutils import nodes
from public import MODULES, documentation, is_property, members, names_of, public, short
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import signature, stringify_signature

LOG = logging.getLogger(__name__)
DESCRIBED, SPELLED = public()
SHORT = short(SPELLED)
PLACES = {id(name.value): name.place for name in DESCRIBED.values()}
_SPELLED = re.compile(r"(mcjax(?:\.[A-Za-z]\w*)*|[A-Za-z]\w*)(?:\(.*\))?", re.S)
_FENCE = "`" * 8
# Beyond so many arguments a class is made by mcjax, not by its users.
_MOST = 11


class _Text:
    """What reads as it is told to."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def default(value: Any) -> Any:
    """A default as one writes it: by its name, as a fraction (8/255), or by the fields that are not
    their own defaults."""
    if id(value) in PLACES and not isinstance(value, (bool, int, str, tuple)):
        return _Text(PLACES[id(value)].removeprefix("mcjax."))
    if isinstance(value, float) and len(repr(value)) > 8:
        share = Fraction(value).limit_denominator(1000)
        told = f"{value:g}" if share.denominator == 1 else str(share)
        return _Text(told.replace("e+", "e")) if float(share) == value else value
    if repr(value) == "<factory>" or getattr(value, "__name__", "") == "<lambda>":
        return _Text("...")
    if inspect.isclass(value) or inspect.isroutine(value):
        return _Text(value.__name__)
    if isinstance(value, Mapping) and not value:
        return _Text("{}")
    if dataclasses.is_dataclass(value):
        fields = [(f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value)]
        told = [f"{name}={default(v)!r}" for name, v, own in fields if not _same(v, own)]
        return _Text(f"{type(value).__name__}({', '.join(told)})")
    return value


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def called_as(value: Any, bound: bool = False) -> str:
    """The signature, on one line; not of what nobody calls with so many arguments."""
    try:
        found = signature(value, bound_method=bound)
    except (TypeError, ValueError):
        return "(...)"
    told = [
        p if p.default is p.empty else p.replace(default=default(p.default))
        for name, p in found.parameters.items()
        if not (name in ("parent", "name") and "_Sentinel" in str(found))  # flax's own
    ]
    if inspect.isclass(value):
        if len(told) > _MOST or list(found.parameters) == ["args", "kwargs"]:
            return "(...)"
        found = found.replace(return_annotation=found.empty)
    found = found.replace(parameters=told)
    return stringify_signature(found, unqualified_typehints=True).replace("\n", " ")


def entry(
    kind: str,
    name: str,
    signed: str,
    text: str,
    options: tuple[str, ...] = (),
    fence: str = _FENCE,
) -> list[str]:
    """A directive of Sphinx's Python domain."""
    return [f"{fence}{{py:{kind}}} {name}{signed}", *options, "", text, fence, ""]


def class_entry(name: str, value: type) -> list[str]:
    """A class, and in it its methods and properties."""
    kind = "exception" if issubclass(value, BaseException) else "class"
    lines = [documentation(value), ""]
    for member, what in members(value).items():
        options: tuple[str, ...] = ()
        if isinstance(what, (classmethod, staticmethod)):
            options = (":classmethod:",) if isinstance(what, classmethod) else (":staticmethod:",)
        plain = what.__func__ if options else what
        if not is_property(plain):
            signed = called_as(plain, bound=not isinstance(what, staticmethod))
            lines += entry("method", member, signed, documentation(plain), options)
        else:
            lines += entry("property", member, "", documentation(plain))
    return entry(kind, name, called_as(value), "\n".join(lines), fence=_FENCE + "`")


def described(name: str, value: Any, below: list[str]) -> list[str]:
    """`below`: the lines of the docstring below a constant, which is no part of its value."""
    if inspect.isclass(value):
        return class_entry(name, value)
    if inspect.isroutine(value):
        return entry("function", name, called_as(value), documentation(value))
    own = type(value).__module__.startswith("mcjax")
    if isinstance(value, Mapping):
        text = "\n".join(f"- `{k!r}`: `{default(v)!r}`" for k, v in value.items())
    else:
        text = f"A `{type(value).__name__}`." if own else f"`{value!r}`"
    return entry("data", name, "", "\n".join([*below, "", text]))


class Api(SphinxDirective):
    """Every public name of a module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        lines = [*entry("module", module.__name__, "", ""), documentation(module), ""]
        below = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
        elsewhere = []
        for name in sorted(names_of(module), key=lambda n: (n.lower(), n)):
            full = f"{module.__name__}.{name}"
            if SPELLED[full] == full:
                lines += described(name, getattr(module, name), below.get(("", name), []))
            else:
                elsewhere.append(f"- `{full}`: `{SPELLED[full]}`")
        if elsewhere:
            lines += ["Described elsewhere:", "", *elsewhere]
        return self.parse_text_to_nodes("\n".join(lines))


def place_of(spelled: str) -> str | None:
    """Where a spelling in backticks leads, if anywhere."""
    found = _SPELLED.fullmatch(spelled.strip())
    return None if found is None else SPELLED.get(found[1]) or SHORT.get(found[1])


def exists(spelled: str) -> bool:
    """Whether a name that begins with `mcjax.` can be reached, or is a module's file."""
    names = _SPELLED.fullmatch(spelled.strip())
    value, *rest = names[1].split(".") if names else ("",)
    if value != "mcjax":
        return True
    value = importlib.import_module("mcjax")
    for name in rest:
        try:
            value = getattr(value, name)
        except AttributeError:
            try:
                value = importlib.import_module(f"{value.__name__}.{name}")
            except (AttributeError, ImportError):
                return False
    return True


def _plain(node: nodes.Node) -> bool:
    around: nodes.Node | None = node.parent
    while around is not None:
        if isinstance(around, (nodes.reference, addnodes.pending_xref, nodes.title)):
            return False
        around = around.parent
    return True


def _literals(document: nodes.document) -> Iterator[nodes.literal]:
    yield from [node for node in document.findall(nodes.literal) if _plain(node)]


def link(app: Sphinx, document: nodes.document) -> None:
    """Names in backticks become references."""
    for node in _literals(document):
        place = place_of(node.astext())
        if place:
            target = addnodes.pending_xref(
                "", node.deepcopy(), refdomain="py", reftype="obj", reftarget=place,
                refexplicit=True, refdoc=app.env.docname, refwarn=False,
            )  # fmt: skip
            node.replace_self(target)
        elif not exists(node.astext()):
            LOG.warning("there is no %s", node.astext(), location=node)


def spelled_otherwise(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """A type in a signature, by its short name."""
    place = place_of(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or place is None:
        return None
    domain = env.get_domain("py")
    found = dict.fromkeys(["py:module", "py:class"], node.get("refspecific"))
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", place, _unspecific(node, found), content
    )


def _unspecific(node: Any, drop: dict[str, Any]) -> Any:
    copy = node.copy()
    for name in [*drop, "refspecific"]:
        copy.attributes.pop(name, None)
    return copy


def complete(app: Sphinx, env: Any) -> list[str]:
    """A warning for every public name without a description."""
    objects = env.get_domain("py").objects
    for full in [*DESCRIBED, *MODULES]:
        if full not in objects:
            LOG.warning("%s is public, and no page of docs/api describes it", full)
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("api", Api)
    app.connect("doctree-read", link)
    app.connect("missing-reference", spelled_otherwise)
    app.connect("env-updated", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
