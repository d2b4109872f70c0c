"""A traced function as a flat list of equations that can be analysed and run.

`jax.make_jaxpr` nests calls (`jit`, `custom_jvp_call`, `checkpoint`, …) that mean nothing
to an analysis. `Program` inlines them, gives every value in the whole program one integer,
and keeps only real control flow (`scan`, `while`, `cond`) nested. A collective over an axis of a
`vmap` is the reduction that it is there.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.core
import jax.numpy as jnp

from .. import _check_model
from .._inputs import type_of, unmark
from .._lazy import lazily
from .._static import unpack

if TYPE_CHECKING:
    from jax.extend import core as jex
else:
    jex = lazily("jax.extend.core")  # its package imports Pallas

# Calls that only wrap a jaxpr: inlined. The parameter that holds the jaxpr varies.
_CALLS = {
    "jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2",
    "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin", "composite",
}  # fmt: skip
_CUSTOM = {n for n in _CALLS if n.startswith("custom_")}
_BODY_NAMES = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_COLLECTIVES = {
    "psum": jax.lax.reduce_sum, "pmax": jax.lax.reduce_max, "pmin": jax.lax.reduce_min
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An operand whose value is known at trace time."""

    value: Any


Operand = int | Constant


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied to values; `bodies` are the sub-programs of control flow."""

    index: int
    primitive: jex.Primitive
    inputs: tuple[Operand, ...]
    outputs: tuple[int, ...]
    params: Mapping[str, Any]
    bodies: tuple[Program, ...] = ()

    @property
    def name(self) -> str:
        return self.primitive.name

    def bind(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """What the primitive makes of its arguments."""
        params = self.primitive.get_bind_params(dict(self.params))
        results = self.primitive.bind(*arguments, **params)
        return results if self.primitive.multiple_results else [results]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Equations in execution order over integer-named values."""

    inputs: tuple[int, ...]
    outputs: tuple[Operand, ...]
    equations: tuple[Equation, ...]
    avals: Mapping[int, jax.core.ShapedArray]

    def aval(self, operand: Operand) -> jax.core.ShapedArray:
        if isinstance(operand, Constant):
            return jax.typeof(operand.value)
        return self.avals[operand]

    def shape(self, operand: Operand) -> tuple[int, ...]:
        return tuple(self.aval(operand).shape)

    def all_equations(self) -> Iterable[Equation]:
        """Every equation, those of scan, while and cond bodies included."""
        for equation in self.equations:
            yield equation
            for body in equation.bodies:
                yield from body.all_equations()


def scan_counts(program: Program, equation: Equation) -> tuple[int, int]:
    """(constants, carries) of a scan, from the ranks of its operands and its body's.

    JAX 0.10 and 0.12 name these numbers differently; what is scanned has one axis more outside.
    """
    body = equation.bodies[0]
    pairs = zip(equation.outputs, body.outputs, strict=True)
    n_carry = sum(len(program.shape(o)) == len(body.shape(i)) for o, i in pairs)
    pairs = zip(equation.inputs, body.inputs, strict=True)
    n_scanned = sum(len(program.shape(o)) != len(body.shape(i)) for o, i in pairs)
    return len(equation.inputs) - n_carry - n_scanned, n_carry


