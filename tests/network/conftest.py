"""The tracer's tests run on all models of the catalogue, near twins too."""

from __future__ import annotations

import pytest

from mcjax.testing.models.catalogue import MODELS

from ..conftest import traced


@pytest.fixture(params=list(MODELS))
def model(request):
    return traced(request.param)
