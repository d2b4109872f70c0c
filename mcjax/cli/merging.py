"""`mcjax merge`: what it is asked for, and the networks that it merges."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..merge.named import PRESETS, from_text
from ..merge.problem import traits_of
from ..methods.named import trains, with_epochs, with_protocol
from . import given, results
from .options import DenseTraining, Results, Scored, check_sources, option
from .own import names_of, study_of
from .trained import dense, fitting, train

_METHODS = ", ".join(f"{name} ({traits_of(m).label})" for name, m in PRESETS.items())


@dataclasses.dataclass
class _Own(Scored):
    """Of networks of your own: with files of parameters."""

    base: Annotated[Path | None, option("FILE")] = None
    """The checkpoint that your networks were fine-tuned from: task arithmetic, TIES and DARE need
    it, and units are left in its order."""


@dataclasses.dataclass
class _Training(DenseTraining):
    """Of networks that are trained: without files."""

    seeds: Annotated[tuple[int, ...] | None, option("SEED …", "0 1 2")] = None
    """Seeds of the networks, two or more."""


@dataclasses.dataclass
class Merge:
    """Merge networks into one by every method there is and compare what they make.

    Without files, trains networks from different seeds (on scikit-learn's digits, MNIST or
    CIFAR-10). With two safetensors files or more, merges your own. Units are brought to one order
    first, unless there is a base. Prints a table; writes a figure, every number as JSON and the
    merged parameters.
    """

    networks: Annotated[tyro.conf.Positional[tuple[Path, ...]], option("[A B …]")] = ()
    """Checkpoints to merge (safetensors, .npz, msgpack, orbax); they need --model or --torch, and
    --inputs."""
    own: _Own = dataclasses.field(default_factory=_Own)
    no_align: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Merge units in the order that they have."""
    trained: _Training = dataclasses.field(default_factory=_Training)
    methods: Annotated[
        tuple[str, ...],
        option(
            "NAME …", "all that take so many networks, with the base or without",
            f"Methods to use: {_METHODS}; or your own, as package.module:object.",
        ),
    ] = ()  # fmt: skip
    star_epochs: Annotated[int | None, option("N", "as the networks; of files 30")] = None
    """Epochs of the methods that train: star, and your own that have a protocol."""
    results: Results = dataclasses.field(default_factory=Results)


def run_merge(command: Merge, arguments: list[str]) -> None:
    """Merge, show the table, write everything."""
    methods, left_out = {name: from_text(name) for name in command.methods}, {}
    if command.star_epochs is not None:
        if command.star_epochs < 1:
            raise ValueError(f"--star-epochs must be at least 1, got {command.star_epochs}")
        if not any(map(trains, methods.values())):
            raise ValueError("--star-epochs goes with methods that train; name star in --methods")
    check_sources(command.networks, command.own, command.trained, "files of parameters")
    title, out, study = _own(command) if command.networks else _trained(command)
    if not methods:
        left_out = _left_out(len(study["networks"]), command.own.base is not None)
        names = {name for names in left_out.values() for name in names}
        methods = {name: m for name, m in PRESETS.items() if name not in names}
    methods = _lasting(methods, study, command.star_epochs)
    study["metadata"]["not run"] = left_out
    study |= {"methods": methods, "align": False if command.no_align else None}
    asked = results.Asked(
        title, out, 0, command.results.quiet, trained=not command.networks,
        command=command.results.said(arguments),
    )  # fmt: skip
    results.report_merging(asked, study)


def _lasting(methods: dict[str, Any], study: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    """Methods, presets that train by the protocol of the networks if there is one."""
    protocol = study.pop("protocol", None)
    if protocol is not None:
        methods |= {n: with_protocol(m, protocol) for n, m in methods.items() if n in PRESETS}
    if epochs is not None:
        methods = {name: with_epochs(m, epochs) for name, m in methods.items()}
    return fitting(methods, len(study["train"][1]))


def _left_out(networks: int, base: bool) -> dict[str, list[str]]:
    """Why a preset cannot be used → those that cannot."""
    found: dict[str, list[str]] = {}
    for name, method in PRESETS.items():
        traits = traits_of(method)
        if traits.needs_base and not base:
            found.setdefault("need what networks were fine-tuned from, --base", []).append(name)
        elif traits.pairs_only and networks != 2:
            found.setdefault("merge two networks", []).append(name)
        elif traits.trains:
            found.setdefault("trains a network, and so runs only if --methods names it", []).append(
                name
            )
    return found


def _own(command: Merge) -> tuple[str, Path, dict[str, Any]]:
    """The user's own networks."""
    files, base = command.networks, command.own.base
    if len(files) < 2:
        raise ValueError(f"expected two files of parameters or more, got {len(files)}")
    names = names_of(files)
    out = command.results.folder("merge-" + "-".join(names).replace("/", "-"))
    study = study_of(files, command.own, base)
    study["metadata"]["base"] = None if base is None else str(base)
    study["networks"] = dict(zip(names, study["networks"], strict=True))
    return " + ".join(names), out, study


def _trained(command: Merge) -> tuple[str, Path, dict[str, Any]]:
    """Networks trained on a data set."""
    seeds = command.trained.seeds_or(0, 1, 2)
    given.check_seeds(seeds)
    recipe = dense(command.trained, command.trained.hidden, len(seeds), not command.no_align)
    made = train(command.trained, recipe, seeds, command.results, "merge-")
    names = [f"seed {seed}" for seed in seeds]
    networks = dict(zip(names, made.networks, strict=True))
    return made.title, made.out, made.study | {"networks": networks, "protocol": made.protocol}


__all__ = ["Merge", "run_merge"]
