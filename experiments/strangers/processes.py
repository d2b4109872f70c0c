"""A process for every model: a peak of memory of its own, and who dies dies alone.

They are forked from one that has imported the packages already, and computed nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import traceback
from typing import Any

from .row import Row

# By the clock, in times of what it may compute for: a machine does other work too.
WAITED = 10
IMPORTED = ["experiments.strangers.measure", "experiments.strangers.frameworks"]


class Processes:
    def __init__(self) -> None:
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # models compile in half the time
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(IMPORTED)

    def measure(self, row: Row) -> dict[str, Any]:
        """The record of a model; if its process dies or takes too long that is the record."""
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(target=send, args=(row.key, sender))
        process.start()
        sender.close()  # so that its end is seen
        try:
            if receiver.poll(WAITED * row.seconds):
                return receiver.recv()
            return {"failures": [f"not done after {WAITED * row.seconds:.0f} s"]}
        except EOFError:
            process.join()
            if process.exitcode == -signal.SIGXCPU:
                return {"failures": [f"not done after {row.seconds:.0f} s of CPU time"]}
            return {"failures": [f"its process ended with {process.exitcode}"]}
        finally:
            process.kill()
            process.join()


def send(key: str, sender: Any) -> None:
    """Measure a model and send the record; what fails is part of it."""
    from .measure import measure
    from .table import rows

    (row,) = (r for r in rows(framework=key.split(": ")[0]) if r.key == key)
    resource.setrlimit(resource.RLIMIT_CPU, (int(row.seconds), int(row.seconds) + 10))
    try:
        record = measure(row)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        record = {"failures": [f"{type(error).__name__}: {lines[0][:300]}"]}
        traceback.print_exc(limit=-3)  # of this machine's paths, which results are without
    sender.send(record)
