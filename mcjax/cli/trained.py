"""Networks that the command trains, by the papers' protocol, kept beside the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from . import given, interrupt, terminal


class Asked(Protocol):
    """What a command is asked of its networks."""

    data: Any
    data_dir: Path | None
    hidden: tuple[int, ...] | None
    epochs: int | None
    quiet: bool


@dataclasses.dataclass(frozen=True)
class Trained:
    """Networks from different seeds and their data.

    - `title`: as a table shows them; `out`: where the results go
    - `apply`: (params, x) → logits; `networks`: their parameters; `data`: images as vectors
    """

    title: str
    out: Path
    apply: Any
    networks: list[Any]
    data: Any
    metadata: dict[str, Any]


def train(
    asked: Asked, seeds: Sequence[int], out_of: Callable[[str], Path], *, matching: bool = False
) -> Trained:
    """Dense networks trained on a data set, resumed from their last epoch.

    - `out_of`: a name after the arguments → the folder of the results
    - `matching`: whether their units will be matched
    """
    from ..data import load
    from ..models import MLP
    from ..training import Protocol, train_networks

    epochs = {"digits": 60, "mnist": 30, "cifar10": 400}[asked.data]
    batch = 32 if asked.data == "digits" else 128
    hidden = asked.hidden or ((512,) if asked.data == "digits" else (2000,))
    protocol = Protocol(epochs=epochs if asked.epochs is None else asked.epochs, batch=batch)
    if protocol.epochs < 1 or min(hidden) < 1:
        raise ValueError("--epochs and --hidden must be at least 1")
    name = f"{asked.data}-{'-'.join(map(str, hidden))}-{protocol.epochs}ep"
    name += f"-seed{'s' * (len(seeds) > 1)}{'-'.join(map(str, seeds))}"
    model = MLP(hidden)
    pixels = {"digits": 8 * 8, "mnist": 28 * 28, "cifar10": 32 * 32 * 3}[asked.data]
    sizes = (pixels, *hidden, 10)
    given.check_memory(sizes, len(seeds), matching)
    out = out_of(name)
    data = load(asked.data, asked.data_dir, quiet=asked.quiet).flat()
    interrupt.say("the same command goes on from the last epoch")
    with terminal.bar(protocol.epochs, "training networks", "epoch", quiet=asked.quiet) as bar:

        def progress(epoch: int, losses: Any) -> None:
            bar.n = epoch + 1
            bar.set_postfix_str(f"loss {losses.mean():.4f}")

        networks = train_networks(
            model.apply, lambda key: model.init(key, data.x_train[:1]),
            (data.x_train, data.y_train), seeds, protocol, directory=out / "checkpoints",
            progress=progress,
        )  # fmt: skip
    metadata = {"data": asked.data, "sizes": sizes, "seeds": tuple(seeds),
                "protocol": protocol.to_dict()}  # fmt: skip
    of = f"seeds {tuple(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}"
    title = f"{asked.data}, {'-'.join(map(str, sizes))}, {of}"
    return Trained(title, out, model.apply, networks, data, metadata)


__all__ = ["Trained", "train"]
