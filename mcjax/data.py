"""Data sets: digits, MNIST and CIFAR-10 (decoded once and cached), and texts, from TFDS."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import socket
import threading
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._files import check_writable, write_atomically

if TYPE_CHECKING:
    import jax

NAMES = ("digits", "mnist", "cifar10")
TEXTS = ("tiny_shakespeare",)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images as float32 in [0, 1] and integer labels.

    - `x_train`, `x_test`: (N, H, W, C); `y_train`, `y_test`: (N,)
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.x_train.shape[1:]))
        counts = f"{len(self.x_train):,} training and {len(self.x_test):,} test images"
        return f"Dataset({self.name}: {counts} of shape {shape})"

    def flat(self) -> Dataset:
        """The same with each image as one vector, for dense networks."""
        return dataclasses.replace(
            self,
            x_train=self.x_train.reshape(len(self.x_train), -1),
            x_test=self.x_test.reshape(len(self.x_test), -1),
        )

    def first(self, examples: int | None) -> Dataset:
        """The same with only the first training images (None: all)."""
        return dataclasses.replace(
            self, x_train=self.x_train[:examples], y_train=self.y_train[:examples]
        )

    def standardised(self, mean: Sequence[float], std: Sequence[float]) -> Dataset:
        """The same with (x − mean) / std for each channel."""
        mean_, std_ = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        return dataclasses.replace(
            self, x_train=(self.x_train - mean_) / std_, x_test=(self.x_test - mean_) / std_
        )


@dataclasses.dataclass(frozen=True)
class Text:
    """A text in bytes, cut into training, validation and test."""

    name: str
    train: bytes
    validation: bytes
    test: bytes

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{len(getattr(self, part)):,} {part}" for part in ("train", "validation", "test")
        )
        return f"Text({self.name}: {counts} bytes, {len(self.vocabulary)} different)"

    @property
    def vocabulary(self) -> np.ndarray:
        """The different bytes of the whole text, in order: a token is an index into it."""
        return np.unique(np.frombuffer(self.train + self.validation + self.test, np.uint8))

    def windows(self, part: str, context: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows side by side: tokens (N, context) int32 and, as labels, those one further.

        **Raises:** `ValueError` for a part that is not there or is no longer than a window.

            >>> from mcjax.data import Text
            >>> Text("abc", b"abcabcab", b"", b"").windows("train", 3)[1].tolist()
            [[1, 2, 0], [1, 2, 0]]
        """
        if part not in ("train", "validation", "test"):
            raise ValueError(f"part: there are train, validation and test, got {part!r}")
        held: bytes = getattr(self, part)
        if not 0 < context < len(held):
            raise ValueError(f"context: {part} has {len(held):,} bytes, got {context}")
        tokens = np.searchsorted(self.vocabulary, np.frombuffer(held, np.uint8)).astype(np.int32)
        count = (len(tokens) - 1) // context
        x, y = (tokens[i : i + count * context].reshape(count, context) for i in (0, 1))
        return x, y


