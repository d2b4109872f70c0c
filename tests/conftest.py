"""Shared fixtures; simulated devices are only in the subprocesses that ask for them."""

from __future__ import annotations

import gc
import os
import threading
import time
from importlib.metadata import version

# More than half of the tests' time would be XLA's compiler. Before JAX is imported, and for
# subprocesses too; `.ci/run` leaves the optimisations on for some.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if version("jaxlib").startswith("0.10."):  # XLA stops at a flag it does not know
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )

import pytest

from mcjax.testing.models.catalogue import MODELS, NEAR_TWINS

from .costly import COSTLY

_cases: dict = {}


def share_contexts(lowerings=500):
    """MLIR's contexts used for many lowerings, a thread its own: JAX makes one for each, which
    takes longer than to lower a small program, and a tenth of the tests' time.

    They keep the constants of what was lowered, so they are made anew now and then.
    """
    from jax._src.interpreters import mlir

    make, of_thread = getattr(mlir, "make_ir_context", None), threading.local()
    if make is None:  # another JAX
        return

    def shared():
        left = getattr(of_thread, "left", 0)
        if not left:
            of_thread.context, left = make(), lowerings
        of_thread.left = left - 1
        return of_thread.context

    mlir.make_ir_context = shared


share_contexts()


def traced(name):
    """(case, network) of a model of the catalogue, traced once per process."""
    import mcjax

    if name not in _cases:
        case = MODELS[name]()
        _cases[name] = case, mcjax.trace(case.apply_fn, case.params, case.x)
    return _cases[name]


def alive(references, bound):
    """How many of the objects still live. A collection that another thread has begun (and that
    lets go of the interpreter for a moment) makes ours return at once: it is asked for again."""
    for _ in range(50):
        gc.collect()
        living = sum(r() is not None for r in references)
        if living <= bound:
            break
        time.sleep(0.1)
    return living


# Together they hold every primitive and every kind of group of the models that are no near twins
# (tests/network/test_catalogue.py). Contracts of what computes with groups that were found, and
# would compile for every model anew, run on these; on the others in slow runs.
COVERING = (
    "mlp", "vgg-bn", "grouped-convolution", "transformer", "scan", "lstm", "experts",
    "remat-tied-embedding", "unet-groupnorm",
)  # fmt: skip


def models(quick):
    """Parameters of `model`: those not among `quick` are tried in slow runs only."""
    return [pytest.param(m, marks=() if m in quick else pytest.mark.slow) for m in MODELS]


PLAIN = models([m for m in MODELS if m not in NEAR_TWINS])


@pytest.hookimpl(tryfirst=True)  # before what is not asked for is left out
def pytest_collection_modifyitems(items):
    costly = {f"tests/{file}::{test}" for file, tests in COSTLY.items() for test in tests}
    for item in items:
        if item.nodeid in costly:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Garbage collections pass over all that was imported and collected: 5 % of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=PLAIN)
def model(request):
    """Every model of the catalogue; tests/network has the near twins in quick runs too."""
    return traced(request.param)


@pytest.fixture
def data_dir():
    """The TFDS folder; a test that needs MNIST or CIFAR-10 is skipped without one."""
    folder = os.environ.get("MCJAX_DATA_DIR")
    if not folder:
        pytest.skip("MCJAX_DATA_DIR names no TFDS folder with MNIST")
    return folder
