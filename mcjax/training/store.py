"""The state of a running training on disk (orbax): whole, of this run, or refused."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .._files import held, write_atomically
from . import identity

_KEPT = 2  # the last checkpoints, in case the newest cannot be read


class Store:
    """The state after each part of a run: what the run is in `run.json`, two states beside it.

    **Arguments:**
    - `directory`: made if it is not there
    - `run`: what the run is, in JSON's types (`identity`)

    Nothing is written, or looked at, but inside `with store:`.
    """

    def __init__(self, directory: str | Path, run: dict[str, Any]) -> None:
        self.folder = Path(directory).absolute()
        self.run = json.loads(json.dumps(run))

    def __enter__(self) -> Self:
        """Hold the folder, as long as this process lives or until the end of the block.

        **Raises:** `ValueError` if another training holds it, if it cannot be written to, or holds
        another run's states.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = held(self.folder / ".lock")
        except OSError as error:
            raise self._not_writable(error) from None
        if lock is None:
            raise ValueError(
                f"directory: another training is writing in {self.folder}. Wait until it has "
                "ended, or choose another folder"
            )
        self._lock = lock
        try:
            self._open()
        except BaseException:
            lock.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()
        self._lock.close()

    def _open(self) -> None:
        """Say of which run the states are; orbax removes what other processes left half written."""
        record = self.folder / "run.json"
        if self._states():
            found = identity.differences(self._read_run(record), self.run)
            if found:
                raise ValueError(
                    f"directory: the checkpoints in {self.folder} are of another run: "
                    f"{'; '.join(found)}. Choose another folder"
                )
        try:
            write_atomically(record, json.dumps(self.run, indent=1).encode())
        except OSError as error:
            raise self._not_writable(error) from None
        import orbax.checkpoint as ocp  # it takes a second

        self._args = ocp.args
        options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def _not_writable(self, error: OSError) -> ValueError:
        return ValueError(f"directory: cannot write in {self.folder}: {error.strerror or error}")

    def _states(self) -> list[int]:
        """The numbers of the states there are, the newest first."""
        try:
            names = [f.name for f in self.folder.iterdir() if f.is_dir()]
        except OSError:  # no folder yet, or one that cannot be read: writing will say so
            return []
        return sorted((int(n) for n in names if n.isdecimal()), reverse=True)

    def _read_run(self, record: Path) -> Any:
        try:
            return json.loads(record.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"directory: {self.folder} holds checkpoints, but {record.name}, which says of "
                f"which run, cannot be read ({error}). Choose another folder"
            ) from None

    def restore(self, state: Any, parts: int) -> tuple[int, Any, np.ndarray | None]:
        """(parts done, state after them, losses so far): 0 and the given state if none is kept.

        Where the newest state is damaged, the one before it, with a warning.

        **Raises:** `ValueError` if there are states and none can be read, or if more than the
        `parts` of the run have been done.
        """
        failures = []
        for done in self._states():
            if done > parts:
                raise ValueError(
                    f"directory: {self.folder} holds {done} epochs of this training, which cannot "
                    f"go back to {parts}. Choose another folder"
                )
            try:
                found = self._read(done, state)
            except Exception as error:  # orbax and what it stands on raise many kinds
                failures.append(f"{done}: {str(error).splitlines()[0] if str(error) else error!r}")
                continue
            if failures:
                warnings.warn(
                    f"{self.folder} holds a damaged checkpoint ({failures[0]}); going on from "
                    f"the one before it, {done}", stacklevel=4,
                )  # fmt: skip
            return (done, *found)
        if failures:
            raise ValueError(
                f"directory: no checkpoint in {self.folder} can be read ({'; '.join(failures)}). "
                "Choose another folder, or delete this one to start anew"
            )
        return 0, state, None

    def _read(self, done: int, like: Any) -> tuple[Any, np.ndarray]:
        leaves, treedef = jax.tree.flatten(like)
        found = self._manager.restore(
            done,
            args=self._args.Composite(
                state=self._args.StandardRestore([_data(v) for v in leaves]),
                record=self._args.JsonRestore(),
            ),
        )
        record = found["record"]
        losses = np.array(record["losses"], np.float32).reshape(record["shape"])
        if record["digest"] != _digest([*found["state"], losses]):
            raise ValueError("its bytes are not those that were written")
        restored = [_like(v, leaf) for v, leaf in zip(found["state"], leaves, strict=True)]
        return jax.tree.unflatten(treedef, restored), losses

    def save(self, done: int, state: Any, losses: np.ndarray) -> None:
        """Keep the state after so many parts, and the one before."""
        arrays, losses = [_data(v) for v in jax.tree.leaves(state)], np.asarray(losses, np.float32)
        record = {
            "losses": losses.ravel().tolist(), "shape": list(losses.shape),
            "digest": _digest([*arrays, losses]),
        }  # fmt: skip
        for later in self._states():
            if later >= done:  # a damaged one, that this one takes the place of
                self._manager.delete(later)
        self._manager.save(
            done,
            args=self._args.Composite(
                state=self._args.StandardSave(arrays), record=self._args.JsonSave(record)
            ),
            force=True,
        )


def _data(leaf: Any) -> Any:
    """The array of a leaf: of a random key its data."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _like(array: Any, leaf: Any) -> jax.Array:
    """A restored array in the place of a leaf."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    return jnp.asarray(array)


def _digest(arrays: list[Any]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
