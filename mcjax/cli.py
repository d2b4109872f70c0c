"""The `mcjax` command."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


def _option(metavar: str, default: str = "") -> Any:
    """How an option's value and default read in the help."""
    hint = f"(default: {default})" if default else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


# Epochs of the trained chains: anokhin2020's 60 on MNIST and 200 on CIFAR-10.
_CHAIN_EPOCHS = {"digits": 30, "mnist": 60, "cifar10": 200}


@dataclasses.dataclass
class Connect:
    """Join two networks by low-loss paths and show the loss along them.

    Without files, trains two networks from different seeds (on scikit-learn's digits, MNIST or
    CIFAR-10) and connects them with every method there is. With two safetensors files, connects
    your own. Prints a table; writes a figure, every number as JSON and the parameters.
    """

    networks: Annotated[tyro.conf.Positional[tuple[Path, ...]], _option("[A B]")] = ()
    """Two safetensors files to connect; they need --model and --inputs."""
    model: Annotated[str | None, _option("MODULE:FUNCTION")] = None
    """Your model as package.module:apply_fn, a pure function (params, x) -> logits."""
    inputs: Annotated[Path | None, _option("FILE.npz")] = None
    """Your data: arrays x and y, and x_test and y_test if you have them."""
    data: Literal["digits", "mnist", "cifar10"] = "digits"
    """Data set to train on."""
    data_dir: Annotated[Path | None, _option("FOLDER", "MCJAX_DATA_DIR, else TFDS's own")] = None
    """TFDS folder."""
    hidden: Annotated[
        tuple[int, ...] | None, _option("WIDTH …", "512 for digits, else the papers' 2000")
    ] = None
    """Widths of the hidden layers."""
    epochs: Annotated[int | None, _option("N", "digits 60; the papers': mnist 30, cifar10 400")] = (
        None
    )
    """Epochs of training."""
    seeds: tuple[int, int] = (0, 1)
    """Seeds of the two networks."""
    methods: Annotated[tuple[str, ...], _option("NAME …", "all that need no training")] = ()
    """Methods to use: linear, arc, ot; layer by layer with weight adjustment linear+wa, arc+wa,
    ot+wa or with butterflies linear+butterfly, arc+butterfly, ot+butterfly; trained chains
    garipov-3, garipov-5 (on digits by default); weight-matching, activation-matching; with a
    connection model iaf-flow, realnvp-flow, realnvp-bijection."""
    connection_model: Annotated[Path | None, _option("FILE")] = None
    """A connection model saved by mcjax.flows: adds the method it was trained for."""
    points: int = 25
    """Number of t along each path."""
    out: Annotated[Path | None, _option("FOLDER", "in mcjax-runs, named after the arguments")] = (
        None
    )
    """Folder of the results."""


@dataclasses.dataclass
class Explain:
    """Show the unit groups and layers found in a model, and why what is fixed is fixed."""

    network: Annotated[tyro.conf.Positional[Path], _option("A")]
    """Safetensors file with the parameters."""
    model: Annotated[str, _option("MODULE:FUNCTION")]
    """Your model as package.module:apply_fn, a pure function (params, x) -> outputs."""
    inputs: Annotated[Path, _option("FILE.npz")]
    """Your data: an array x."""


