"""Imports the packages of all frameworks that are installed."""

import contextlib
import importlib
import os

from .table import PLACES

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for _, needs in PLACES.values():
    for package in needs:
        if package == "torchax":  # beside this torch mcjax alone can import it
            continue
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
