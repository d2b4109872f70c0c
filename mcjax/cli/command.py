"""What the command is asked for, and what it does."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from .._reasons import reason
from ..methods.named import describe
from ..tasks import TASKS
from . import given, interrupt, results, terminal
from .merging import Merge, run_merge
from .options import (
    DenseTraining,
    Model,
    Own,
    Results,
    Scored,
    Training,
    check_sources,
    option,
)
from .own import names_of, study_of
from .trained import convolutional, dense, fitting, train

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
    own: Scored = dataclasses.field(default_factory=Scored)
    trained: DenseTraining = dataclasses.field(default_factory=DenseTraining)
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
    connection_model: Annotated[Path | None, option("FILE")] = None
    """A connection model saved by mcjax.flows: adds the method it was trained for."""
    points: int = 25
    """Number of t along each path."""
    results: Results = dataclasses.field(default_factory=Results)


@dataclasses.dataclass
class _Convolutional(Training):
    """Of a network that is trained: without a file."""

    epochs: Annotated[int | None, option("N", "digits and cifar10 30, mnist 5")] = None
    """Epochs of training."""
    channels: Annotated[tuple[int, ...] | None, option("N …", "8 16")] = None
    """Channels of the convolutions."""


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
    own: Own = dataclasses.field(default_factory=Own)
    trained: _Convolutional = dataclasses.field(default_factory=_Convolutional)
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
    results: Results = dataclasses.field(default_factory=Results)


@dataclasses.dataclass
class Explain:
    """Show the unit groups and layers found in a model, and why what is fixed is fixed."""

    network: Annotated[tyro.conf.Positional[Path], option("A")]
    """A checkpoint (safetensors, .npz, msgpack, orbax); needs --model or --torch."""
    inputs: Annotated[Path, option("FILE.npz")]
    """Your data: an array x."""
    model: Model = None
    """Your model as package.module:apply_fn, a pure function (params, x) -> outputs."""
    torch: Model = None
    """Your PyTorch model as package.module:build, a function that returns the torch.nn.Module."""


Command = Annotated[
    Annotated[Connect, tyro.conf.subcommand("connect")]
    | Annotated[Inputs, tyro.conf.subcommand("inputs")]
    | Annotated[Merge, tyro.conf.subcommand("merge")]
    | Annotated[Explain, tyro.conf.subcommand("explain")],
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.OmitArgPrefixes,
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
        print(f"mcjax: error: {reason(error)}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | OSError) else 1
    return 0


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
    check_sources(command.network, command.own, command.trained, "a file of parameters")
    if command.network is not None:
        title, out, study = _own_inputs(command)
    else:
        given.check_seeds((command.seed,), least=1)
        recipe = convolutional(command.trained, command.trained.channels)
        made = train(command.trained, recipe, (command.seed,), command.results, "inputs-")
        title, out = made.title, made.out
        study = {
            "model": made.apply, "params": made.networks[0], "metadata": made.metadata,
            "data": (made.data.x_test, made.data.y_test),
        }  # fmt: skip
    study |= {"delta": command.delta, "depth": command.rounds, "each": command.pairs,
              "seed": command.seed}  # fmt: skip
    asked = results.Asked(
        title, out, command.points, command.results.quiet, trained=command.network is None,
        command=command.results.said(arguments),
    )  # fmt: skip
    results.report_inputs(asked, study)


def _own_inputs(command: Inputs) -> tuple[str, Path, dict[str, Any]]:
    """The user's own network."""
    file = command.network
    assert file is not None
    if command.own.inputs is None:
        raise ValueError("a file of parameters needs --inputs data.npz, and --model or --torch")
    out = command.results.folder(f"inputs-{file.stem}")
    apply_fn, read, option = given.model(command.own.model, command.own.torch)
    arrays = given.arrays(command.own.inputs, ("x", "y"))
    params = read(file)
    given.check_task(TASKS["classification"], apply_fn, params, arrays, file, option)
    x, y = (arrays.get(f"{k}_test", arrays[k]) for k in ("x", "y"))
    study = {"model": apply_fn, "params": params, "data": (x, y),
             "metadata": {"network": str(file)}}  # fmt: skip
    return file.name, out, study