# The mean and standard deviation of ImageNet's channels, which the papers standardise with.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# The mean and standard deviation of CIFAR-10's own channels.
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def crop_and_flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Random crops of images padded by 4 pixels, half of them mirrored (the papers' CIFAR-10).

    **Arguments:**
    - `x`: (N, H, W, C)

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.data import crop_and_flip
        >>> crop_and_flip(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
        (2, 32, 32, 3)
    """
    import jax
    import jax.numpy as jnp

    n, height, width, _ = x.shape
    shifts, mirror = jax.random.split(key)
    down, right = jax.random.randint(shifts, (2, n, 1), 0, 9)
    rows, columns = down + jnp.arange(height), right + jnp.arange(width)
    mirrored = jax.random.bernoulli(mirror, 0.5, (n, 1))
    columns = jnp.where(mirrored, columns[:, ::-1], columns)
    padded = jnp.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
    return padded[jnp.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def crop_flip_and_rotate(key: jax.Array, x: jax.Array) -> jax.Array:
    """`crop_and_flip`, then a rotation by up to 15° about the centre (tatro2020).

    Bilinear interpolation; what comes from outside the image is 0.

    **Arguments:**
    - `x`: (N, H, W, C)

        >>> import jax, jax.numpy as jnp
        >>> from mcjax.data import crop_flip_and_rotate
        >>> crop_flip_and_rotate(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
        (2, 32, 32, 3)
    """
    import jax
    import jax.numpy as jnp

    others, angles = jax.random.split(key)
    limit = jnp.deg2rad(15.0)
    angle = jax.random.uniform(angles, (len(x), 1, 1), minval=-limit, maxval=limit)
    height, width = x.shape[1:3]
    down, right = (jnp.arange(n) - (n - 1) / 2 for n in (height, width))
    rows = jnp.cos(angle) * down[:, None] - jnp.sin(angle) * right + (height - 1) / 2
    columns = jnp.sin(angle) * down[:, None] + jnp.cos(angle) * right + (width - 1) / 2

    def rotate(image, rows, columns):
        def channel(values):
            return jax.scipy.ndimage.map_coordinates(values, (rows, columns), 1, "constant")

        return jax.vmap(channel, -1, -1)(image)

    return jax.vmap(rotate)(crop_and_flip(others, x), rows, columns)


def load(name: str, data_dir: str | Path | None = None, *, quiet: bool = False) -> Dataset:
    """A data set by name.

    **Arguments:**
    - `name`: `"digits"` (1,797 handwritten 8×8 digits, in scikit-learn), `"mnist"`, `"cifar10"`
    - `data_dir`: the TFDS folder; default `MCJAX_DATA_DIR`, else TFDS's own, into which TFDS
      downloads what is not there
    - `quiet`: show no progress of decoding

    Decoded images are cached in `MCJAX_CACHE_DIR` (default `~/.cache/mcjax`).

    **Raises:** `ValueError`, within seconds, for an unknown name, a folder that does not hold the
    data set, a download without a network, or a cache that cannot be written.

        >>> from mcjax.data import load
        >>> load("digits").flat()
        Dataset(digits: 1,437 training and 360 test images of shape 64)
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(NAMES)}")
    if name == "digits":
        return _digits()
    folder = _folder(data_dir)
    (x_train, y_train), (x_test, y_test) = (
        _cached(name, split, folder, quiet) for split in ("train", "test")
    )
    return Dataset(name, _floats(x_train), y_train, _floats(x_test), y_test)


def load_text(name: str = "tiny_shakespeare", data_dir: str | Path | None = None) -> Text:
    """A text by name.

    **Arguments:**
    - `name`: `"tiny_shakespeare"` (a megabyte of Shakespeare's plays)
    - `data_dir`: the TFDS folder, as of `load`

    **Raises:** `ValueError`, within seconds, as `load` does.
    """
    if name not in TEXTS:
        raise ValueError(f"unknown text {name!r}; there are {', '.join(TEXTS)}")
    folder = _folder(data_dir)
    prepared = _prepared(name, folder)
    if prepared is None:
        _check_network(name)
    parts = (_open(name, part, folder, prepared) for part in ("train", "validation", "test"))
    return Text(name, *(source[0]["text"] for source in parts))


def _folder(data_dir: str | Path | None) -> Path | None:
    named = data_dir or os.environ.get("MCJAX_DATA_DIR")
    return None if named is None else Path(named).expanduser()


def _floats(pixels: np.ndarray) -> np.ndarray:
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order, :, :, None] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int32)
    return Dataset("digits", x[:1437], y[:1437], x[1437:], y[1437:])


