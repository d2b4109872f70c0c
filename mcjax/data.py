"""Data sets: scikit-learn's digits, MNIST and CIFAR-10 from TFDS, decoded once and cached."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._files import write_atomically

if TYPE_CHECKING:
    import jax

NAMES = ("digits", "mnist", "cifar10")


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


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """A data set by name.

    **Arguments:**
    - `name`: `"digits"` (1,797 handwritten 8×8 digits, in scikit-learn), `"mnist"`, `"cifar10"`
    - `data_dir`: the TFDS folder; default `MCJAX_DATA_DIR`, else TFDS's own

    Decoded images are cached in `MCJAX_CACHE_DIR` (default `~/.cache/mcjax`).

    **Raises:** `ValueError` for an unknown name or a folder that does not hold the data set.

        >>> from mcjax.data import load
        >>> load("digits").flat().x_train.shape
        (1437, 64)
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(NAMES)}")
    if name == "digits":
        return _digits()
    folder = data_dir or os.environ.get("MCJAX_DATA_DIR")
    arrays = {s: _cached(name, s, None if folder is None else Path(folder))
              for s in ("train", "test")}  # fmt: skip
    (x_train, y_train), (x_test, y_test) = arrays["train"], arrays["test"]
    return Dataset(name, _floats(x_train), y_train, _floats(x_test), y_test)


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
    return Path(os.environ.get("MCJAX_CACHE_DIR", default))


def _cached(name: str, split: str, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a split, from the cache or decoded into it."""
    files = [cache_folder() / f"{name}-{split}-{kind}.npy" for kind in ("pixels", "labels")]
    if all(f.exists() for f in files):
        try:
            pixels, labels = (np.load(f, allow_pickle=False) for f in files)
            return pixels, labels
        except ValueError:  # cut off or not ours: decode again
            pass
    pixels, labels = _decode(name, split, folder)
    for file, array in zip(files, (pixels, labels), strict=True):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_atomically(file, buffer.getvalue())
    return pixels, labels


def _decode(name: str, split: str, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    if folder is not None and not (folder / name).is_dir():
        raise ValueError(
            f"data_dir: {folder} holds no TFDS data set {name!r} (there is no folder "
            f"{folder / name}); name a TFDS folder, or leave it out to let TFDS download"
        )
    import tensorflow_datasets as tfds
    from tqdm import tqdm

    try:
        source: Any = tfds.data_source(name, data_dir=folder, split=split)
    except Exception as error:  # TFDS raises many kinds, down to plain AssertionError
        raise ValueError(
            f"TFDS could not open {name!r}: {error}. Name a folder that holds it with data_dir "
            "or MCJAX_DATA_DIR"
        ) from error
    pixels, labels = [], []
    for i in tqdm(range(len(source)), desc=f"decoding {name} {split} (once)", unit=" images"):
        record = source[i]
        pixels.append(record["image"])
        labels.append(record["label"])
    return np.stack(pixels), np.asarray(labels, np.int32)
