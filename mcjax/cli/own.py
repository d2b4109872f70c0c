"""The user's own networks: files of parameters, what they are called, what a study is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import _check
from .._static import is_array
from . import given
from .options import Scored


def names_of(files: Sequence[Path]) -> list[str]:
    """A name for each file: its stem, behind as many of its folders as tell it from the others.

    >>> from pathlib import Path
    >>> names_of([Path("a.npz"), Path("one/b.npz"), Path("two/b.npz"), Path("a.npz")])
    ['a', 'one/b', 'two/b', 'a (2)']
    """
    paths = [file.expanduser().absolute() for file in files]
    whole = [path.with_suffix("").parts for path in paths]
    if len({*whole}) < len({*paths}):  # a.npz and a.safetensors, or 0.1 and 0.2
        whole = [path.parts for path in paths]
    names = []
    for k, parts in enumerate(whole):
        others = [other for other in whole if other != parts]
        depths = range(1, len(parts) + 1)
        depth = next(d for d in depths if all(other[-d:] != parts[-d:] for other in others))
        again = whole[:k].count(parts)
        names.append("/".join(parts[-depth:]).lstrip("/") + f" ({again + 1})" * (again > 0))
    return names


def study_of(files: Sequence[Path], own: Scored, base: Path | None = None) -> dict[str, Any]:
    """What a study of files of parameters is given, all checked.

    - `base`: the file that they were fine-tuned from

    **Raises:** `ValueError` for what cannot be read, or does not fit the model or the data.
    """
    if own.inputs is None:
        raise ValueError("files of parameters need --inputs data.npz, and --model or --torch")
    apply_fn, read, option = given.model(own.model, own.torch)
    arrays = given.arrays(own.inputs, ("x", "y"))
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    every = [*files, *([] if base is None else [base])]
    found = [read(file) for file in every]
    for params, file in zip(found, every, strict=True):
        given.check_task(own.scored, apply_fn, params, arrays, file, option)
        _check.same_structure(_shapes(found[0]), _shapes(params), names=(str(every[0]), str(file)))
    return {
        "network": apply_fn, "networks": found[: len(files)], "train": (arrays["x"], arrays["y"]),
        "test": test, "task": own.scored,
        "metadata": {"networks": [str(file) for file in files]},
    } | ({} if base is None else {"base": found[-1]})  # fmt: skip


def _shapes(params: Any) -> Any:
    """Parameters whose values and precision say nothing, and take no memory."""
    import jax
    import numpy as np

    zero = np.float32(0)
    return jax.tree.map(lambda v: np.broadcast_to(zero, v.shape) if is_array(v) else v, params)


__all__ = ["names_of", "study_of"]