def cache_folder() -> Path:
    """Where decoded data sets are kept."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mcjax"
    return Path(os.environ.get("MCJAX_CACHE_DIR", default)).expanduser()


def _cached(
    name: str, split: str, folder: Path | None, quiet: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a split, from the cache or decoded into it."""
    files = [cache_folder() / f"{name}-{split}-{kind}.npy" for kind in ("pixels", "labels")]
    if all(f.exists() for f in files):
        try:
            pixels, labels = (np.load(f, allow_pickle=False) for f in files)
            return pixels, labels
        except (ValueError, EOFError):  # cut off or not ours: decode again
            pass
    prepared = _prepared(name, folder)
    check_writable(cache_folder(), "MCJAX_CACHE_DIR")
    if prepared is None:
        _check_network(name)
    pixels, labels = _decode(name, split, folder, prepared, quiet)
    for file, array in zip(files, (pixels, labels), strict=True):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_atomically(file, buffer.getvalue())
    return pixels, labels


def _remedy(name: str) -> str:
    named = "name a TFDS folder that holds it, with data_dir (--data-dir) or MCJAX_DATA_DIR"
    other = ", or use the data set 'digits', which needs no download"
    return named if name in TEXTS else named + other


def _prepared(name: str, folder: Path | None) -> Path | None:
    """The folder of the newest version of a data set that TFDS has prepared; None: not there.

    **Raises:** `ValueError` if it is not in a folder that was named.
    """
    default = os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets")
    place = (Path(default) if folder is None else folder) / name
    found = sorted(place.glob("**/dataset_info.json"), key=_version)
    if found:
        return found[-1].parent
    if folder is not None:
        raise ValueError(f"data_dir: {folder} holds no TFDS data set {name!r}: {_remedy(name)}")
    return None


def _version(file: Path) -> list[int]:
    return [int(part) if part.isdigit() else -1 for part in file.parent.name.split(".")]


# Where TFDS downloads from.
_HOSTS = {
    "mnist": "storage.googleapis.com", "cifar10": "www.cs.toronto.edu",
    "tiny_shakespeare": "raw.githubusercontent.com",
}  # fmt: skip


def _check_network(name: str, seconds: float = 5.0) -> None:
    """Raise unless a connection can be made to where a data set comes from.

    TFDS itself goes on trying for minutes. Names are looked up in a thread, as that cannot be
    given a time.
    """
    proxy = next((os.environ[v] for v in ("https_proxy", "HTTPS_PROXY") if os.environ.get(v)), "")
    parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    host, port = (parts.hostname or _HOSTS[name]), (parts.port if proxy else None) or 443
    reached = threading.Event()

    def reach() -> None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), seconds):
            reached.set()

    thread = threading.Thread(target=reach, daemon=True)
    thread.start()
    thread.join(seconds)
    if not reached.is_set():
        raise ValueError(
            f"data set {name!r} is not on this machine and {host} cannot be reached to download "
            f"it: {_remedy(name)}"
        )


def _open(name: str, split: str, folder: Path | None, prepared: Path | None) -> Any:
    """A split's records, by their number."""
    import tensorflow_datasets as tfds

    try:
        if prepared is None:
            return tfds.data_source(name, data_dir=folder, split=split)
        # Without asking the network for news of it.
        builder: Any = tfds.builder_from_directory(str(prepared))
        return builder.as_data_source(split)
    except Exception as error:  # TFDS raises many kinds, down to plain AssertionError
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"TFDS could not open {name!r}: {line}; {_remedy(name)}") from error


def _decode(
    name: str, split: str, folder: Path | None, prepared: Path | None, quiet: bool
) -> tuple[np.ndarray, np.ndarray]:
    from tqdm import tqdm

    source = _open(name, split, folder, prepared)
    pixels, labels = [], []
    title = f"decoding {name} {split} (once)"
    for i in tqdm(range(len(source)), title, unit=" images", disable=True if quiet else None):
        record = source[i]
        pixels.append(record["image"])
        labels.append(record["label"])
    return np.stack(pixels), np.asarray(labels, np.int32)
