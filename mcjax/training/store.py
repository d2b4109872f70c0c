"""The state of a running training on disk: whole, of this run, or refused."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._files import write_atomically
from . import identity

_KEPT = 2  # the last checkpoints, in case the newest cannot be read


class Store:
    """The state after each part of a run: what the run is in `run.json`, two states beside it.

    **Arguments:**
    - `directory`: made if it is not there
    - `run`: what the run is, in JSON's types (`identity`)

    **Raises:** `ValueError` if the folder cannot be written to, or holds another run's states.
    """

    def __init__(self, directory: str | Path, run: dict[str, Any]) -> None:
        self.folder = Path(directory).absolute()
        record = self.folder / "run.json"
        run = json.loads(json.dumps(run))
        if self._states():
            found = identity.differences(self._read_run(record), run)
            if found:
                raise ValueError(
                    f"directory: the checkpoints in {self.folder} are of another run: "
                    f"{'; '.join(found)}. Choose another folder"
                )
        try:
            write_atomically(record, json.dumps(run, indent=1).encode())
        except OSError as error:
            raise ValueError(
                f"directory: cannot write in {self.folder}: {error.strerror or error}"
            ) from None

    def _states(self) -> list[Path]:
        """The states there are, the newest first."""
        try:
            return sorted(self.folder.glob("state-*.safetensors"), reverse=True)
        except OSError:  # the folder cannot be read: writing will say so
            return []

    def _read_run(self, record: Path) -> Any:
        try:
            return json.loads(record.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"directory: {self.folder} holds checkpoints, but {record.name}, which says of "
                f"which run, cannot be read ({error}). Choose another folder"
            ) from None

    def restore(self, state: Any) -> tuple[int, Any, np.ndarray | None]:
        """(parts done, state after them, losses so far): 0 and the given state if none is kept.

        Where the newest state is damaged, the one before it, with a warning.

        **Raises:** `ValueError` if there are states and none can be read.
        """
        failures = []
        for file in self._states():
            try:
                found = _read(file, state)
            except (OSError, ValueError) as error:
                failures.append(f"{file.name}: {error}")
                continue
            if failures:
                warnings.warn(
                    f"{self.folder} holds a damaged checkpoint ({failures[0]}); going on from "
                    f"the one before it, {file.name}", stacklevel=4,
                )  # fmt: skip
            return found
        if failures:
            raise ValueError(
                f"directory: no checkpoint in {self.folder} can be read ({'; '.join(failures)}). "
                "Choose another folder, or delete this one to start anew"
            )
        return 0, state, None

    def save(self, done: int, state: Any, losses: np.ndarray) -> None:
        """Keep the state after so many parts, and the one before."""
        write_atomically(self.folder / f"state-{done:09d}.safetensors", _bytes(done, state, losses))
        for old in (*self._states()[_KEPT:], *self.folder.glob(".state-*")):
            old.unlink(missing_ok=True)  # (a kill while writing leaves a part, which is no state)


def _bytes(done: int, state: Any, losses: np.ndarray) -> bytes:
    from safetensors.numpy import save

    tensors = {str(i): _raw(v) for i, v in enumerate(jax.tree.leaves(state))}
    tensors["losses"] = np.asarray(losses)
    return save(tensors, {"done": str(done), "digest": _digest(tensors)})


def _read(file: Path, like: Any) -> tuple[int, Any, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            record = opened.metadata() or {}
            tensors = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"it is cut off or no checkpoint: {error}") from None
    leaves, treedef = jax.tree.flatten(like)
    if set(tensors) != {*map(str, range(len(leaves))), "losses"}:
        raise ValueError("it holds other arrays than this run's state")
    if record.get("digest") != _digest(tensors):
        raise ValueError("its bytes are not those that were written")
    restored = [_like(tensors[str(i)], v) for i, v in enumerate(leaves)]
    return int(record["done"]), jax.tree.unflatten(treedef, restored), tensors["losses"]


def _digest(tensors: dict[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(np.ascontiguousarray(tensors[name]).view(np.uint8).data)
    return found.hexdigest()


def _raw(leaf: Any) -> np.ndarray:
    """The bytes of a leaf: every dtype that JAX has, random keys by their data."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.frombuffer(np.ascontiguousarray(leaf).tobytes(), np.uint8)


def _like(raw: np.ndarray, leaf: Any) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _like(raw, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if raw.size != leaf.nbytes:
        raise ValueError("it holds other arrays than this run's state")
    return jnp.array(np.frombuffer(raw.tobytes(), leaf.dtype).reshape(leaf.shape))
