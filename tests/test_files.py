"""Files are whole or not there."""

from __future__ import annotations

import os

import pytest

from mcjax._files import check_writable, remove_unfinished, write_atomically


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt("No space left")]
)
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, failing, error):
    file = tmp_path / "a.json"
    write_atomically(file, b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(type(error), match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_leaving_at_once_removes_what_is_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: remove_unfinished())
    write_atomically(tmp_path / "a", b"x")
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path):
    check_writable(tmp_path / "new" / "deep", "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for folder in ("/proc/x", tmp_path / "file" / "x"):
        with pytest.raises(ValueError, match="out: nothing can be written into"):
            check_writable(folder, "out")


def test_written_files_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
