"""What two networks have in common if one can stand for the other: their content.

The program (primitives, their parameters, constants by their bytes), the structure of parameters
and inputs, and the axes of the parameters. Nothing depends on addresses: values are numbered in
the order of the program; what has no content of its own that can be written down (functions,
meshes) is kept and compared.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .._static import Static
from .axes import Atom, Concat, Family
from .program import Constant, Program, flatten

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, range)


@dataclasses.dataclass(frozen=True)
class Identity:
    """Equal for networks with the same content.

    - `digest`: of everything that can be written down
    - `others`: what is compared, in the order of the program
    """

    digest: bytes
    others: tuple[Hashable, ...]

    def with_more(self, more: Any) -> Identity:
        """The identity of the same, and of something more that has a `repr` of its content."""
        text = self.digest + repr(more).encode()
        return Identity(hashlib.blake2b(text, digest_size=16).digest(), self.others)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return self.digest.hex()[:12]


def identity_of(program: Program, *rest: Any) -> Identity:
    """The identity of a program, and of whatever else makes up a network."""
    writer = _Writer()
    writer.program(program)
    for part in rest:
        writer.value(part)
    text = "\n".join(writer.out).encode()
    return Identity(hashlib.blake2b(text, digest_size=16).digest(), tuple(writer.others))


class _Same:
    """An object that equals nothing but itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return hash(type(self.value))


class _Writer:
    """Content as words, in `out`; what has none in `others`, numbered."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.others: dict[Hashable, int] = {}
        self.seen: dict[int, tuple[int, int, Any]] = {}  # id → where its words are, and it

    def program(self, program: Program) -> None:
        say = self.out.append
        say(f"program {len(program.inputs)}")
        for value in program.inputs:
            self.type(program.avals[value])
            say(f"input {value}")
        for equation in program.equations:
            say(equation.name)
            self.number(equation.primitive)
            self.operands(equation.inputs)
            say(f"-> {equation.outputs}")
            for name in sorted(equation.params):
                value = equation.params[name]
                if equation.bodies and _holds_programs(value):
                    continue  # the bodies follow
                say(name)
                self.value(value)
            for body in equation.bodies:
                self.program(body)
        self.operands(program.outputs)
        say("end")

    def operands(self, operands: Iterable[Any]) -> None:
        for operand in operands:
            if isinstance(operand, Constant):
                self.value(operand.value)
            else:
                self.out.append(str(operand))

    def type(self, aval: Any) -> None:
        self.out.append(f"{aval.dtype} {aval.shape} {getattr(aval, 'weak_type', False)}")

    def value(self, value: Any) -> None:
        """Anything that a primitive's parameters may hold."""
        if isinstance(value, _PLAIN):
            self.out.append(f"{type(value).__name__} {value!r}")
            return
        if id(value) in self.seen:
            first, last, _ = self.seen[id(value)]
            self.out.extend(self.out[first:last])
            return
        start = len(self.out)
        self.composed(value)
        self.seen[id(value)] = start, len(self.out), value

    def composed(self, value: Any) -> None:
        say, kind = self.out.append, type(value).__name__
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            self.array(value)
        elif isinstance(value, Atom):
            say(f"{value.index} {value.size} {value.fixed} {sorted(o.index for o in value.over)}")
        elif isinstance(value, Concat):
            say(f"concat {[sorted((k.index, i) for k, i in on) for on in value.labels]}")
            self.value(value.parts)
        elif isinstance(value, Family):
            say(f"family {value.key.index}")
            self.value(value.members)
        elif isinstance(value, enum.Enum):
            say(f"{kind} {value.name}")
        elif isinstance(value, tuple | list):
            say(f"{kind} {len(value)}")
            for part in value:
                self.value(part)
        elif isinstance(value, Mapping):
            say(f"{kind} {len(value)}")
            for key in sorted(value, key=repr):
                self.value(key)
                self.value(value[key])
        elif isinstance(value, set | frozenset) and all(isinstance(v, _PLAIN) for v in value):
            say(f"{kind} {sorted(map(repr, value))}")
        elif isinstance(value, jax.ShapeDtypeStruct):
            self.type(value)
        elif _holds_programs(value):
            self.program(flatten(value))
        elif isinstance(value, type):
            say(f"type {value.__module__}.{value.__qualname__}")
            self.other(value)
        elif dataclasses.is_dataclass(value):
            say(kind)
            for field in dataclasses.fields(value):
                if field.compare:
                    say(field.name)
                    self.value(getattr(value, field.name))
        else:
            say(f"other {kind}")
            self.other(value)

    def array(self, value: Any) -> None:
        weak = getattr(value, "weak_type", False)
        self.out.append(f"array {value.dtype} {value.shape} {weak}")
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
            value = jax.random.key_data(value)
        tracer = isinstance(value, jax.core.Tracer)
        if tracer or value.dtype == object or not getattr(value, "is_fully_addressable", True):
            self.number(_Same(value))
            return
        raw = np.ascontiguousarray(jax.device_get(value)).reshape(-1).view(np.uint8).data
        short = raw.nbytes <= 64
        self.out.append(raw.tobytes().hex() if short else hashlib.blake2b(raw).hexdigest())

    def other(self, value: Any) -> None:
        held: Hashable = Static(value)
        try:
            hash(held)
        except TypeError:
            held = _Same(value)
        self.number(held)

    def number(self, value: Hashable) -> None:
        """What is compared: equal things have one number."""
        self.out.append(f"#{self.others.setdefault(value, len(self.others))}")


def _holds_programs(value: Any) -> bool:
    """Whether a parameter is a jaxpr, or some of them."""
    if isinstance(value, tuple | list):
        return bool(value) and all(map(_holds_programs, value))
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


__all__ = ["Identity", "identity_of"]
