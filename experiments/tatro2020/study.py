"""What every table and figure needs: end points, alignments, trained curves, their evaluation.

Whatever takes time is written to a folder as soon as it is there, so that an interrupted study
goes on where it stopped and tables and figures share their networks and curves.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

import mcjax
from mcjax.align import Matching, match_activations
from mcjax.attacks import PGD
from mcjax.data import CIFAR10, Dataset, crop_flip_and_rotate, load
from mcjax.evaluation import batch_norm_along
from mcjax.methods import Pam, Problem
from mcjax.models import MLP, GoogLeNet, ResNet32, TinyTen
from mcjax.path import Bezier
from mcjax.study import machine
from mcjax.training import Protocol, tatro2020, train_curve

from ..common import Run, digits, done, trained, write
from .paper import KINDS

# Curve class → (statistic, tap) of the alignment it starts from, and whether PAM follows.
ALIGNMENTS: dict[str, tuple[tuple[str, str] | None, bool]] = {
    "unaligned": (None, False),
    "pam-unaligned": (None, True),
    "pam-aligned": (("correlation", "post"), True),
    "aligned": (("correlation", "post"), False),
    "aligned-pre": (("correlation", "pre"), False),
    "aligned-l2": (("l2", "post"), False),
    "aligned-l2-pre": (("l2", "pre"), False),
}
LABELS = {
    "unaligned": "Unaligned (Garipov)",
    "pam-unaligned": "PAM unaligned",
    "pam-aligned": "PAM aligned",
    "aligned": "Aligned",
    "aligned-pre": "Correlation, pre-activations",
    "aligned-l2": "L2, post-activations",
    "aligned-l2-pre": "L2, pre-activations",
}


@dataclasses.dataclass
class Options(Run):
    """End points and curves of tatro2020."""

    model: Literal["tiny-ten", "resnet32", "googlenet", "mlp"] = "tiny-ten"
    """Network; mlp is 784-512-512-512-10 for MNIST, beyond the paper."""
    data: Literal["cifar10", "mnist"] = "cifar10"
    """Data set."""
    kinds: tuple[str, ...] = KINDS
    """Curve classes of the tables."""
    pairs: int = 3
    """Disjoint pairs of networks."""
    epochs: int = 250
    """Epochs of the end points."""
    curve_epochs: int = 250
    """Epochs of a curve."""
    permutation_epochs: int = 20
    """Epochs of PAM's permutation step."""
    permutation_rate: float | None = None
    """Learning rate of PAM's permutation step (default, the paper's: half the curves')."""
    learning_rate: float = 0.1
    """Of the end points."""
    curve_rate: float = 0.01
    """Of the curves."""
    halvings: float = 12.5
    """Halvings of the learning rate over a training (the paper's: every 20 of 250 epochs)."""
    points: int = 61
    """Points of a curve that are evaluated."""
    robust: bool = False
    """Adversarial training of end points and curves."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""


class Study:
    """Networks of one kind on one data set, and everything that is done with them."""

    def __init__(self, options: Options) -> None:
        self.options = o = options
        self.attack: PGD | None = None
        augment: Any = None
        self.data: Dataset
        self.model: Any
        if o.small:
            self.name = "mlp-digits"
            self.data = digits(o.smoke).flat()
            self.model = MLP((8, 8) if o.smoke else (32, 32))
            epochs, curve_epochs = (2, 1) if o.smoke else (15, 8)
            self.ends = Protocol(epochs, 32, 0.05, 0.9, 5e-4, True, 3)
            self.curve = Protocol(curve_epochs, 32, 0.05, 0.9, 5e-4, True, 2)
            self.permutation_epochs = 1 if o.smoke else 3
            self.points, self.pairs = 5 if o.smoke else 11, 1
        else:
            self.name = f"{o.model}-{o.data}"
            self.data, self.model = load(o.data, o.data_dir), _model(o.model)
            if o.data == "cifar10":
                if not o.robust:  # attacks are on pixels in [0, 1]
                    self.data = self.data.standardised(*CIFAR10)
                augment = crop_flip_and_rotate
            self.ends = tatro2020(o.epochs, o.learning_rate, o.halvings)
            self.curve = tatro2020(o.curve_epochs, o.curve_rate, o.halvings)
            self.permutation_epochs, self.points = o.permutation_epochs, o.points
            self.pairs = o.pairs
        if o.robust:
            self.name += "-robust"
            # The usual radius on digits and MNIST is larger than on CIFAR-10's 8/255.
            self.attack = PGD() if o.data == "cifar10" and not o.small else PGD(0.1, 0.025)
        how = {"augment": augment, "attack": self.attack}
        self.ends, self.curve = (dataclasses.replace(p, **how) for p in (self.ends, self.curve))
        self.folder = o.working("tatro2020", self.name)
        self.out = o.results(self.folder, __file__)
        self.apply = self.model.apply
        self.train_data = (self.data.x_train, self.data.y_train)
        self.test_data = (self.data.x_test, self.data.y_test)
        # The paper aligns on, and estimates statistics from, the first 10,000 training images.
        self.sample = self.data.x_train[:10_000]

    @cached_property
    def networks(self) -> list[Any]:
        seeds = range(2 * self.pairs)
        return trained(
            self.model, self.train_data, seeds, self.ends, directory=self.folder / "endpoints",
            label=f"{self.name}: training {len(seeds)} end points",
        )  # fmt: skip

    @cached_property
    def network(self) -> Any:
        return mcjax.trace(self.apply, self.networks[0], self.data.x_train[:2])

    def pair(self, pair: int) -> tuple[Any, Any]:
        return self.networks[2 * pair], self.networks[2 * pair + 1]

    def alignment(self, pair: int, statistic: str = "correlation", tap: str = "post") -> Matching:
        return match_activations(self.network, *self.pair(pair), self.sample, statistic, tap)

    # -- curves ----------------------------------------------------------------------------

    def curve_of(self, pair: int, kind: str, **changes: Any) -> tuple[Bezier, dict[str, Any]]:
        """A trained curve and how it came about, from the folder if it is there.

        `changes` are to the protocol of the curve.
        """
        protocol = dataclasses.replace(self.curve, **changes)
        mark = "".join(f"-{k}-{v}" for k, v in sorted(changes.items()))
        file = self.folder / f"pair{pair}-{kind}{mark}.safetensors"
        record_file = file.with_suffix(".json")
        a, b = self.pair(pair)
        if file.exists() and record_file.exists():
            record = json.loads(record_file.read_text())
            permutations = {n: np.array(p) for n, p in record["permutations"].items()}
            end = self.network.permute(permutations, b)
            treedef = jax.tree.structure(a)
            control = jax.tree.unflatten(treedef, jax.tree.leaves(mcjax.load(file)))
            return Bezier([a, control, end]), record
        path, record = self._train(pair, kind, protocol, file.stem)
        mcjax.save(file, path.points[1])
        write(record_file, record)
        return path, record

    def _train(
        self, pair: int, kind: str, protocol: Protocol, name: str
    ) -> tuple[Bezier, dict[str, Any]]:
        (a, b), (alignment, with_pam) = self.pair(pair), ALIGNMENTS[kind]
        start = time.perf_counter()
        permutations = dict(self.network.identity_permutations())
        if alignment is not None:
            permutations = dict(self.alignment(pair, *alignment).permutations)
        more: dict[str, Any] = {}
        total = protocol.epochs + (self.permutation_epochs if with_pam else 0)
        with tqdm(total=total, desc=f"{self.name}: {kind}, pair {pair}", leave=False) as bar:

            def progress(*values: Any) -> None:
                bar.update()
                bar.set_postfix_str(f"loss {values[-1]:.4f}")

            folder = self.folder / "running" / name
            if with_pam:
                rate = self.options.permutation_rate or protocol.learning_rate / 2
                slower = dataclasses.replace(
                    protocol, epochs=self.permutation_epochs, learning_rate=rate
                )
                found = Pam(protocol, permutation_protocol=slower).minimise(
                    Problem(self.network, a, b, *self.train_data, jax.random.key(pair)),
                    start=permutations, directory=folder, progress=progress,
                )  # fmt: skip
                moved = sum(
                    int((found.permutations[n] != permutations[n]).sum()) for n in permutations
                )
                more = {
                    "objective": found.objective.tolist(), "units_moved": moved,
                    "chosen": found.matchings[-1].metadata["chosen"],
                }  # fmt: skip
                path, permutations = found.path, found.permutations
            else:
                line = Bezier.between(a, self.network.permute(permutations, b))
                fitted = train_curve(
                    line, self.apply, self.train_data, protocol, key=jax.random.key(pair),
                    directory=folder, progress=progress,
                )  # fmt: skip
                path, more = fitted.path, {"losses": fitted.losses.tolist()}
        record = {
            "kind": kind, "pair": pair, "seconds": time.perf_counter() - start,
            "protocol": protocol.to_dict(),
            "permutations": {n: np.asarray(p).tolist() for n, p in permutations.items()}, **more,
        }  # fmt: skip
        return path, record  # type: ignore[return-value]

    # -- what is measured -----------------------------------------------------------------

    def measure(self, pair: int, kind: str, attacked: bool = False, **changes: Any) -> dict:
        """Loss and accuracy along a curve on the test set and on 10,000 training images."""
        mark = "".join(f"-{k}-{v}" for k, v in sorted(changes.items()))
        name = f"pair{pair}-{kind}{mark}-{'robust' if attacked else 'clean'}-curves.json"
        file = self.folder / name
        if file.exists():
            return json.loads(file.read_text())
        path, record = self.curve_of(pair, kind, **changes)
        some = tuple(v[:10_000] for v in self.train_data)
        statistics = None
        if self.network.normalisations.found:
            statistics = batch_norm_along(path, self.apply, self.sample, self.points)
        curves = {
            split: mcjax.evaluate(
                path, self.apply, data, self.points, statistics=statistics,
                attack=self.attack if attacked else None,
            ).to_dict()
            for split, data in (("test", self.test_data), ("train", some))
        }  # fmt: skip
        kept = {k: v for k, v in record.items() if k != "permutations"}
        out = {"curves": curves, **kept}
        write(file, out)
        return out

    def write(
        self, name: str, text: str | None = None, *,
        draw: Callable[[Any, Path], None] | None = None, **record: Any,
    ) -> None:  # fmt: skip
        """JSON, and Markdown and the figure if there are any, into the folder of results."""
        head = {
            "machine": machine(), "data": self.data.name, "model": repr(self.model),
            "endpoints": self.ends.to_dict(), "curve": self.curve.to_dict(),
            "permutation_epochs": self.permutation_epochs,
            "permutation_rate": self.options.permutation_rate,
            "attack": self.attack and dataclasses.asdict(self.attack),
        }  # fmt: skip
        stem = self.out / f"{name}-{self.name}"
        files = [stem.with_suffix(".json")]
        write(files[0], {**head, **record})
        if text is not None:
            files.append(stem.with_suffix(".md"))
            write(files[1], text)
            print(text)
        if draw is not None:
            files.append(stem.with_suffix(".png"))
            draw(json.loads(files[0].read_text()), files[-1])
        done(*files)

    def protocol_line(self) -> str:
        """The protocol in a sentence."""
        line = (
            f"{self.name}: end points {self.ends.epochs} epochs from rate "
            f"{self.ends.learning_rate}, curves {self.curve.epochs} from "
            f"{self.curve.learning_rate} (PAM's permutations {self.permutation_epochs}); the "
            "paper: 250 from 0.1, 250 from 0.01 (20)."
        )
        if self.attack:
            line += f" Adversarial training, PGD with ε = {self.attack.epsilon:.3g}."
        return line


def _model(name: str) -> Any:
    models: dict[str, Any] = {
        "tiny-ten": TinyTen(), "resnet32": ResNet32(), "googlenet": GoogLeNet(),
        "mlp": MLP((512, 512, 512)),
    }  # fmt: skip
    return models[name]
