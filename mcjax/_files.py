"""Files that are either whole or not there."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import IO

# Temporary files that are being written: whoever ends the process at once removes them.
_unfinished: set[Path] = set()


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that a full disk or a kill leaves the old one (or none), never a part.

    **Raises:** `OSError` naming the file if it cannot be written; nothing is left behind.
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    _unfinished.add(temporary)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(temporary)


def held(path: Path) -> IO[bytes] | None:
    """A file opened and locked until it is closed or the process ends; None if another holds it.

    Where the system or the disk knows no locks, it is only opened.
    """
    file = open(path, "ab")  # noqa: SIM115  (whoever asks closes it)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except (ImportError, OSError):
        pass
    return file


def remove_unfinished() -> None:
    """Remove what is half written, before the process ends without unwinding."""
    for file in list(_unfinished):
        file.unlink(missing_ok=True)


def check_writable(folder: str | Path, name: str) -> None:
    """Raise `ValueError` unless files can be written into a folder, or it can be made."""
    there = Path(folder).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    probe = there / f".{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{name}: nothing can be written into {folder}: {reason}") from None
