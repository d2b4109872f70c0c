"""The `mcjax` command: Ctrl-C is handled before anything is imported that takes time."""

from __future__ import annotations

import sys

from .interrupt import leave_at_once


def main() -> int:
    """Run the command line of this process, and return its status."""
    leave_at_once()
    from .command import run

    return run(sys.argv[1:])
