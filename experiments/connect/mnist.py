"""`python -m experiments.connect.mnist`: Linear, Arc and OT of anokhin2020's Table 1, on pairs.

Trains networks by the paper's protocol (784-2000-10, all seeds in one vmapped scan, resumed
after an interruption), connects disjoint pairs with every method and sets the mean and one
standard deviation over the pairs beside the paper's numbers.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from mcjax._files import write_atomically
from mcjax.data import load
from mcjax.models import MLP
from mcjax.study import Comparison, compare, machine
from mcjax.train import Protocol, train

# anokhin2020, Table 1, MNIST: (train, test) as mean ± one standard deviation.
PAPER = {
    "linear": ("96.54 ± 0.40", "95.87 ± 0.40"),
    "arc": ("97.89 ± 0.11", "97.03 ± 0.14"),
    "ot": ("98.78 ± 0.01", "97.87 ± 0.04"),
    "endpoints": ("99.14 ± 0.01", "98.01 ± 0.03"),
}


@dataclasses.dataclass
class Study:
    """Worst accuracy along paths between MNIST networks, beside anokhin2020's Table 1."""

    pairs: int = 3
    """Disjoint pairs of networks."""
    epochs: int = 30
    """Epochs of training (the paper's: 30)."""
    points: int = 21
    """Points along each path (the paper's: 21)."""
    data_dir: Path | None = None
    """TFDS folder (default: MCJAX_DATA_DIR, else TFDS's own)."""
    work: Path = Path("mcjax-runs/connect-mnist")
    """Folder of the checkpoints."""
    out: Path = Path(__file__).parent / "results"
    """Folder of the results."""


def main(study: Study) -> None:
    data = load("mnist", study.data_dir).flat()
    model, protocol = MLP((2000,)), Protocol(epochs=study.epochs)
    seeds = range(2 * study.pairs)
    with tqdm(total=study.epochs, desc=f"training {len(seeds)} networks", leave=False) as bar:
        networks = train(
            model.apply, lambda key: model.init(key, data.x_train[:1]),
            (data.x_train, data.y_train), seeds, protocol, directory=study.work,
            progress=lambda epoch, _: bar.update(epoch + 1 - bar.n),
        )  # fmt: skip
    comparisons = [
        compare(
            model.apply, networks[i], networks[i + 1], (data.x_train, data.y_train),
            (data.x_test, data.y_test), t=study.points,
        )
        for i in tqdm(range(0, len(networks), 2), desc="connecting pairs", leave=False)
    ]  # fmt: skip
    study.out.mkdir(parents=True, exist_ok=True)
    table = markdown(comparisons)
    record = {
        "machine": machine(), "protocol": dataclasses.asdict(protocol), "seeds": list(seeds),
        "points": study.points, "pairs": [c.to_dict() for c in comparisons],
    }  # fmt: skip
    write_atomically(study.out / "mnist.json", json.dumps(record).encode())
    write_atomically(study.out / "mnist.md", table.encode())
    print(table)


def markdown(comparisons: list[Comparison]) -> str:
    """A row a method: ours and the paper's worst accuracy, train and test."""
    lines = [
        f"Worst accuracy (%) along the path, mean ± one standard deviation over "
        f"{len(comparisons)} pairs.", "",
        "| method | train | paper | test | paper |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for k, row in enumerate(comparisons[0].rows):
        ours = [_spread([c.rows[k].worst(s) for c in comparisons]) for s in ("train", "test")]
        paper = PAPER.get(row.method, ("", ""))
        lines.append(f"| {row.label} | {ours[0]} | {paper[0]} | {ours[1]} | {paper[1]} |")
    ends = [_spread([c.endpoints(s) for c in comparisons]) for s in ("train", "test")]
    paper = PAPER["endpoints"]
    lines.append(f"| End points | {ends[0]} | {paper[0]} | {ends[1]} | {paper[1]} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float | None]) -> str:
    array = np.array(values, float)
    deviation = array.std(ddof=1) if len(array) > 1 else 0.0
    return f"{array.mean():.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
