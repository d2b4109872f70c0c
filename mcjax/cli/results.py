"""What the command computes and writes: of two networks, of every two of many, of one merged."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..report import Table
from . import given, terminal

_LEAST_WIDTH = 80
_NO_WIDTH = 10_000  # wider than any table
# Inputs at a time: as points leave a batch it halves, and each size is compiled, which takes longer
# than a small network's steps.
_INPUTS = 8
_OWN = ["results.json", "table.md", "report.html", "curves.png", "matrix.png", "connections",
        "*.safetensors"]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Asked:
    """How results are shown, and where they go."""

    title: str
    out: Path
    points: int
    quiet: bool
    trained: bool
    """Whether the networks are the command's own, which it writes too."""
    command: str | None = None
    """The command as it was given, for a report as HTML; None: no such report is asked for."""


def report(asked: Asked, study: dict[str, Any]) -> None:
    """Connect two networks with every method; show the table, write everything."""
    from ..study import compare, steps

    metadata, (a, b) = study.pop("metadata"), study.pop("networks")
    count = steps(study["methods"], study["test"] is not None)
    with _progress(count, asked.quiet) as progress:
        comparison = compare(a=a, b=b, **study, t=asked.points, progress=progress)
    comparison = dataclasses.replace(comparison, metadata={**comparison.metadata, **metadata})
    networks = {"a": a, "b": b} if asked.trained else {}
    own = [f for f in _OWN if f not in ("matrix.png", "*.safetensors")]
    own += ["b-*.safetensors", *(f"{name}.safetensors" for name in networks)]
    with given.fresh(asked.out, own) as place:
        files = _write_connections(place, comparison, networks)
        files |= _write_numbers(place, comparison)
        comparison.plot(place / "curves.png")
        files["curves.png"] = "the figure"
        if asked.command is not None:
            from ..report_html import of_comparison

            facts = {"command": asked.command}
            files |= _write_page(place, of_comparison(comparison, asked.title, facts))
    _say(asked, comparison.table(), place, files)


def report_pairs(asked: Asked, study: dict[str, Any], names: list[str]) -> None:
    """Connect every two of the networks with every method; means over pairs, and matrices.

    - `names`: of the networks
    """
    from ..network.trace import trace
    from ..saving import save
    from ..study import steps
    from ..study_pairs import compare_pairs

    metadata, networks = study.pop("metadata"), study.pop("networks")
    network = trace(study.pop("network"), networks[0], study["train"][0][:2])
    pairs = len(networks) * (len(networks) - 1) // 2
    count = pairs * steps(study["methods"], study["test"] is not None)
    with _progress(count, asked.quiet) as progress:
        found = compare_pairs(network, networks, **study, t=asked.points, progress=progress)
    with given.fresh(asked.out, [*_OWN[:-1], "network-*.safetensors"]) as place:
        for name, params in zip(names, networks, strict=True):
            save(place / f"network-{name}.safetensors", params)
        files = {"network-*.safetensors": "the networks, by seed"}
        files |= _write_numbers(place, found, metadata)
        found.plot(place / "matrix.png", names=names)
        files["matrix.png"] = "the barrier of every two networks"
        if asked.command is not None:
            from ..report_html import of_pairs

            facts = {"command": asked.command, **metadata}
            files |= _write_page(place, of_pairs(found, asked.title, facts, names))
    _say(asked, found.table(), place, files)


def report_inputs(asked: Asked, study: dict[str, Any]) -> None:
    """Join inputs of one network; show the table, write the figure and the numbers."""
    from ..saving import save
    from ..study_inputs import default_bypass, join_inputs

    (x, y), params, metadata = study["data"], study["params"], study["metadata"]
    how = default_bypass(x, study["delta"], depth=study["depth"], points=asked.points)
    with _progress(4, asked.quiet) as progress:
        found = join_inputs(
            study["model"], params, (x, y), how, each=study["each"], seed=study["seed"],
            chunk=_INPUTS, progress=progress,
        )  # fmt: skip
    with given.fresh(asked.out, ["results.json", "table.md", "report.html", "inputs.png"]) as place:
        files = {}
        if asked.trained:
            save(place / "network.safetensors", params)
            files["network.safetensors"] = "the network"
        files |= _write_numbers(place, found, metadata)
        found.plot(place / "inputs.png")
        files["inputs.png"] = "the figure"
        if asked.command is not None:
            from ..report_html import of_inputs

            facts = {"command": asked.command, **metadata}
            files |= _write_page(place, of_inputs(found, asked.title, facts))
    _say(asked, found.table(), place, files)


