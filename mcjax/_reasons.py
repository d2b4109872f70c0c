"""Why something failed, in a line."""

from __future__ import annotations

import os
import traceback


def reason(error: Exception) -> str:
    """What an error says, in one line; of one that nobody foresaw its kind, too.

    With MCJAX_TRACEBACK in the environment, where it comes from is printed besides.

        >>> reason(ValueError("two\\n lines")), reason(KeyError("w"))[:13]
        ('two lines', "KeyError: 'w'")
    """
    if os.environ.get("MCJAX_TRACEBACK"):
        traceback.print_exception(error)
    line, kind = " ".join(str(error).split()), type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in line:
        return f"out of memory; choose a smaller size ({line or 'MemoryError'})"
    if isinstance(error, ValueError | OSError):
        return line or kind
    return f"{kind}: {line} (set MCJAX_TRACEBACK=1 to see where it comes from)"


__all__ = ["reason"]
