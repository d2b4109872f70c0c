"""Parameters in files (safetensors, no pickle) and the state of a running training (orbax)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._files import write_atomically
from ._tree import named_leaves
from ._types import Params


class TrainingState:
    """The state after each step of a long run, by orbax; only the last is kept.

    **Arguments:**
    - `directory`: made if it is not there
    - `run`: what the run is of, in JSON's types; another run's checkpoints are refused
    """

    def __init__(self, directory: str | Path, run: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        self.ocp, self.run = ocp, run
        folder = Path(directory).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=1)
        self.manager = ocp.CheckpointManager(folder, options=options)

    def restore(self, state: Any) -> tuple[int, Any]:
        """(steps done, state after them): 0 and the given state if there is none yet.

        **Raises:** `ValueError` if the folder holds another run.
        """
        step = self.manager.latest_step()
        if step is None:
            return 0, state
        leaves, treedef = jax.tree.flatten(state)
        args = self.ocp.args
        restored = self.manager.restore(
            step, args=args.Composite(state=args.StandardRestore(leaves), run=args.JsonRestore())
        )
        if restored["run"] != self.run:
            raise ValueError(
                f"the checkpoints in {self.manager.directory} are of another run: "
                f"{restored['run']}, not {self.run}; choose another folder"
            )
        return step, jax.tree.unflatten(treedef, restored["state"])

    def save(self, step: int, state: Any) -> None:
        """Keep the state after a step, in place of the one before."""
        args = self.ocp.args
        leaves = jax.tree.leaves(state)
        self.manager.save(
            step, args=args.Composite(state=args.StandardSave(leaves), run=args.JsonSave(self.run))
        )
        self.manager.wait_until_finished()  # the next step may reuse the state's memory

    def close(self) -> None:
        """Release the folder."""
        self.manager.close()


def save(path: str | Path, params: Params) -> None:
    """Write a parameter tree as safetensors, leaves named by their paths; atomically.

    >>> import numpy as np, tempfile, os
    >>> from mcjax import checkpoints
    >>> file = os.path.join(tempfile.mkdtemp(), "a.safetensors")
    >>> checkpoints.save(file, {"w": np.ones(2)})
    >>> checkpoints.load(file)["w"].tolist()
    [1.0, 1.0]
    """
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in named_leaves(params)}
    write_atomically(path, to_bytes(arrays))


def load(path: str | Path) -> Params:
    """Read a safetensors file into nested dicts, split at `/` (lists where keys count up).

    **Raises:** `ValueError` for a missing, cut-off or foreign file; a pickle is never opened.
    """
    from safetensors import SafetensorError, deserialize

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    content = path.read_bytes()
    if content[:1] == b"\x80" or content[:2] == b"PK":
        raise ValueError(
            f"{path} is a pickled checkpoint; mcjax never unpickles (it would run code). Save the "
            "parameters as safetensors instead"
        )
    try:
        flat = {
            name: np.frombuffer(v["data"], _dtype(v["dtype"])).reshape(v["shape"])
            for name, v in deserialize(content)
        }
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    if not flat:
        raise ValueError(f"{path} holds no arrays")
    return _nest(flat)


def _dtype(name: str) -> np.dtype:
    """NumPy's dtype for a safetensors one: `F32`, `BF16`, `I64`, `BOOL`, …"""
    if name in ("BF16", "BOOL"):
        return jnp.dtype({"BF16": jnp.bfloat16, "BOOL": jnp.bool_}[name])
    kinds = {"F": "float", "I": "int", "U": "uint", "C": "complex"}
    kind, bits = name.rstrip("0123456789"), name.lstrip("FIUC")
    if kind not in kinds or not bits.isdigit():
        raise ValueError(f"it holds an array of type {name}, which mcjax does not know")
    return np.dtype(kinds[kind] + bits)


def _nest(flat: dict[str, np.ndarray]) -> Any:
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return _lists(tree)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    node = {k: _lists(v) for k, v in node.items()}
    if set(node) == {str(i) for i in range(len(node))}:
        return [node[str(i)] for i in range(len(node))]
    return node
