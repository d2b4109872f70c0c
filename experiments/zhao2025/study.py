"""What every figure needs: minima found by gradient descent, and where results go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mcjax.training import Trainer

from ..figures import Seeded


@dataclasses.dataclass
class Options(Seeded):
    """A figure of zhao2025."""


def descend(
    objective: Callable[[Any, Any], jax.Array], start: Any, steps: int, rate: float,
    given: Any = None,
) -> tuple[Any, np.ndarray]:  # fmt: skip
    """(parameters, losses) of minima found from many starts side by side.

    Adam on all data at once, its rate falling along half a cosine.

    **Arguments:**
    - `objective`: (parameters of one network, `given`) → loss
    - `start`: parameters with an axis of starts first; integers stay as they are
    """
    schedule = optax.cosine_decay_schedule(rate, steps)
    trainer = Trainer(
        lambda params, batch, key, given: objective(params, given), optax.adam(schedule),
        several=True,
    )  # fmt: skip
    starts = len(jax.tree.leaves(start)[0])
    block = jnp.zeros((steps, starts))
    state, _ = trainer.advance(trainer.init(start), block, steps, given)
    losses = jax.jit(jax.vmap(objective, (0, None)))(state.trained, given)
    return state.trained, np.asarray(losses)


def folder_of(options: Options, name: str) -> Path:
    """Where the results go."""
    return options.results(options.working("zhao2025", name), __file__)
