"""Shared fixtures; simulated devices are only in the subprocesses that ask for them."""

from __future__ import annotations

import os

import pytest

from .catalogue import MODELS

_cases: dict = {}


@pytest.fixture(params=list(MODELS))
def model(request):
    """(case, network) of every model of the catalogue, traced once per process."""
    import mcjax

    name = request.param
    if name not in _cases:
        case = MODELS[name]()
        _cases[name] = case, mcjax.trace(case.apply_fn, case.params, case.x)
    return _cases[name]


@pytest.fixture
def data_dir():
    """The TFDS folder; a test that needs MNIST or CIFAR-10 is skipped without one."""
    folder = os.environ.get("MCJAX_DATA_DIR")
    if not folder:
        pytest.skip("MCJAX_DATA_DIR names no TFDS folder with MNIST")
    return folder