def _connect(command: Connect, arguments: list[str]) -> None:
    from ..methods import Flow
    from ..methods.named import from_text, trains

    methods = {name: from_text(name) for name in command.methods}
    if not 2 <= command.points <= _MOST_POINTS:
        raise ValueError(
            f"--points must be at least 2 and at most {_MOST_POINTS:,}, got {command.points}"
        )
    if command.curve_epochs is not None and command.curve_epochs < 1:
        raise ValueError(f"--curve-epochs must be at least 1, got {command.curve_epochs}")
    curves = _curves(command) if not methods else any(map(trains, methods.values()))
    if command.curve_epochs is not None and not curves:
        raise ValueError("--curve-epochs goes with methods that train, and none is asked for")
    check_sources(command.networks, command.own, command.trained, "two files of parameters")
    title, out, study = _own(command) if command.networks else _trained(command)
    if command.connection_model is not None:
        from ..saving import load

        model = load(command.connection_model.expanduser())
        try:
            methods[getattr(model, "method", "")] = Flow(model)
        except ValueError as error:
            raise ValueError(f"--connection-model {command.connection_model}: {error}") from None
    study["methods"] = _methods(command, study, methods)
    asked = results.Asked(
        title, out, command.points, command.results.quiet, trained=not command.networks,
        command=command.results.said(arguments),
    )  # fmt: skip
    if len(study["networks"]) == 2:
        results.report(asked, study)
    else:
        results.report_pairs(asked, study, [str(seed) for seed in study["metadata"]["seeds"]])


def _own(command: Connect) -> tuple[str, Path, dict[str, Any]]:
    """The user's own networks."""
    if len(command.networks) != 2:
        raise ValueError(
            f"expected two files of parameters, got {len(command.networks)} "
            "(of more: mcjax merge, or two at a time)"
        )
    first, second = names_of(command.networks)
    out = command.results.folder(f"{first}-{second}".replace("/", "-"))
    return f"A = {first}, B = {second}", out, study_of(command.networks, command.own)


def _trained(command: Connect) -> tuple[str, Path, dict[str, Any]]:
    """Two networks or more trained on a data set."""
    trained, seeds = command.trained, command.trained.seeds_or(0, 1)
    given.check_seeds(seeds)
    matching = not command.methods or bool({*command.methods} - {"linear", "arc"})
    recipe = dense(trained, trained.hidden, len(seeds), matching)
    made = train(trained, recipe, seeds, command.results)
    return made.title, made.out, made.study


def _curves(command: Connect) -> bool:
    """Whether methods that train are used where none is named: of two networks on digits."""
    two = len(command.trained.seeds_or(0, 1)) == 2
    return not command.networks and command.trained.dataset == "digits" and two


def _methods(command: Connect, study: dict[str, Any], methods: dict[str, Any]) -> dict[str, Any]:
    """The methods asked for, or those that come to mind for this study; name → method."""
    from ..methods import PRESETS, with_epochs, with_protocol
    from ..network.trace import trace
    from ..study import default_methods
    from ..training import Protocol

    digits = not command.networks and command.trained.dataset == "digits"
    if not command.methods:
        network = trace(study["network"], study["networks"][0], study["train"][0][:2])
        methods = {n: PRESETS[n] for n in default_methods(network, _curves(command))} | methods
    epochs = command.curve_epochs
    if epochs is None and not command.networks:
        epochs = _CHAIN_EPOCHS[command.trained.dataset]
    if epochs is not None and digits:  # as its end points are trained
        protocol = Protocol(epochs, batch=32)
        methods = {n: with_protocol(m, protocol) for n, m in methods.items()}
    elif epochs is not None:
        methods = {n: with_epochs(m, epochs) for n, m in methods.items()}
    return fitting(methods, len(study["train"][1]))
