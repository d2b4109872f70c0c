"""`import mcjax`, alone and with everything it offers, against `import jax`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

_TIMES = """
import time
start = time.perf_counter()
import jax
middle = time.perf_counter()
import mcjax
alone = time.perf_counter()
[getattr(mcjax, name) for name in mcjax.__all__ if name != "flows"]
end = time.perf_counter()
print(middle - start, alone - start, end - start)
"""


def measure(repeats: int = 5) -> dict[str, float]:
    """Seconds of `import jax`, of it with mcjax, and with all of mcjax: medians over processes."""
    runs = [
        subprocess.run([sys.executable, "-c", _TIMES], capture_output=True, text=True, check=True)
        for _ in range(repeats)
    ]
    times = zip(*(map(float, r.stdout.split()) for r in runs), strict=True)
    return dict(zip(("jax", "alone", "seconds"), map(statistics.median, times), strict=True))


if __name__ == "__main__":
    print(json.dumps(measure()))
