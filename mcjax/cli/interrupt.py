"""Ctrl-C ends the command at once, with one line, whatever it is doing.

An exception would not do: it comes late inside XLA, is lost in callbacks and destructors, and
leaves threads behind that are waited for. What is being written is whole or not there in any case
(`mcjax/_files.py`), and training goes on from its last epoch. Nothing is imported here that takes
time: this is in place before JAX is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

STATUS = 130
# What the line adds once there is something to go on from.
_remedy = ""


def say(remedy: str) -> None:
    """What the line should add from now on."""
    global _remedy
    _remedy = remedy


def line() -> str:
    """What is said on the way out."""
    return "mcjax: interrupted" + (f"; {_remedy}" if _remedy else "")


def leave(*_: object) -> None:
    """Say so, remove what is half written, end the process."""
    clear = "\r\x1b[K" if sys.stderr is not None and sys.stderr.isatty() else ""
    os.write(2, f"{clear}{line()}\n".encode())
    files = sys.modules.get("mcjax._files")
    if files is not None and hasattr(files, "remove_unfinished"):
        files.remove_unfinished()
    os._exit(STATUS)


def leave_at_once() -> None:
    """Leave on Ctrl-C from now on, even while the main thread is inside compiled code.

    A thread waits for the signal's number, which Python's own handler writes into a pipe at once;
    the handler in Python's code is there in case the thread is late. A process that is told to
    ignore the signal, as in the background of a script, goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    here, there = os.pipe()
    os.set_blocking(there, False)
    signal.set_wakeup_fd(there, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _wait_for_the_thread)

    def watch() -> None:
        while True:
            if signal.SIGINT in os.read(here, 1):
                leave()

    threading.Thread(target=watch, name="mcjax-interrupt", daemon=True).start()


def _wait_for_the_thread(*_: object) -> None:
    """The thread leaves; do so here if it has not after a while."""
    threading.Event().wait(1.0)
    leave()
