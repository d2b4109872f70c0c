"""What is broken, and which tests see it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A part of a file (which stands there once) and what it is replaced by.

    - `file`: in `mcjax/`
    - `tests`: arguments of pytest; files are in `tests/`
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
