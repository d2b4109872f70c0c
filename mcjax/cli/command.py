"""What the command is asked for, and what it does."""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..methods.named import describe
from ..tasks import TASKS
from . import given, interrupt, results, terminal
from .merging import Merge, run_merge
from .options import option, out_of, said
from .trained import convolutional, dense, train

# Epochs of the trained chains: anokhin2020's 60 on MNIST and 200 on CIFAR-10.
_CHAIN_EPOCHS = {"digits": 30, "mnist": 60, "cifar10": 200}
_MOST_POINTS = 100_000


@dataclasses.dataclass
class Connect:
    """Join two networks by low-loss paths and show the loss along them.

    Without files, trains two networks from different seeds (on scikit-learn's digits, MNIST or
    CIFAR-10) and connects them with every method there is; of more seeds every two, with means
    over pairs. With two safetensors files, connects your own. Prints a table; writes a figure,
    every number as JSON and the parameters.
    """

    networks: Annotated[tyro.conf.Positional[tuple[Path, ...]], option("[A B]")] = ()
    """Two checkpoints to connect (safetensors, .npz, msgpack, orbax); they need --model or --torch,
    and --inputs."""
    model: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your model as package.module:apply_fn, a pure function (params, x) -> logits."""
    torch: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your PyTorch model as package.module:build, a function that returns the torch.nn.Module."""
    inputs: Annotated[Path | None, option("FILE.npz")] = None
    """Your data: arrays x and y, and x_test and y_test if you have them."""
    data: Literal["digits", "mnist", "cifar10"] = "digits"
    """Data set to train on."""
    data_dir: Annotated[Path | None, option("FOLDER", "MCJAX_DATA_DIR, else TFDS's own")] = None
    """TFDS folder."""
    hidden: Annotated[
        tuple[int, ...] | None, option("WIDTH …", "512 for digits, else the papers' 2000")
    ] = None
    """Widths of the hidden layers."""
    epochs: Annotated[int | None, option("N", "digits 60; the papers': mnist 30, cifar10 400")] = (
        None
    )
    """Epochs of training."""
    seeds: Annotated[tuple[int, ...], option("SEED …", "0 1")] = (0, 1)
    """Seeds of the networks, two or more."""
    methods: Annotated[
        tuple[str, ...],
        option(
            "NAME …",
            "all that need no training, for two networks on digits curves too",
            f"Methods to use: {describe()}; or your own, as package.module:object.",
        ),
    ] = ()
    curve_epochs: Annotated[int | None, option("N", "digits 30; else the papers'")] = None
    """Epochs of the methods that train."""
    task: Annotated[
        Literal["classification", "regression", "next-token"], option("|".join(TASKS))
    ] = "classification"
    """What the outputs of your own model are for."""
    connection_model: Annotated[Path | None, option("FILE")] = None
    """A connection model saved by mcjax.flows: adds the method it was trained for."""
    points: int = 25
    """Number of t along each path."""
    out: Annotated[str | None, option("FOLDER", "in mcjax-runs, named after the arguments")] = None
    """Folder of the results. One that has results already keeps them: these go to run-2 in it."""
    html: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write report.html too: table, figures with the values under the pointer, what was run."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show no progress and no table, only where the results are."""


@dataclasses.dataclass
class Inputs:
    """Join inputs of one network by low-loss paths and show the loss along them.

    Pairs of one class, of an input and an adversarial one, and of different classes: the barrier on
    the straight line between the two, and once it is bypassed (vrabel2024). Without a file, trains
    a small CNN on scikit-learn's digits, MNIST or CIFAR-10. Prints a table; writes a figure with
    images along one path, and every number as JSON.
    """

    network: Annotated[tyro.conf.Positional[Path | None], option("[A]")] = None
    """A checkpoint of your own network (safetensors, .npz, msgpack, orbax); it needs --model or
    --torch, and --inputs."""
    model: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your model as package.module:apply_fn, a pure function (params, x) -> logits."""
    torch: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your PyTorch model as package.module:build, a function that returns the torch.nn.Module."""
    inputs: Annotated[Path | None, option("FILE.npz")] = None
    """Your data: arrays x and y; x_test and y_test are taken if you have them."""
    data: Literal["digits", "mnist", "cifar10"] = "digits"
    """Data set to train on."""
    data_dir: Annotated[Path | None, option("FOLDER", "MCJAX_DATA_DIR, else TFDS's own")] = None
    """TFDS folder."""
    channels: Annotated[tuple[int, ...], option("N …", "8 16")] = (8, 16)
    """Channels of the convolutions."""
    epochs: Annotated[int | None, option("N", "digits and cifar10 30, mnist 5")] = None
    """Epochs of training."""
    seed: int = 0
    """Seed of the network, and of which inputs are drawn."""
    pairs: int = 3
    """Pairs of each class."""
    delta: float = 0.01
    """The loss that a path should stay below; inputs of half of it are drawn."""
    rounds: int = 3
    """Rounds of bypassing, at most."""
    points: int = 50
    """Number of t on each segment."""
    out: Annotated[str | None, option("FOLDER", "in mcjax-runs, named after the arguments")] = None
    """Folder of the results. One that has results already keeps them: these go to run-2 in it."""
    html: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write report.html too: table, figures with the values under the pointer, what was run."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show no progress and no table, only where the results are."""


