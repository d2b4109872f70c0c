"""What the subcommands' options share: options of their own networks, of trained ones, of results.

An option that has a meaning only beside others is None unless it was given.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from .. import _check
from ..tasks import TASKS
from . import given

DATA = ("digits", "mnist", "cifar10")


def option(metavar: str, default: str = "", help: str | None = None) -> Any:
    """How an option's value and default read in the help."""
    hint = f"(default: {default})" if default else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, help=help)


Model = Annotated[str | None, option("MODULE:FUNCTION")]


@dataclasses.dataclass
class Own:
    """Of networks of your own: with files of parameters."""

    model: Model = None
    """Your model as package.module:apply_fn, a pure function (params, x) -> logits."""
    torch: Model = None
    """Your PyTorch model as package.module:build, a function that returns the torch.nn.Module."""
    inputs: Annotated[Path | None, option("FILE.npz")] = None
    """Your data: arrays x and y, and x_test and y_test if you have them."""


@dataclasses.dataclass
class Scored(Own):
    """Of networks of your own: with files of parameters."""

    task: Annotated[str | None, option("|".join(TASKS), "classification")] = None
    """What the outputs of your own model are for."""

    @property
    def scored(self) -> Any:
        """The task.

        **Raises:** `ValueError` for a name of none.
        """
        name = self.task or "classification"
        _check.one_of(name, tuple(TASKS), "--task")
        return TASKS[name]


@dataclasses.dataclass
class Training:
    """Of networks that are trained: without files."""

    data: Annotated[str | None, option("|".join(DATA), "digits")] = None
    """Data set to train on."""
    data_dir: Annotated[Path | None, option("FOLDER", "MCJAX_DATA_DIR, else TFDS's own")] = None
    """TFDS folder, of MNIST and CIFAR-10."""
    epochs: Annotated[int | None, option("N")] = None
    """Epochs of training."""

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.data or "digits"


@dataclasses.dataclass
class DenseTraining(Training):
    """Of networks that are trained: without files."""

    epochs: Annotated[int | None, option("N", "digits 60; the papers': mnist 30, cifar10 400")] = (
        None
    )
    """Epochs of training."""
    hidden: Annotated[
        tuple[int, ...] | None, option("WIDTH …", "512 for digits, else the papers' 2000")
    ] = None
    """Widths of the hidden layers."""
    seeds: Annotated[tuple[int, ...] | None, option("SEED …", "0 1")] = None
    """Seeds of the networks, two or more."""

    def seeds_or(self, *usual: int) -> tuple[int, ...]:
        """The seeds asked for; where none are, the usual ones."""
        return usual if self.seeds is None else self.seeds


@dataclasses.dataclass
class Results:
    """What is shown and written, and where."""

    out: Annotated[str | None, option("FOLDER", "in mcjax-runs, named after the arguments")] = None
    """Folder of the results. One that has results already keeps them: these go to run-2 in it."""
    html: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write report.html too: all of it in one file, to look at in a browser."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show no progress and no table, only where the results are."""

    def folder(self, name: str) -> Path:
        """The folder asked for, or one in mcjax-runs; it can be written into."""
        default = str(Path("mcjax-runs") / name)
        return given.folder(default if self.out is None else self.out)

    def said(self, arguments: Sequence[str]) -> str | None:
        """The command as it was given, for its report as HTML if one is asked for."""
        return shlex.join(["mcjax", *arguments]) if self.html else None


def check_sources(files: Any, own: Own, training: Training, what: str) -> None:
    """Raise for options that mean nothing: of training beside files, or of files without any.

    - `files`: of parameters, or nothing; `what`: these are, in words
    """
    if files:
        _refuse(training, "trained networks: of files of parameters none is trained")
        return
    _refuse(own, what)
    _check.one_of(training.dataset, DATA, "--data")
    if training.data_dir is not None and training.dataset == "digits":
        raise ValueError("--data-dir goes with --data mnist and cifar10: it holds no digits")


def _refuse(options: Any, why: str) -> None:
    """Raise if one of these options was given, which is to say is not None."""
    names = [f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(options)
             if getattr(options, f.name) is not None]  # fmt: skip
    if names:
        listed = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
        raise ValueError(f"{listed} {'go' if len(names) > 1 else 'goes'} with {why}")


__all__ = [
    "DenseTraining", "Model", "Own", "Results", "Scored", "Training", "check_sources", "option",
]  # fmt: skip
