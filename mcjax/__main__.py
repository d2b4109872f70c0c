"""The command, `mcjax` or `python -m mcjax`: Ctrl-C is handled before anything is imported."""

from __future__ import annotations

import sys

from ._interrupt import leave_at_once


def main() -> int:
    """Run the command line."""
    leave_at_once()
    from . import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