@dataclasses.dataclass
class Explain:
    """Show the unit groups and layers found in a model, and why what is fixed is fixed."""

    network: Annotated[tyro.conf.Positional[Path], option("A")]
    """A checkpoint (safetensors, .npz, msgpack, orbax); needs --model or --torch."""
    inputs: Annotated[Path, option("FILE.npz")]
    """Your data: an array x."""
    model: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your model as package.module:apply_fn, a pure function (params, x) -> outputs."""
    torch: Annotated[str | None, option("MODULE:FUNCTION")] = None
    """Your PyTorch model as package.module:build, a function that returns the torch.nn.Module."""


Command = Annotated[
    Annotated[Connect, tyro.conf.subcommand("connect")]
    | Annotated[Inputs, tyro.conf.subcommand("inputs")]
    | Annotated[Merge, tyro.conf.subcommand("merge")]
    | Annotated[Explain, tyro.conf.subcommand("explain")],
    tyro.conf.OmitSubcommandPrefixes,
]


def run(arguments: list[str]) -> int:
    """Run the command with these arguments; 2 after a mistake in them, said in one line."""
    terminal.write_plainly()
    interrupt.say("")
    if arguments[:1] == ["--version"]:
        from .. import __version__

        print(f"mcjax {__version__}")
        return 0
    try:
        command = tyro.cli(
            Command,  # type: ignore[arg-type]
            prog="mcjax",
            description="Connect, align, compare and merge trained JAX networks. "
            "`mcjax --version` shows the version.",
            args=arguments,
        )
        if isinstance(command, Explain):
            _explain(command)
        elif isinstance(command, Inputs):
            _inputs(command, arguments)
        elif isinstance(command, Merge):
            run_merge(command, arguments)
        else:
            _connect(command, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(interrupt.line(), file=sys.stderr)
        return interrupt.STATUS
    except BrokenPipeError:  # whoever reads has gone, as in `mcjax … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if os.environ.get("MCJAX_TRACEBACK"):
            traceback.print_exc()
        print(f"mcjax: error: {_said(error)}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | OSError) else 1
    return 0


def _said(error: Exception) -> str:
    """An error in one line."""
    line = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in line:
        return f"out of memory; choose a smaller size ({line or 'MemoryError'})"
    if isinstance(error, ValueError | OSError):
        return line
    where = "set MCJAX_TRACEBACK=1 to see where it comes from"
    return f"{type(error).__name__}: {line} ({where})"


def _explain(command: Explain) -> None:
    from ..network.trace import trace

    x = given.arrays(command.inputs, ("x",))["x"]
    apply_fn, read, option = given.model(command.model, command.torch)
    params = read(command.network)
    given.check_model(apply_fn, params, x[:2], command.network, option)
    print(trace(apply_fn, params, x).explain())


def _inputs(command: Inputs, arguments: list[str]) -> None:
    if not 3 <= command.points <= _MOST_POINTS:
        raise ValueError(
            f"--points must be at least 3 and at most {_MOST_POINTS:,}, got {command.points}"
        )
    if min(command.pairs, command.rounds) < 1:
        raise ValueError("--pairs and --rounds must be at least 1")
    if not 0 < command.delta < float("inf"):
        raise ValueError(f"--delta must be a loss above 0, got {command.delta}")
    if command.network is not None:
        title, out, study = _own_inputs(command)
    elif command.model or command.torch or command.inputs:
        raise ValueError("--model, --torch and --inputs go with a file of parameters")
    else:
        given.check_seeds((command.seed,), least=1)
        recipe = convolutional(command, command.channels)
        made = train(
            command, recipe, (command.seed,), lambda name: out_of(command.out, f"inputs-{name}")
        )
        title, out = made.title, made.out
        study = {
            "model": made.apply, "params": made.networks[0], "metadata": made.metadata,
            "data": (made.data.x_test, made.data.y_test),
        }  # fmt: skip
    study |= {"delta": command.delta, "depth": command.rounds, "each": command.pairs,
              "seed": command.seed}  # fmt: skip
    asked = results.Asked(
        title, out, command.points, command.quiet, trained=command.network is None,
        command=said(arguments, command.html),
    )  # fmt: skip
    results.report_inputs(asked, study)


def _own_inputs(command: Inputs) -> tuple[str, Path, dict[str, Any]]:
    """The user's own network."""
    file = command.network
    assert file is not None
    if command.inputs is None:
        raise ValueError("a file of parameters needs --inputs data.npz, and --model or --torch")
    out = out_of(command.out, f"inputs-{file.stem}")
    apply_fn, read, option = given.model(command.model, command.torch)
    arrays = given.arrays(command.inputs, ("x", "y"))
    params = read(file)
    given.check_task(TASKS["classification"], apply_fn, params, arrays, file, option)
    x, y = (arrays.get(f"{k}_test", arrays[k]) for k in ("x", "y"))
    study = {"model": apply_fn, "params": params, "data": (x, y),
             "metadata": {"network": str(file)}}  # fmt: skip
    return file.name, out, study


