"""Data sets."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from mcjax import data as mcjax_data
from mcjax.data import Text, load, load_text


def test_digits():
    data = load("digits")
    assert data.x_train.shape == (1437, 8, 8, 1)
    assert data.x_test.shape == (360, 8, 8, 1)
    assert data.x_train.dtype == np.float32
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    assert set(data.y_test) == set(range(10))
    assert data.flat().x_train.shape == (1437, 64)
    assert repr(data) == "Dataset(digits: 1,437 training and 360 test images of shape 8x8x1)"


def test_unknown_data_and_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MCJAX_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="unknown data set 'svhn'; there are digits, mnist"):
        load("svhn")
    with pytest.raises(ValueError, match="holds no TFDS data set 'mnist'"):
        load("mnist", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_download_without_network_is_refused_within_seconds(tmp_path, monkeypatch):
    """Whether names are not found, connections refused, or nothing answers at all."""
    monkeypatch.setenv("MCJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for name in ("MCJAX_DATA_DIR", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def refused(*_):
        raise ConnectionRefusedError

    done = threading.Event()

    def silent(*_):
        done.wait(60)
        raise TimeoutError

    for answer in (refused, silent):
        monkeypatch.setattr(socket, "create_connection", answer)
        monkeypatch.setattr(mcjax_data._check_network, "__defaults__", (0.2,))
        with pytest.raises(ValueError, match=r"www.cs.toronto.edu cannot be reached.*--data-dir"):
            load("cifar10")
        with pytest.raises(ValueError, match=r"cannot be reached.*MCJAX_DATA_DIR$"):
            load_text("tiny_shakespeare")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    asked = []

    def noted(place, _):
        asked.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", noted)
    with pytest.raises(ValueError, match=r"proxy\.example cannot be reached"):
        load("cifar10")
    assert asked == [("proxy.example", 3128)]
    done.set()


def test_the_newest_version_that_is_prepared(tmp_path):
    for version in ("3.0.2", "3.0.10", "notes"):
        (tmp_path / "mnist" / version).mkdir(parents=True)
        (tmp_path / "mnist" / version / "dataset_info.json").touch()
    assert mcjax_data._prepared("mnist", tmp_path).name == "3.0.10"


def test_windows_of_a_text():
    text = Text("fruit", b"banana and", b"nab", b"z")
    letters = b" abdnz"
    x, y = text.windows("train", 4)
    assert bytes(letters[i] for i in x.ravel()) == b"banana a"
    assert bytes(letters[i] for i in y.ravel()) == b"anana an"
    assert x.shape == y.shape == (2, 4)
    assert x.dtype == np.int32
    assert text.windows("validation", 2)[0].shape == (1, 2)
    with pytest.raises(ValueError, match="part: there are train, validation and test, got 'val'"):
        text.windows("val", 2)
    with pytest.raises(ValueError, match="context: validation has 3 bytes, got 3"):
        text.windows("validation", 3)
    with pytest.raises(ValueError, match="unknown text 'bible'"):
        load_text("bible")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tiny_shakespeare(data_dir):
    text = load_text(data_dir=data_dir)
    assert text.train.startswith(b"First Citizen:")
    assert len(text.vocabulary) == 65


@pytest.mark.slow
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
