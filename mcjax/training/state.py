"""The state of a running training on disk (orbax)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax


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