def _connect(command: Connect, arguments: list[str]) -> None:
    from ..methods import Flow
    from ..methods.named import from_text

    methods = {name: from_text(name) for name in command.methods}
    if not 2 <= command.points <= _MOST_POINTS:
        raise ValueError(
            f"--points must be at least 2 and at most {_MOST_POINTS:,}, got {command.points}"
        )
    if command.curve_epochs is not None and command.curve_epochs < 1:
        raise ValueError(f"--curve-epochs must be at least 1, got {command.curve_epochs}")
    if command.networks:
        title, out, study = _own(command)
    else:
        if command.model or command.torch or command.inputs:
            raise ValueError("--model, --torch and --inputs go with two files of parameters")
        if command.task != "classification":
            raise ValueError("--task goes with two files of parameters")
        title, out, study = _trained(command)
    if command.connection_model is not None:
        from ..saving import load

        model = load(command.connection_model.expanduser())
        methods[getattr(model, "method", "")] = Flow(model)  # raises for another value
    study["methods"] = _methods(command, study, methods)
    asked = results.Asked(
        title, out, command.points, command.quiet, trained=not command.networks,
        command=said(arguments, command.html),
    )  # fmt: skip
    if len(study["networks"]) == 2:
        results.report(asked, study)
    else:
        results.report_pairs(asked, study, [str(seed) for seed in command.seeds])


def _own(command: Connect) -> tuple[str, Path, dict[str, Any]]:
    """The user's own networks."""
    if len(command.networks) != 2:
        raise ValueError(f"expected two files of parameters, got {len(command.networks)}")
    if command.inputs is None:
        raise ValueError("files of parameters need --inputs data.npz, and --model or --torch")
    first, second = command.networks
    out = out_of(command.out, f"{first.stem}-{second.stem}")
    apply_fn, read, option = given.model(command.model, command.torch)
    arrays = given.arrays(command.inputs, ("x", "y"))
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    a, b = read(first), read(second)
    for params, file in ((a, first), (b, second)):
        given.check_task(TASKS[command.task], apply_fn, params, arrays, file, option)
    study = {
        "network": apply_fn, "networks": [a, b], "train": (arrays["x"], arrays["y"]), "test": test,
        "task": TASKS[command.task], "metadata": {"networks": [str(first), str(second)]},
    }  # fmt: skip
    return f"{first.name} to {second.name}", out, study


def _trained(command: Connect) -> tuple[str, Path, dict[str, Any]]:
    """Two networks or more trained on a data set."""
    given.check_seeds(command.seeds)
    matching = not command.methods or bool({*command.methods} - {"linear", "arc"})
    recipe = dense(command, command.hidden, len(command.seeds), matching)
    made = train(command, recipe, command.seeds, lambda name: out_of(command.out, name))
    data = made.data
    study = {
        "network": made.apply, "networks": made.networks,
        "train": (data.x_train, data.y_train), "test": (data.x_test, data.y_test),
        "metadata": made.metadata,
    }  # fmt: skip
    return made.title, made.out, study


def _methods(command: Connect, study: dict[str, Any], methods: dict[str, Any]) -> dict[str, Any]:
    """The methods asked for, or those that come to mind for this study; name → method."""
    from ..methods import PRESETS, with_epochs, with_protocol
    from ..network.trace import trace
    from ..study import default_methods
    from ..training import Protocol

    digits = not command.networks and command.data == "digits"
    if not command.methods:
        network = trace(study["network"], study["networks"][0], study["train"][0][:2])
        trained = digits and len(study["networks"]) == 2
        methods = {n: PRESETS[n] for n in default_methods(network, trained)} | methods
    epochs = command.curve_epochs
    if epochs is None and not command.networks:
        epochs = _CHAIN_EPOCHS[command.data]
    if epochs is None:
        return methods
    if digits:  # as its end points are trained
        return {n: with_protocol(m, Protocol(epochs, batch=32)) for n, m in methods.items()}
    return {n: with_epochs(m, epochs) for n, m in methods.items()}