Command = Annotated[
    Annotated[Connect, tyro.conf.subcommand("connect")]
    | Annotated[Explain, tyro.conf.subcommand("explain")],
    tyro.conf.OmitSubcommandPrefixes,
]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 2 after a mistake in the arguments, said in one line."""
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="mcjax",
        description="Connect, align, compare and merge trained JAX networks.",
        args=arguments,
    )
    try:
        if isinstance(command, Explain):
            _explain(command)
        else:
            _connect(command)
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())
        print(f"mcjax: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mcjax: interrupted; the same command goes on from the last epoch", file=sys.stderr)
        return 130
    return 0


def _explain(command: Explain) -> None:
    from .checkpoints import load
    from .network.trace import trace

    x = _arrays(command.inputs, ("x",))["x"]
    apply_fn, params = _model(command.model), load(command.network)
    _check_model(apply_fn, params, x, logits=False)
    print(trace(apply_fn, params, x).explain())


def _connect(command: Connect) -> None:
    from .methods import METHODS

    unknown = [m for m in command.methods if m not in METHODS]
    if unknown:
        raise ValueError(f"--methods: unknown {unknown[0]!r}; there are {', '.join(METHODS)}")
    if command.points < 2:
        raise ValueError(f"--points must be at least 2, got {command.points}")
    if command.networks:
        title, out, study = _own(command)
    else:
        if command.model or command.inputs:
            raise ValueError("--model and --inputs go with two files of parameters")
        title, out, study = _trained(command)
    if command.connection_model is not None:
        from .flows import ConnectionModel

        model = ConnectionModel.load(command.connection_model)
        study["models"] = {model.method: model}
    _report(title, out, study, command)


def _own(command: Connect) -> tuple[str, Path, dict[str, Any]]:
    """The user's own networks."""
    from .checkpoints import load

    if len(command.networks) != 2:
        raise ValueError(f"expected two files of parameters, got {len(command.networks)}")
    if command.model is None or command.inputs is None:
        raise ValueError("two files of parameters need --model package.module:apply_fn and "
                         "--inputs data.npz")  # fmt: skip
    first, second = command.networks
    apply_fn = _model(command.model)
    arrays = _arrays(command.inputs, ("x", "y"))
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    a, b = load(first), load(second)
    _check_model(apply_fn, a, arrays["x"])
    study = {"apply_fn": apply_fn, "a": a, "b": b, "train": (arrays["x"], arrays["y"]),
             "test": test, "metadata": {"networks": [str(first), str(second)]}}  # fmt: skip
    out = command.out or Path("mcjax-runs") / f"{first.stem}-{second.stem}"
    return f"{first.name} to {second.name}", out, study


def _trained(command: Connect) -> tuple[str, Path, dict[str, Any]]:
    """Two networks trained on a data set, by the paper's protocol."""
    from .data import load
    from .models import MLP
    from .training.networks import Protocol, train_networks

    epochs = {"digits": 60, "mnist": 30, "cifar10": 400}[command.data]
    batch = 32 if command.data == "digits" else 128
    hidden = command.hidden or ((512,) if command.data == "digits" else (2000,))
    protocol = Protocol(epochs=epochs if command.epochs is None else command.epochs, batch=batch)
    if protocol.epochs < 1 or min(hidden) < 1:
        raise ValueError("--epochs and --hidden must be at least 1")
    name = f"{command.data}-{'-'.join(map(str, hidden))}-{protocol.epochs}ep"
    name += f"-seeds{command.seeds[0]}-{command.seeds[1]}"
    out = command.out or Path("mcjax-runs") / name
    data = load(command.data, command.data_dir).flat()
    model = MLP(hidden)

    with _bar(protocol.epochs, "training A and B", "epoch") as bar:

        def progress(epoch: int, losses: Any) -> None:
            bar.n = epoch + 1
            bar.set_postfix_str(f"loss {losses.mean():.4f}")

        a, b = train_networks(
            model.apply, _initialiser(model, data.x_train[:1]), (data.x_train, data.y_train),
            command.seeds, protocol, directory=out / "checkpoints", progress=progress,
        )  # fmt: skip
    sizes = (data.x_train.shape[1], *hidden, 10)
    study = {
        "apply_fn": model.apply, "a": a, "b": b,
        "train": (data.x_train, data.y_train), "test": (data.x_test, data.y_test),
        "protocol": dataclasses.replace(protocol, epochs=_CHAIN_EPOCHS.get(command.data, 60)),
        "metadata": {"data": command.data, "sizes": sizes, "seeds": command.seeds,
                     "protocol": protocol.to_dict()},
    }  # fmt: skip
    return f"{command.data}, {'-'.join(map(str, sizes))}, seeds {command.seeds}", out, study


