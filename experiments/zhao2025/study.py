"""What every figure needs: minima found by gradient descent, and how results are written."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from mcjax.study import machine
from mcjax.training import Trainer

from ..common import Run, done, save_figure, write

BLUE, ORANGE, GREEN, PINK, RED, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9",
)  # fmt: skip
GREY = "#666666"
_STYLE: Any = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True, "legend.frameon": False,
}  # fmt: skip


@dataclasses.dataclass
class Options(Run):
    """A figure of zhao2025."""

    seed: int = 0
    """Of data, initialisations and group elements."""


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


@contextlib.contextmanager
def figure(file: Path, width: float, height: float = 3.9, legend: int = 0) -> Iterator[Any]:
    """An empty matplotlib figure in the style of the paper's figures, saved at the end.

    - `legend`: columns of a legend of the whole figure, below it; 0: none
    """
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        if legend:
            found = {
                label: handle
                for axes in drawn.axes
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            drawn.legend(found.values(), found.keys(), loc="outside lower center", ncols=legend)
        save_figure(drawn, file)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table under a line of text; all columns but the first are of numbers."""
    lines = [title, "", f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def finish(
    options: Options, folder: Path, name: str, record: Mapping[str, Any], tables: Sequence[str]
) -> None:
    """The record and the tables beside the figure; the last line says where everything is."""
    text = "\n".join(tables)
    write(folder / f"{name}.json", {"machine": machine(), "seed": options.seed, **record})
    write(folder / f"{name}.md", text)
    print(text)
    done(*(folder / f"{name}.{kind}" for kind in ("json", "md", "png")))


def folder_of(options: Options, name: str) -> Path:
    """Where the results go."""
    return options.results(options.working("zhao2025", name), __file__)
