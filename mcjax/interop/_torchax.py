"""torchax, in which torch's operators are JAX's."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from .._lazy import lazily

torch = lazily("torch")


@functools.cache
def environment() -> Any:
    """Inside of it (`with environment():`) torch's operators on torchax's tensors are JAX's.

    **Raises:** `ImportError` without torch and torchax.
    """
    try:
        with _former_operators():
            return _environment(importlib.import_module("torchax.tensor"))
    except ImportError as error:
        raise ImportError(
            f"PyTorch modules need torch and torchax ({error}): pip install 'mcjax[torch]'"
        ) from error


def _environment(tensor: Any) -> Any:
    class Environment(tensor.Environment):
        """Takes torch's own tensors too: constants that a module has made or keeps."""

        def t2j_iso(self, torchtensors: Any) -> Any:
            def wrapped(value: Any) -> Any:
                own = isinstance(value, tensor.Tensor | tensor.View)
                return value if own else tensor.Tensor(self.t2j_copy(value), self)

            tree_map = torch.utils._pytree.tree_map_only
            return super().t2j_iso(tree_map(torch.Tensor, wrapped, torchtensors))

        def get_and_rotate_prng_key(self, generator: Any = None) -> Any:
            # torchax would keep a key of one trace for the next.
            raise ValueError(
                "the module draws random numbers in evaluation mode, so its outputs are no "
                "function of its inputs: F.dropout(x) drops units unless it is given "
                "training=self.training"
            )

    env = Environment()
    for name in ("avg_pool1d", "avg_pool2d", "avg_pool3d"):
        packet = getattr(torch.ops.aten, name)
        found = env._get_op_or_decomp(packet.default)
        ours = dataclasses.replace(found, func=_averaged(found.func))
        env._ops |= {packet: ours, packet.default: ours}
    return env


def _averaged(pool: Any) -> Any:
    """torchax (0.0.13) divides sums of windows cut off by the edge (`ceil_mode`) by too much."""

    def averaged(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
                 padded: bool = True, divisor: Any = None) -> Any:  # fmt: skip
        if ceil_mode and padded and divisor is None:
            if padding != 0 and any(padding):
                raise ValueError("avg_pool with ceil_mode=True and padding cannot be carried to "
                                 "JAX, but with count_include_pad=False")  # fmt: skip
            padded = False
        return pool(x, kernel, stride, padding, ceil_mode, padded, divisor)

    return averaged


@contextlib.contextmanager
def _former_operators() -> Iterator[None]:
    """torchax (0.0.13) lists operators that torch has no more: of named tensors since 2.13, and
    `cholesky` and `qr` (those of `torch.linalg` have other names) since 2.14.

    As long as it is imported, a name of such an operator stands for nothing.
    """
    with (
        _nothing_for(torch._ops.OpOverloadPacket, lambda n: "names" in n or "dimname" in n.lower()),
        _nothing_for(torch._ops._OpNamespace, lambda n: n in ("cholesky", "qr")),
    ):
        yield


class _Nothing:
    """An operator that is not there."""

    def __init__(self) -> None:
        self.default = object()


@contextlib.contextmanager
def _nothing_for(owner: type, former: Callable[[str], bool]) -> Iterator[None]:
    get: Any = owner.__getattr__  # type: ignore[attr-defined]

    def get_or_nothing(self: Any, name: str) -> Any:
        try:
            return get(self, name)
        except AttributeError:
            if former(name):
                return _Nothing()
            raise

    owner.__getattr__ = get_or_nothing  # type: ignore[attr-defined]
    try:
        yield
    finally:
        owner.__getattr__ = get  # type: ignore[attr-defined]
