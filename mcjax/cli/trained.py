"""Networks that the command trains, by the papers' protocol, kept beside the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..methods.named import trains, with_protocol
from . import given, interrupt, terminal
from .options import Results, Training

if TYPE_CHECKING:
    from ..training import Protocol

_PIXELS = {"digits": 8 * 8, "mnist": 28 * 28, "cifar10": 32 * 32 * 3}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A kind of network and how it is trained.

    - `name`: in the name of a folder; `title`: in a table's
    - `model`: flax module; `flat`: whether it takes images as vectors
    - `described`: what results say of it
    """

    name: str
    title: str
    model: Any
    flat: bool
    protocol: Protocol
    described: dict[str, Any]


def dense(asked: Training, hidden: Sequence[int] | None, networks: int, matching: bool) -> Recipe:
    """Dense networks by anokhin2020's protocol, if there is memory for them.

    - `matching`: whether their units will be matched
    """
    from ..models import MLP
    from ..training import Protocol

    digits = asked.dataset == "digits"
    hidden = tuple(hidden or ((512,) if digits else (2000,)))
    epochs = _epochs(asked, {"digits": 60, "mnist": 30, "cifar10": 400})
    if epochs < 1 or min(hidden) < 1:
        raise ValueError("--epochs and --hidden must be at least 1")
    sizes = (_PIXELS[asked.dataset], *hidden, 10)
    given.check_memory(sizes, networks, matching)
    protocol = Protocol(epochs, batch=32 if digits else 128)
    name, title = ("-".join(map(str, v)) for v in (hidden, sizes))
    return Recipe(name, title, MLP(hidden), True, protocol, {"sizes": sizes})


def convolutional(asked: Training, channels: Sequence[int] | None) -> Recipe:
    """Networks of convolutions of kernel 5 with pooling, and a dense layer."""
    from ..models import Conv2FC1
    from ..training import Protocol

    channels = (8, 16) if channels is None else tuple(channels)
    epochs = _epochs(asked, {"digits": 30, "mnist": 5, "cifar10": 30})
    if epochs < 1 or min(channels, default=0) < 1:
        raise ValueError("--epochs and --channels must be at least 1")
    protocol = Protocol(epochs, 32 if asked.dataset == "digits" else 128, 0.05)
    name = f"cnn-{'-'.join(map(str, channels))}"
    title = f"CNN of {', '.join(map(str, channels))} channels"
    return Recipe(name, title, Conv2FC1(channels), False, protocol, {"channels": channels})


def _epochs(asked: Training, usual: dict[str, int]) -> int:
    return usual[asked.dataset] if asked.epochs is None else asked.epochs


@dataclasses.dataclass(frozen=True)
class Trained:
    """Networks from different seeds and their data.

    - `title`: as a table shows them; `out`: where the results go
    - `apply`: (params, x) → logits; `networks`: their parameters; `data`: as they take it
    - `protocol`: by which they were trained
    """

    title: str
    out: Path
    apply: Any
    networks: list[Any]
    data: Any
    protocol: Protocol
    metadata: dict[str, Any]

    @property
    def study(self) -> dict[str, Any]:
        """What a study of the networks is given."""
        data = self.data
        return {
            "network": self.apply, "networks": self.networks,
            "train": (data.x_train, data.y_train), "test": (data.x_test, data.y_test),
            "metadata": self.metadata,
        }  # fmt: skip


def train(
    asked: Training, recipe: Recipe, seeds: Sequence[int], results: Results, prefix: str = ""
) -> Trained:
    """Networks trained on a data set, resumed from their last epoch.

    - `prefix`: of the folder of the results, whose name says the rest of the arguments
    """
    from ..data import load
    from ..training import train_networks

    model, protocol, many = recipe.model, recipe.protocol, len(seeds) > 1
    name = f"{prefix}{asked.dataset}-{recipe.name}-{protocol.epochs}ep-seed{'s' * many}"
    out = results.folder(name + "-".join(map(str, seeds)))
    data = load(asked.dataset, asked.data_dir, quiet=results.quiet)
    data = data.flat() if recipe.flat else data
    interrupt.say("the same command goes on from the last epoch")
    what = f"training network{'s' * many}"
    with terminal.bar(protocol.epochs, what, "epoch", quiet=results.quiet) as bar:

        def progress(epoch: int, losses: Any) -> None:
            bar.n = epoch + 1
            bar.set_postfix_str(f"loss {losses.mean():.4f}")

        networks = train_networks(
            model.apply, lambda key: model.init(key, data.x_train[:1]),
            (data.x_train, data.y_train), seeds, protocol, directory=out / "checkpoints",
            progress=progress,
        )  # fmt: skip
    metadata = {"data": asked.dataset, **recipe.described, "seeds": tuple(seeds),
                "protocol": protocol.to_dict()}  # fmt: skip
    of = f"seeds {tuple(seeds)}" if many else f"seed {seeds[0]}"
    return Trained(
        f"{asked.dataset}, {recipe.title}, {of}",
        out,
        model.apply,
        networks,
        data,
        protocol,
        metadata,
    )


def fitting(methods: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """Methods of which none trains with a batch larger than the data."""
    return {
        name: with_protocol(m, dataclasses.replace(m.protocol, batch=examples))
        if trains(m) and m.protocol.batch > examples
        else m
        for name, m in methods.items()
    }


__all__ = ["Recipe", "Trained", "convolutional", "dense", "fitting", "train"]