class _Inliner:
    def __init__(self, opaque: set[str]) -> None:
        self.opaque = opaque
        self.values = itertools.count()
        self.indices = itertools.count()
        self.avals: dict[int, Any] = {}

    def fresh(self, aval) -> int:
        value = next(self.values)
        self.avals[value] = aval
        return value

    def program(self, closed) -> Program:
        jaxpr, constants = _open(closed)
        inputs = tuple(self.fresh(v.aval) for v in jaxpr.invars)
        equations: list[Equation] = []
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        env |= {v: Constant(c) for v, c in zip(jaxpr.constvars, constants, strict=True)}
        outputs = self.emit(jaxpr, env, equations)
        return Program(inputs, outputs, used(equations, outputs), self.avals)

    def emit(self, jaxpr, env, equations) -> tuple[Operand, ...]:
        def read(var) -> Operand:
            return Constant(var.val) if isinstance(var, jex.Literal) else env[var]

        for eqn in jaxpr.eqns:
            inputs = tuple(read(v) for v in eqn.invars)
            inner = None if eqn.primitive.name in self.opaque else _call_body(eqn)
            if inner is not None:
                body, constants = _open(inner)
                inner_env = dict(zip(body.invars, inputs, strict=True))
                inner_env |= {
                    v: Constant(c) for v, c in zip(body.constvars, constants, strict=True)
                }
                results = self.emit(body, inner_env, equations)
                env.update(zip(eqn.outvars, results, strict=True))
                continue
            outputs = tuple(self.fresh(v.aval) for v in eqn.outvars)
            env.update(zip(eqn.outvars, outputs, strict=True))
            bodies = tuple(self.program(b) for b in _control_flow_bodies(eqn))
            equations.append(
                Equation(next(self.indices), eqn.primitive, inputs, outputs, eqn.params, bodies)
            )
        return tuple(read(v) for v in jaxpr.outvars)


def used(equations: Sequence[Equation], outputs: Sequence[Operand]) -> tuple[Equation, ...]:
    """The equations that the outputs need."""
    needed = set(outputs)
    kept = []
    for equation in reversed(equations):
        if needed.intersection(equation.outputs):
            needed.update(equation.inputs)
            kept.append(equation)
    return tuple(reversed(kept))


def _open(jaxpr) -> tuple[Any, Sequence[Any]]:
    """(jaxpr, constants) of an open or a closed jaxpr."""
    if hasattr(jaxpr, "jaxpr"):
        return jaxpr.jaxpr, jaxpr.consts
    return jaxpr, ()


def _call_body(eqn):
    if eqn.primitive.name in _COLLECTIVES:
        return _reduction(eqn)
    if eqn.primitive.name not in _CALLS:
        return None
    for name in _BODY_NAMES:
        if name in eqn.params:
            return eqn.params[name]
    return None


def _reduction(eqn):
    """What a collective is over axes of `vmap`, which are numbers; None over those of a mesh."""
    axes = eqn.params["axes"]
    if not all(isinstance(d, int) for d in axes):
        return None
    (given,) = eqn.invars
    type_ = jax.ShapeDtypeStruct(given.aval.shape, given.aval.dtype)
    return jax.make_jaxpr(lambda x: _COLLECTIVES[eqn.primitive.name](x, axes))(type_)


def _control_flow_bodies(eqn) -> tuple[Any, ...]:
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        return (params["jaxpr"],)
    if name == "while":
        return (params["cond_jaxpr"], params["body_jaxpr"])
    if name == "cond":
        return tuple(params["branches"])
    return ()


def flatten(closed_jaxpr, keep_custom: bool = False) -> Program:
    """The closed jaxpr as a `Program`; `keep_custom` leaves calls with custom gradients whole."""
    return _Inliner(_CUSTOM if keep_custom else set()).program(closed_jaxpr)


def make_program(function: Callable, *args) -> Program:
    """Trace `function(*args)` (arrays or `jax.ShapeDtypeStruct`s) into a `Program`."""
    return flatten(jax.make_jaxpr(function)(*args))


