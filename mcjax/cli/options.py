"""What the subcommands' options share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from . import given


def option(metavar: str, default: str = "", help: str | None = None) -> Any:
    """How an option's value and default read in the help."""
    hint = f"(default: {default})" if default else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, help=help)


def out_of(asked: str | None, name: str) -> Path:
    """The folder asked for by --out, or one in mcjax-runs; it can be written into."""
    default = str(Path("mcjax-runs") / name)
    return given.folder(default if asked is None else asked)


def said(arguments: Sequence[str], html: bool) -> str | None:
    """The command as it was given, for its report as HTML if one is asked for."""
    return shlex.join(["mcjax", *arguments]) if html else None


__all__ = ["option", "out_of", "said"]
