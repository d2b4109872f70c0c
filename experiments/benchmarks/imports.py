"""`import mcjax` and everything it offers, against `import jax`."""

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
[getattr(mcjax, name) for name in mcjax.__all__ if name != "flows"]
end = time.perf_counter()
print(middle - start, end - start)
"""


def measure(repeats: int = 5) -> dict[str, float]:
    """Seconds of `import jax`, and of it with mcjax: the medians of several processes."""
    runs = [
        subprocess.run([sys.executable, "-c", _TIMES], capture_output=True, text=True, check=True)
        for _ in range(repeats)
    ]
    jax, both = zip(*(map(float, r.stdout.split()) for r in runs), strict=True)
    return {"seconds": statistics.median(both), "jax": statistics.median(jax)}


if __name__ == "__main__":
    print(json.dumps(measure()))
