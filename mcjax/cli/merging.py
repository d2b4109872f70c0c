"""`mcjax merge`: what it is asked for, and the networks that it merges."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..merge.named import PRESETS, from_text
from ..merge.problem import traits_of
from ..tasks import TASKS
from . import given, results
from .options import option, out_of, said
from .trained import dense, train

_METHODS = ", ".join(f"{name} ({traits_of(m).label})" for name, m in PRESETS.items())


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
    model: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your model as package.module:apply_fn, a pure function (params, x) -> logits."""
    torch: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your PyTorch model as package.module:build, a function that returns the torch.nn.Module."""
    inputs: Annotated[Path | None, option("FILE.npz")] = None
    """Your data: arrays x and y, and x_test and y_test if you have them."""
    base: Annotated[Path | None, option("FILE")] = None
    """The checkpoint that your networks were fine-tuned from: task arithmetic, TIES and DARE need
    it, and units are left in its order."""
    no_align: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Merge units in the order that they have."""
    data: Literal["digits", "mnist", "cifar10"] = "digits"
    """Data set to train on."""
    data_dir: Annotated[Path | None, option("FOLDER", "MCJAX_DATA_DIR, else TFDS's own")] = None
    """TFDS folder."""
    hidden: Annotated[
        tuple[int, ...] | None, option("WIDTH …", "512 for digits, else the papers' 2000")
    ] = None
    """Widths of the hidden layers."""
    epochs: Annotated[int | None, option("N", "digits 60; the papers': mnist 30, cifar10 400")] = (
        None
    )
    """Epochs of training."""
    seeds: Annotated[tuple[int, ...], option("SEED …", "0 1 2")] = (0, 1, 2)
    """Seeds of the networks, two or more."""
    methods: Annotated[
        tuple[str, ...],
        option(
            "NAME …", "all that take so many networks, with the base or without",
            f"Methods to use: {_METHODS}; or your own, as package.module:object.",
        ),
    ] = ()  # fmt: skip
    task: Annotated[
        Literal["classification", "regression", "next-token"], option("|".join(TASKS))
    ] = "classification"
    """What the outputs of your own model are for."""
    out: Annotated[str | None, option("FOLDER", "in mcjax-runs, named after the arguments")] = None
    """Folder of the results. One that has results already keeps them: these go to run-2 in it."""
    html: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write report.html too: the tables, and what was run."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show no progress and no table, only where the results are."""


def run_merge(command: Merge, arguments: list[str]) -> None:
    """Merge, show the table, write everything."""
    if command.networks:
        title, out, study = _own(command)
    else:
        if command.model or command.torch or command.inputs or command.base:
            raise ValueError("--model, --torch, --inputs and --base go with files of parameters")
        if command.task != "classification":
            raise ValueError("--task goes with files of parameters")
        title, out, study = _trained(command)
    methods, left_out = {name: from_text(name) for name in command.methods}, {}
    if not methods:
        left_out = _left_out(len(study["networks"]), command.base is not None)
        names = {name for names in left_out.values() for name in names}
        methods = {name: m for name, m in PRESETS.items() if name not in names}
    study["metadata"]["not run"] = left_out
    study |= {"methods": methods, "align": False if command.no_align else None}
    asked = results.Asked(
        title, out, 0, command.quiet, trained=not command.networks,
        command=said(arguments, command.html),
    )  # fmt: skip
    results.report_merging(asked, study)


def _left_out(networks: int, base: bool) -> dict[str, list[str]]:
    """Why a preset cannot be used → those that cannot."""
    found: dict[str, list[str]] = {}
    for name, method in PRESETS.items():
        traits = traits_of(method)
        if traits.needs_base and not base:
            found.setdefault("need what networks were fine-tuned from, --base", []).append(name)
        elif traits.pairs_only and networks != 2:
            found.setdefault("merge two networks", []).append(name)
    return found


def _own(command: Merge) -> tuple[str, Path, dict[str, Any]]:
    """The user's own networks."""
    files = command.networks
    if len(files) < 2:
        raise ValueError(f"expected two files of parameters or more, got {len(files)}")
    if command.inputs is None:
        raise ValueError("files of parameters need --inputs data.npz, and --model or --torch")
    out = out_of(command.out, "merge-" + "-".join(file.stem for file in files))
    apply_fn, read, named = given.model(command.model, command.torch)
    arrays = given.arrays(command.inputs, ("x", "y"))
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    task = TASKS[command.task]
    every = [*files, *([] if command.base is None else [command.base])]
    found = [read(file) for file in every]
    for params, file in zip(found, every, strict=True):
        given.check_task(task, apply_fn, params, arrays, file, named)
    study = {
        "network": apply_fn, "networks": found[: len(files)], "train": (arrays["x"], arrays["y"]),
        "test": test, "task": task, "base": None if command.base is None else found[-1],
        "metadata": {"networks": [str(file) for file in every[: len(files)]],
                     "base": None if command.base is None else str(command.base)},
    }  # fmt: skip
    return " + ".join(file.name for file in files), out, study


def _trained(command: Merge) -> tuple[str, Path, dict[str, Any]]:
    """Networks trained on a data set."""
    given.check_seeds(command.seeds)
    recipe = dense(command, command.hidden, len(command.seeds), not command.no_align)
    made = train(command, recipe, command.seeds, lambda name: out_of(command.out, f"merge-{name}"))
    data = made.data
    study = {
        "network": made.apply, "networks": made.networks,
        "train": (data.x_train, data.y_train), "test": (data.x_test, data.y_test),
        "metadata": made.metadata,
    }  # fmt: skip
    return made.title, made.out, study


__all__ = ["Merge", "run_merge"]
