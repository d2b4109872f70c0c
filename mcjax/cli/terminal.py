"""Text on terminals that know few letters, and bars where somebody watches."""

from __future__ import annotations

import codecs
import contextlib
import sys
from typing import Any

# What stands for letters that a terminal lacks; lines of boxes, then their corners and crossings.
_PLAIN = dict(zip("–—−×·éüöä“”‘’•─━═│┃║", "---x.euoa\"\"''*---|||", strict=True))
_PLAIN |= {"→": "->", "…": "...", "≥": ">=", "≤": "<=", "θ": "theta", "‖": "|", "°": " deg"}
_BOX = range(0x2500, 0x2580)


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """Letters that an encoding lacks, as near as ASCII comes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    plain = (_PLAIN.get(c, "+" if ord(c) in _BOX else "?") for c in letters)
    return "".join(plain), error.end


def write_plainly() -> None:
    """Have stdout and stderr write what their encoding lacks in ASCII, where they would raise."""
    codecs.register_error("mcjax-plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # not a text file of its own
            stream.reconfigure(errors="mcjax-plain")  # type: ignore[union-attr]


def bar(total: int, description: str, unit: str, *, quiet: bool = False) -> Any:
    """A progress bar on a terminal; in a file or a pipe, or if quiet, nothing."""
    from tqdm import tqdm

    plain = "utf" not in (getattr(sys.stderr, "encoding", None) or "utf-8").lower()
    return tqdm(
        total=total, desc=description, unit=unit, leave=False, ascii=plain,
        disable=True if quiet else None,
    )  # fmt: skip