def _initialiser(model: Any, x: Any):
    return lambda key: model.init(key, x)


def _methods(command: Connect, study: dict[str, Any]) -> tuple[str, ...]:
    """The methods asked for, or those that come to mind for this study."""
    from .network.trace import trace
    from .study import default_methods

    models = tuple(study.get("models", ()))
    if command.methods:
        return tuple(dict.fromkeys((*command.methods, *models)))
    network = trace(study["apply_fn"], study["a"], study["train"][0][:2])
    trains = not command.networks and command.data == "digits"
    return (*default_methods(network, ("labels",) if trains else ()), *models)


def _report(title: str, out: Path, study: dict[str, Any], command: Connect) -> None:
    from rich.console import Console

    from . import checkpoints
    from ._files import write_atomically
    from .figures.curves import draw_curves
    from .methods import METHODS
    from .report import markdown_table, terminal_table
    from .study import compare, steps

    checkpoints.save(out / "a.safetensors", study["a"])
    checkpoints.save(out / "b.safetensors", study["b"])
    methods = _methods(command, study)
    with _bar(steps(methods, study["test"] is not None), "connecting", "step") as bar:

        def progress(line: str) -> None:
            bar.set_description_str(line)
            bar.update()

        comparison = compare(**study, methods=methods, t=command.points, progress=progress)
        bar.set_description_str("connecting")
    for name, path in comparison.paths.items():
        if METHODS[name].moves_end:
            checkpoints.save(out / f"b-{name}.safetensors", path(1.0))
    write_atomically(out / "results.json", json.dumps(comparison.to_dict(), indent=1).encode())
    write_atomically(out / "table.md", (markdown_table(comparison) + "\n").encode())
    draw_curves({r.label: r.curves for r in comparison.rows}, out / "curves.png")
    console = Console()
    console.print(terminal_table(comparison, title))
    console.print(f"Figure, every number and the parameters: {out}", soft_wrap=True)


def _bar(total: int, description: str, unit: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=description, unit=unit, leave=False)


def _model(name: str) -> Any:
    """The function `package.module:name`, also from the current folder."""
    module, separator, function = name.partition(":")
    if not separator:
        raise ValueError(f"--model must be package.module:function, got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise ValueError(f"--model: cannot import {module!r}: {error}") from error
    except AttributeError as error:
        raise ValueError(f"--model: {module!r} has no {function!r}") from error
    if not callable(found):
        raise ValueError(f"--model: {name!r} is not a function")
    return found


def _check_model(apply_fn: Any, params: Any, x: Any, logits: bool = True) -> None:
    """Say in one line what the user's function makes of parameters and inputs."""
    import jax

    try:
        out = jax.eval_shape(apply_fn, params, x[:2])
    except Exception as error:  # anything may go wrong in a user's function
        line = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"--model: the function fails on these parameters and inputs: "
            f"{type(error).__name__}: {line}"
        ) from error
    if logits and getattr(out, "ndim", 0) != 2:
        raise ValueError(f"--model must return logits of shape (batch, classes), got {out}")


def _arrays(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    import zipfile

    import numpy as np

    if not path.is_file():
        raise ValueError(f"--inputs: there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {k: archive[k] for k in archive.files}
    except (ValueError, AttributeError, zipfile.BadZipFile, TypeError) as error:
        raise ValueError(f"--inputs: {path} is no .npz file of plain arrays: {error}") from error
    missing = [k for k in needed if k not in arrays]
    if missing:
        raise ValueError(f"--inputs: {path} has no array {missing[0]!r}, only {', '.join(arrays)}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise ValueError(f"--inputs: {path} has only one of x_test and y_test")
    return arrays


if __name__ == "__main__":
    sys.exit(main())
