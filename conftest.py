"""Examples that need packages which are no dependencies are collected where these are installed."""

import os
from importlib.util import find_spec

os.environ.setdefault("KERAS_BACKEND", "jax")
NEEDS = {"torch": "torchax", "keras": "keras"}
collect_ignore = [f"mcjax/interop/{m}.py" for m, p in NEEDS.items() if not find_spec(p)]