def trace_program(
    apply_fn: Callable, treedef, types: Sequence[Any], x: Any, keep_custom: bool = False
) -> tuple[Program, Any]:
    """The program of `apply_fn` on flat parameters followed by flat inputs, and its output tree.

    **Arguments:**
    - `treedef`, `types`: structure and leaf types of the packed parameters
    - `x`: inputs (arrays, tracers or `jax.ShapeDtypeStruct`s), those that are shared marked
    - `keep_custom`: leave calls with custom gradients whole, for a program that is differentiated
    """
    x_leaves, x_treedef = jax.tree.flatten(x)
    x_types = [type_of(v) for v in x_leaves]
    out_tree = None

    def flat(*arguments):
        nonlocal out_tree
        params = unpack(jax.tree.unflatten(treedef, arguments[: len(types)]))
        inputs = unmark(jax.tree.unflatten(x_treedef, arguments[len(types) :]))
        outputs = apply_fn(params, inputs)
        _check_model.outputs(outputs)
        leaves, out_tree = jax.tree.flatten(outputs)
        return leaves

    with jax.disable_jit(False):  # it would unroll loops: another program, with other axes
        jaxpr = jax.make_jaxpr(flat)(*types, *x_types)
    return flatten(jaxpr, keep_custom), out_tree


def environment(program: Program, inputs: Sequence[Any]) -> dict[int, Any]:
    """Value → array, for a program's inputs, in the precision that was traced."""

    def conform(value: int, array: Any) -> Any:
        dtype, given = program.avals[value].dtype, getattr(array, "dtype", None)
        inexact = given is not None and jnp.issubdtype(given, jnp.inexact)
        return array if given == dtype or not inexact else jnp.asarray(array, dtype)

    return {v: conform(v, x) for v, x in zip(program.inputs, inputs, strict=True)}


def run(
    program: Program,
    inputs: Sequence[Any],
    *,
    given: Mapping[int, Any] | None = None,
    observe: Mapping[int, Callable[[Any], Any]] | None = None,
) -> tuple[list[Any], dict[int, Any]]:
    """Evaluate `program`; jit-able and vmap-able (gradients ignore custom rules).

    **Arguments:**
    - `inputs`: one array per `program.inputs`, of the traced precision or another
    - `given`: values that replace what an equation would compute
    - `observe`: value → function of it; the results come back. A value inside a scan
      comes back stacked along a new leading axis of the scan's length.

    **Returns:** (outputs, observed)
    """
    observe = dict(observe or {})
    env = environment(program, inputs) | dict(given or {})
    observed: dict[int, Any] = {}

    def read(operand: Operand):
        return operand.value if isinstance(operand, Constant) else env[operand]

    def note(value: int) -> None:
        if value in observe:
            observed[value] = observe[value](env[value])

    for value in (*program.inputs, *(given or ())):
        note(value)
    for equation in program.equations:
        if all(o in env for o in equation.outputs):
            continue
        arguments = [read(o) for o in equation.inputs]
        inside = _observed_inside(equation, observe)
        if inside:
            results, seen = _scan(program, equation, arguments, inside)
            observed.update(seen)
        else:
            results = equation.bind(arguments)
        for value, result in zip(equation.outputs, results, strict=True):
            env[value] = result
            note(value)
    return [read(o) for o in program.outputs], observed


def _observed_inside(equation: Equation, observe: Mapping[int, Callable]) -> dict[int, Callable]:
    if equation.name != "scan" or not observe:
        return {}
    body = equation.bodies[0]
    values = set(body.inputs)
    for inner in body.all_equations():
        values.update(inner.outputs)
        for deeper in inner.bodies:
            values.update(deeper.inputs)
    return {v: f for v, f in observe.items() if v in values}


def _scan(program: Program, equation: Equation, arguments, observe):
    """Run a scan through the interpreter so that its body can be observed."""
    params, body = equation.params, equation.bodies[0]
    n_const, n_carry = scan_counts(program, equation)
    constants = arguments[:n_const]
    init, xs = arguments[n_const : n_const + n_carry], arguments[n_const + n_carry :]

    def step(carry, x):
        outputs, seen = run(body, [*constants, *carry, *x], observe=observe)
        return outputs[:n_carry], (outputs[n_carry:], seen)

    carry, (ys, seen) = jax.lax.scan(
        step,
        list(init),
        list(xs),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *ys], seen
