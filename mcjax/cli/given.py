"""What the command is handed, checked before the work: a model, arrays, folders, sizes."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .. import _check, _check_model
from .._files import check_writable, held
from .._modules import built, load_object
from ..tasks import Task

# Parameters of a network in training: values, momentum, gradients, and what XLA makes besides.
_COPIES = 6
# Correlations or costs of all pairs of units, and what a solver makes of them.
_MATRICES = 3
_SHOWN = 3  # leaves named where a function asks for one that is not there
# What the library says (a regular expression) → how the command says it.
_SAID = {
    r"task=mcjax\.tasks\.REGRESSION": "--task regression",
    r"task=mcjax\.tasks\.NEXT_TOKEN": "--task next-token",
    r"a single logit for two classes .*": "for two classes let the function of --model return two "
    "logits, 0 and the one that it has: jnp.concatenate([0 * z, z], -1)",
    r"Say which part counts: .*(out\S+)\)": r"Let the function of --model return \1 alone",
}


def arrays(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of an .npz file, by name.

    **Raises:** `ValueError` for what is no file of plain arrays of numbers, or lacks some.
    """
    import numpy as np

    path = path.expanduser()
    if not path.is_file():
        raise ValueError(f"--inputs: there is no file {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {k: archive[k] for k in archive.files}
        odd = [k for k, v in found.items() if not isinstance(v, np.ndarray)]
        if odd:  # NumPy gives the bytes of what it does not know
            raise ValueError(f"{odd[0]!r} is no array")
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        raise ValueError(
            f"--inputs: {path} is no whole .npz file of plain arrays: {_reason(path, error)}. "
            "Write one with numpy.savez(file, x=x, y=y)"
        ) from error
    missing = [k for k in needed if k not in found]
    if missing:
        there = ", ".join(found) or "nothing"
        raise ValueError(f"--inputs: {path} has no array {missing[0]!r}, only {there}")
    if ("x_test" in found) != ("y_test" in found):
        raise ValueError(f"--inputs: {path} has only one of x_test and y_test")
    used = {k: v for k, v in found.items() if k in ("x", "y", "x_test", "y_test")}
    for name, array in used.items():
        if array.dtype.kind not in "biufc":
            raise ValueError(
                f"--inputs: array {name!r} of {path} is of type {array.dtype}, expected numbers"
            )
        if array.ndim == 0 or not len(array):
            raise ValueError(f"--inputs: array {name!r} of {path} holds no examples")
        try:
            _check.finite(array, "--inputs")
        except ValueError as error:
            raise ValueError(str(error).replace("leaf ''", f"array {name!r}")) from None
    return used


def _reason(path: Path, error: Exception) -> str:
    """Why NumPy could not read a file of arrays."""
    if path.suffix == ".safetensors":
        return "a file of parameters, it seems"
    if "pickle" in str(error):  # NumPy says how to open it all the same
        return "it holds pickled objects, which are never opened"
    if path.suffix == ".npy":
        return "an .npy file holds one array"
    return str(error).strip() or type(error).__name__


def check_model(apply_fn: Any, params: Any, x: Any, file: Path, option: str = "--model") -> Any:
    """The types of what the user's function makes of the parameters of a file and of inputs.

    - `option`: which named the function

    **Raises:** `ValueError`, in one line, if it fails.
    """
    import jax

    _check_model.function(apply_fn, option)
    try:
        out = jax.eval_shape(apply_fn, params, x)
        _check_model.outputs(out)
    except (Exception, SystemExit) as error:  # anything may go wrong in a user's function
        line = (str(error).strip().splitlines() or [""])[0]
        if isinstance(error, KeyError):
            line += f" (the file has {_some_leaves(params)})"
        hint = (
            ""
            if _is_whole(file)
            else ". The file does not hold the class of these parameters (equinox, nnx): here the "
            "function is given their arrays in nested dicts (how to write it: docs/frameworks.md, "
            "nnx and equinox on the command line)"
        )
        raise ValueError(
            f"{option}: the function fails on the parameters of {file} and inputs of shape "
            f"{x.shape}: {type(error).__name__}: {line}{hint}"
        ) from error
    return out


def check_task(
    task: Task, apply_fn: Any, params: Any, data: dict[str, Any], file: Path,
    option: str = "--model",
) -> None:  # fmt: skip
    """Raise unless parameters are finite, and outputs and labels the task's, on all data."""
    _check.finite(params, str(file))
    for x, y in (("x", "y"), ("x_test", "y_test")):
        if x not in data:
            continue
        if len(data[x]) != len(data[y]):
            raise ValueError(
                f"--inputs: {x} has {len(data[x])} examples and {y} has {len(data[y])}"
            )
        out = check_model(apply_fn, params, data[x], file, option)
        try:
            task.check(task.outputs(out), data[y])
        except ValueError as error:
            said = str(error)
            for of_library, of_command in _SAID.items():
                said = re.sub(of_library, of_command.replace("--model", option), said)
            raise ValueError(f"{option} and --inputs ({x}, {y}): {said}") from None


def folder(text: str) -> Path:
    """The folder that --out names.

    **Raises:** `ValueError` for an empty name, a file, or one that nothing can be written into.
    """
    if not text.strip():
        raise ValueError("--out is empty; name a folder (. is the current one)")
    path = Path(text).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out: {path} is a file, no folder")
    check_writable(path, "--out")
    return path


@contextlib.contextmanager
def fresh(out: Path, names: Sequence[str]) -> Iterator[Path]:
    """`out`, or where it holds a file of one of the names (patterns), `out/run-2` and so on.

    It is held until the end of the block: another command takes the next.
    """

    numbered = (out / f"run-{n}" for n in itertools.count(2))
    for place in itertools.chain([out], numbered):
        lock = _claimed(place, names)
        if lock is None:
            continue
        try:
            yield place
        finally:
            (place / ".lock").unlink(missing_ok=True)
            lock.close()
        return


def _claimed(place: Path, names: Sequence[str]) -> IO[bytes] | None:
    """A lock on a folder that holds no file of these names; None if it does, or another has it."""

    def used() -> bool:
        return any(any(place.glob(name)) for name in names)

    if used():
        return None
    place.mkdir(parents=True, exist_ok=True)
    lock = held(place / ".lock")
    if lock is not None and used():  # filled just before it was held
        lock.close()
        return None
    return lock


def _some_leaves(params: Any) -> str:
    """How leaves are reached in parameters, the first few."""
    import jax

    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
    return ", ".join(paths[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")


def _is_whole(file: Path) -> bool:
    """Whether the parameters of a file come back as they were saved."""
    from ..saving.file import load

    try:
        load(file)
    except ValueError:
        return False
    return True


def parameters(file: Path) -> Any:
    """The parameters of a file: as they were saved, or nested dicts where their class is not there.

    **Raises:** `ValueError` for a file that holds something else.
    """
    from ..saving.file import class_in, load, nested

    held = class_in(file)
    if held is not None:
        raise ValueError(
            f"{file} holds a {held}, expected parameters of one network: give the file of a "
            "network that was connected, or b-METHOD.safetensors beside the results, B as aligned"
        )
    try:
        return load(file)
    except ValueError:
        return nested(file)


def model(name: str | None, torch: str | None) -> tuple[Any, Callable[[Path], Any], str]:
    """The function that --model or --torch names, what reads its parameters, and which it was.

    **Raises:** `ValueError` unless exactly one of them is given, and can be had.
    """
    if (name is None) == (torch is None):
        raise ValueError(
            "a file of parameters needs --model package.module:apply_fn, or --torch "
            "package.module:build"
        )
    if name is not None:
        return load_object(name, "--model"), parameters, "--model"
    return *_torch_model(torch or ""), "--torch"


def _torch_model(name: str) -> tuple[Any, Callable[[Path], Any]]:
    """A PyTorch module as a function, and what reads its parameters from a file.

    - `name`: `package.module:build`, of a function without arguments that returns the module

    **Raises:** `ValueError`, in one line, if it fails.
    """
    from ..interop.torch import from_module, from_state_dict

    module = built(load_object(name, "--torch"), f"--torch: {name}")
    try:
        apply_fn, _ = from_module(module)
    except (ValueError, ImportError) as error:
        raise ValueError(f"--torch: {error}") from error

    def read(file: Path) -> Any:
        state = parameters(file)
        if not isinstance(state, dict):
            raise ValueError(f"{file} holds no state dict: no parameters by torch's names")
        try:
            return from_state_dict(state, module)
        except ValueError as error:
            raise ValueError(f"{file} and --torch: {error}") from error

    return apply_fn, read


def check_seeds(seeds: Sequence[int], least: int = 2) -> None:
    """Raise unless there are so many seeds or more, each another one."""
    if len(seeds) < least or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds must be two or more different ones, got {_listed(seeds)}")
    if not all(0 <= seed < 2**32 for seed in seeds):
        name = "--seeds" if least > 1 else "--seed"
        raise ValueError(f"{name} must be at least 0 and below 2**32, got {_listed(seeds)}")


def _listed(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds)) or "none"


def check_memory(sizes: tuple[int, ...], networks: int, matching: bool) -> None:
    """Raise if training dense networks, or matching their units, needs more memory than there is.

    **Arguments:**
    - `sizes`: the widths of all layers, from inputs to outputs
    - `matching`: whether units will be matched, by a matrix of all pairs
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count = sum((n + 1) * m for n, m in itertools.pairwise(sizes))
    pairs = max(sizes[1:-1], default=0) ** 2
    for needed, what in (
        (4 * count * networks * _COPIES, f"training {networks} networks of {count:,} parameters"),
        (8 * pairs * matching * _MATRICES, f"matching {max(sizes):,} units"),
    ):
        if needed > there:
            raise ValueError(
                f"--hidden: {what} needs about {needed / 2**30:,.0f} GiB of memory, and this "
                f"machine has {there / 2**30:,.0f}"
            )
