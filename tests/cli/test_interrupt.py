"""Ctrl-C ends the command at once, with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mcjax
from mcjax.cli.command import run

from .own import own


def interrupted(folder, ready, *, twice=False):
    """(status, stderr, seconds) of the command after Ctrl-C as soon as `ready` says so."""
    root = str(Path(mcjax.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "mcjax", "connect", "--epochs", "100000", "--out", "out"],
        cwd=folder, env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not ready(process):
        time.sleep(0.02)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    if twice:
        process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, said, time.monotonic() - start


def has_loaded(library):
    """Whether a process has opened a file of a library: it is in the middle of its imports."""

    def ready(process):
        return library in Path(f"/proc/{process.pid}/maps").read_text()

    return ready


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at a process by /proc")
@pytest.mark.parametrize("moment", ["imports", "training"])
def test_ctrl_c_is_one_line_and_status_130(tmp_path, moment):
    trains = lambda _: any((tmp_path / "out" / "checkpoints").glob("[0-9]*"))
    ready = has_loaded("_multiarray_umath") if moment == "imports" else trains
    status, said, seconds = interrupted(tmp_path, ready, twice=moment == "imports")
    assert status == 130
    remedy = "; the same command goes on from the last epoch" if moment == "training" else ""
    assert said == f"mcjax: interrupted{remedy}\n"
    assert seconds < 10


def test_an_interrupt_in_process_is_status_130(here, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mcjax.study.compare", interrupt)
    assert run(own(here, "--out", "out")) == 130
    assert capsys.readouterr().err == "mcjax: interrupted\n"
