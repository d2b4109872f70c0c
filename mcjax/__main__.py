"""`python -m mcjax`, and what the script `mcjax` calls."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
