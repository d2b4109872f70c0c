"""The networks that are merged: from different seeds, and fine-tuned from one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

import mcjax
from mcjax.data import Dataset, load
from mcjax.models import MLP
from mcjax.tasks import CLASSIFICATION
from mcjax.training import Protocol

from ..common import Run, digits, trained
from ..symmetry.endpoints import AdamW, Problem
from ..symmetry.models import ViT
from ..symmetry.rows import Pair, learned_full_from_activations

Data = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass
class Options(Run):
    """What every run takes."""

    data: Literal["digits", "mnist", "vit"] = "digits"
    """What is merged: an MLP of digits, one of MNIST, a small ViT of digits."""
    data_dir: Path | None = None
    """TFDS folder."""
    sets: int | None = None
    """How many sets of networks are merged (default: 5 of digits, 3 of MNIST and of ViTs)."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A model, its data and how its networks come about.

    - `sets`: how many sets of networks, each from seeds of its own
    - `protocol`: of networks from different seeds; `base`: of the common ancestor, on all classes;
      `tuning`: of what is fine-tuned from it, each on classes of its own
    - `splits`: these classes; there are as many networks in a set
    - `seen`: training examples that merging looks at, the first of them
    - `learning`: how elements of the whole group are learned; None: permutations are enough
    """

    name: str
    model: Any
    train: Data
    test: Data
    sets: int
    protocol: Protocol
    base: Protocol
    tuning: Protocol
    splits: tuple[tuple[int, ...], ...]
    seen: int
    learning: Protocol | None = None

    @property
    def described(self) -> dict[str, Any]:
        return {
            "model": repr(self.model), "train": len(self.train[0]), "test": len(self.test[0]),
            "splits": self.splits, "seen": min(self.seen, len(self.train[0])), "protocols": {
                n: getattr(self, n).to_dict() | {"optimiser": type(getattr(self, n)).__name__}
                for n in ("protocol", "base", "tuning", "learning") if getattr(self, n)
            },
        }  # fmt: skip


# Images that two cores have the time for, which others use too.
MNIST_TESTED = 5000
SPLITS = ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))


def setting(options: Options) -> Setting:
    """Data, model and protocols of a run."""
    learning = None
    if options.small or options.data == "digits":
        data = digits(options.smoke).flat()
        epochs = (2, 1, 1) if options.smoke else (30, 3, 10)
        protocols = [Protocol(e, 32) for e in epochs]
        name, model = "digits", MLP((8 if options.smoke else 512,))
    elif options.data == "mnist":
        data = tested(load("mnist", options.data_dir).flat(), MNIST_TESTED)
        protocols = [Protocol(e, 128, 0.05) for e in (5, 1, 2)]
        name, model = "mnist", MLP((512, 512))
    else:
        data = digits(False)
        protocols = [AdamW(e, 32, 2e-3) for e in (20, 6, 5)]
        name, model = "vit", ViT(2, width=32)
        learning = AdamW(20, 32, 4e-3, weight_decay=0.0)
    whole, base, tuning = protocols
    sets = options.sets or {"digits": 2 if options.small else 5, "mnist": 3, "vit": 3}[name]
    return Setting(
        name, model, (data.x_train, data.y_train), (data.x_test, data.y_test), sets, whole, base,
        tuning, SPLITS, 2000, learning,
    )  # fmt: skip


def tested(data: Dataset, examples: int) -> Dataset:
    """The data with only the first test examples."""
    few = data.x_test[:examples], data.y_test[:examples]
    return dataclasses.replace(data, x_test=few[0], y_test=few[1])


def from_seeds(of: Setting, number: int, work: Path) -> list[Any]:
    """A set of networks from different seeds."""
    n = len(of.splits)
    seeds = range(n * number, n * (number + 1))
    return trained(
        of.model, of.train, seeds, of.protocol, directory=work / f"{of.name}-seeds-{number}",
        label=f"{of.name}, networks of set {number}",
    )  # fmt: skip


def learned(
    network: mcjax.Network, networks: Sequence[Any], of: Setting, number: int, work: Path
) -> tuple[mcjax.Network, list[Any]]:
    """Networks of set `number`, their normalisations without scales and biases, each brought to the
    mean of those before it by elements of the whole group that were learned for it; and the
    network that takes such parameters."""
    assert of.learning is not None
    problem = Problem(of.name, of.model, of.train, of.test, CLASSIFICATION, of.protocol)
    first, forms = network.absorbed(networks[0])[0], [network.absorbed(p)[1] for p in networks]
    found = forms[:1]
    for k, b in enumerate(forms[1:], 1):
        mean = jax.tree.map(lambda *v: sum(v) / len(v), *found)
        folder, key = work / f"{of.name}-joined-{number}-{k}", jax.random.key(0)
        pair = Pair(problem, first, mean, b, of.learning, of.learning, folder, key)
        found.append(learned_full_from_activations(pair)[0](1.0))
    return first, found


def from_base(of: Setting, number: int, work: Path) -> tuple[Any, list[Any]]:
    """(A network trained on all classes for a little, what is fine-tuned from it)."""
    (base,) = trained(
        of.model, of.train, [number], of.base, directory=work / f"{of.name}-base-{number}",
        label=f"{of.name}, base of set {number}",
    )  # fmt: skip
    found = []
    for k, classes in enumerate(of.splits):
        found += mcjax.training.train_networks(
            of.model.apply, lambda _: base, some(of.train, classes), [100 * number + k], of.tuning,
            task=CLASSIFICATION, directory=work / f"{of.name}-tuned-{number}-{k}",
        )  # fmt: skip
    return base, found


def some(data: Data, classes: Sequence[int]) -> Data:
    """The examples of some classes."""
    rows = np.flatnonzero(np.isin(data[1], classes))
    return data[0][rows], data[1][rows]