def report_merging(asked: Asked, study: dict[str, Any]) -> None:
    """Merge several networks with every method; show the table, write everything."""
    from ..saving import save
    from ..study_merging import compare_merging

    metadata, networks = study.pop("metadata"), study.pop("networks")
    count = 2 + len(study["methods"]) + (1 if study["test"] is None else 2)
    with _progress(count, asked.quiet, "merging") as progress:
        found = compare_merging(networks=networks, **study, progress=progress)
    found = dataclasses.replace(found, metadata={**found.metadata, **metadata})
    own = ["results.json", "table.md", "report.html", "merging.png", "merged-*.safetensors"]
    own += ["network-*.safetensors"] * asked.trained
    with given.fresh(asked.out, own) as place:
        files: dict[str, str] = {}
        if asked.trained:
            for seed, params in zip(metadata["seeds"], networks.values(), strict=True):
                save(place / f"network-{seed}.safetensors", params)
            files["network-*.safetensors"] = "the networks, by seed"
        for method, made in found.mergings.items():
            save(place / f"merged-{method.replace(':', '-')}.safetensors", made.params)
        files["merged-*.safetensors"] = "what each method makes, in the networks' names"
        files |= _write_numbers(place, found)
        found.plot(place / "merging.png")
        files["merging.png"] = "the figure"
        if asked.command is not None:
            from ..report_html import of_merging

            facts = {"command": asked.command}
            files |= _write_page(place, of_merging(found, asked.title, facts))
    _say(asked, found.table(), place, files)


@contextlib.contextmanager
def _progress(count: int, quiet: bool, what: str = "connecting") -> Iterator[Callable[[str], None]]:
    """What is called with a line before each of so many pieces of work."""
    with terminal.bar(count, what, "step", quiet=quiet) as bar:

        def progress(line: str) -> None:
            bar.set_description_str(line)
            bar.update()

        yield progress
        bar.set_description_str(what)


def _say(asked: Asked, table: Table, place: Path, files: dict[str, str]) -> None:
    if not asked.quiet:
        from rich.console import Console
        from rich.measure import Measurement

        # On a narrow terminal lines go on below: cut numbers would be of no use.
        console = Console()
        width = max(console.width, _LEAST_WIDTH)
        shown = table.terminal(asked.title, width)
        whole = Measurement.get(console, console.options.update(width=_NO_WIDTH), shown).maximum
        Console(width=max(width, whole)).print(shown)
    print(f"Written to {place}:")
    width = max(map(len, files))
    for name, what in files.items():
        print(f"  {name:<{width}}  {what}")


def _write_connections(place: Path, comparison: Any, networks: dict[str, Any]) -> dict[str, str]:
    """File → what it is: two networks, and how every method connects them."""
    from ..saving import save

    files: dict[str, str] = {}
    for name, params in networks.items():
        save(place / f"{name}.safetensors", params)
        files = {"a.safetensors, b.safetensors": "the two networks"}
    for method, made in comparison.connections.items():
        name = method.replace(":", "-")
        alone = dataclasses.replace(made, network=None)  # what is loaded needs no model
        save(place / "connections" / f"{name}.safetensors", alone)
        if made.permutations or made.elements:
            save(place / f"b-{name}.safetensors", made.path(1.0))
            files[f"b-{name}.safetensors"] = "network B as aligned to A: the same function"
    files["connections/*.safetensors"] = "path, permutations and status, for mcjax.load"
    return files


def _write_page(place: Path, page: Any) -> dict[str, str]:
    """A report as HTML."""
    page.write(place / "report.html")
    return {"report.html": "all of it, to look at in a browser"}


def _write_numbers(
    place: Path, found: Any, metadata: dict[str, Any] | None = None
) -> dict[str, str]:
    """The table and every number, of a comparison or of many."""
    from .._files import write_atomically
    from .._json import plain, write_json

    write_atomically(place / "table.md", (found.table().markdown() + "\n").encode())
    extra = {} if metadata is None else {"metadata": plain(metadata)}
    write_json(place / "results.json", {**found.to_dict(), **extra})
    return {"table.md": "the table", "results.json": "every number"}
