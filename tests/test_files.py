"""Checkpoints and data: whole or not there, and never unpickled."""

from __future__ import annotations

import os
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

import mcjax._files
from mcjax import checkpoints
from mcjax.data import load


def params():
    return {"params": {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}}


def test_round_trip(tmp_path):
    tree = {"layers": [{"w": jnp.ones((2, 2), jnp.bfloat16)}, {"w": jnp.zeros(3)}], **params()}
    checkpoints.save(tmp_path / "a.safetensors", tree)
    again = checkpoints.load(tmp_path / "a.safetensors")
    assert isinstance(again["layers"], list)
    assert again["layers"][0]["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(again["params"]["Dense_0"]["kernel"], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"w": [1]}), "pickled checkpoint; mcjax never unpickles"),
        (b"PK\x03\x04torch", "pickled checkpoint"),
        (b"", "no whole safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "no whole safetensors file"),
        (b"\x07" + os.urandom(199), "no whole safetensors file"),
    ],
)
def test_foreign_files(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        checkpoints.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("size", "mark"), [(0x180, b"\x80"), (0x4B50, b"PK")])
def test_a_header_whose_length_begins_like_a_pickle(tmp_path, size, mark):
    # A safetensors file starts with the length of its header, as a little-endian integer.
    tensor = '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    header = ("{" + tensor + "}").ljust(size).encode()
    values = np.array([1.0, 2.0], np.float32)
    content = size.to_bytes(8, "little") + header + values.tobytes()
    assert content.startswith(mark)
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    np.testing.assert_array_equal(checkpoints.load(file)["w"], values)
    file.write_bytes(content[:-4])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        checkpoints.load(file)


def test_cut_off_file(tmp_path):
    file = tmp_path / "a.safetensors"
    checkpoints.save(file, params())
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        checkpoints.load(file)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        checkpoints.load(tmp_path / "none")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, failing):
    file = tmp_path / "a.json"
    mcjax._files.write_atomically(file, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        mcjax._files.write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_written_files_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        mcjax._files.write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


# -- data ----------------------------------------------------------------------------------


def test_digits():
    data = load("digits")
    assert data.x_train.shape == (1437, 8, 8, 1)
    assert data.x_test.shape == (360, 8, 8, 1)
    assert data.x_train.dtype == np.float32
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    assert set(data.y_test) == set(range(10))
    assert data.flat().x_train.shape == (1437, 64)


def test_unknown_data_and_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MCJAX_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="unknown data set 'svhn'; there are digits, mnist"):
        load("svhn")
    with pytest.raises(ValueError, match="holds no TFDS data set 'mnist'"):
        load("mnist", tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_mnist(data_dir, tmp_path, monkeypatch):
    """The original pixels and order; the second start reads the cache alone."""
    monkeypatch.setenv("MCJAX_CACHE_DIR", str(tmp_path))
    data = load("mnist", data_dir)
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.x_train.shape == (60000, 28, 28, 1)
    assert data.x_train.mean() == pytest.approx(0.1307, abs=1e-4)
    again = load("mnist", data_dir)
    np.testing.assert_array_equal(again.x_test, data.x_test)
    # A cache that was cut off is decoded again.
    file = tmp_path / "mnist-test-pixels.npy"
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(load("mnist", data_dir).x_test, data.x_test)
