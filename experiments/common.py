"""What the experiments on all papers share."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mcjax.protocol import Protocol
from mcjax.train import train


def trained(
    model: Any, data: tuple[Any, Any], seeds: Sequence[int], protocol: Protocol, *,
    directory: Path, label: str, augment: Any = None, attack: Any = None,
) -> list[Any]:  # fmt: skip
    """Networks from different seeds, with a progress bar, resumed from their last epoch."""
    with tqdm(total=protocol.epochs, desc=label, leave=False) as bar:

        def progress(epoch: int, losses: np.ndarray) -> None:
            bar.update(epoch + 1 - bar.n)
            bar.set_postfix_str(f"loss {losses.mean():.4f}")

        return train(
            model.apply, lambda key: model.init(key, data[0][:1]), data, seeds, protocol,
            augment=augment, attack=attack, directory=directory, progress=progress,
        )  # fmt: skip


def peak_memory() -> float:
    """The most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def spread(values: Any, digits: int = 2) -> str:
    """Mean ± one standard deviation (of a single value only the value)."""
    values = np.asarray(values, float)
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"
