"""Which part of its operands a result shows: the dimension it comes from, whether all of it."""

from __future__ import annotations

import numpy as np

from .program import Equation, Operand, Program

# What shows the entries of its first operand as they are, and in another shape.
CASTS = {"convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier"}
SHAPES = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "slice"}


def inner_output(program: Program, equation: Equation, value: Operand) -> tuple[Operand, int]:
    """The value of a scan's body that a result shows, and how many axes are put before it."""
    inner = equation.bodies[0].outputs[equation.outputs.index(value)]  # type: ignore[arg-type]
    return inner, len(program.shape(value)) - len(program.shape(inner))


def source_dim(program: Program, equation: Equation, dim: int) -> int | None:
    """The operand's dimension that a dimension of its view shows, whole and in order."""
    params, shape = equation.params, program.shape(equation.inputs[0])
    n = program.shape(equation.outputs[0])[dim]
    match equation.name:
        case "transpose":
            source = params["permutation"][dim]
        case "broadcast_in_dim":
            dims = list(params["broadcast_dimensions"])
            source = dims.index(dim) if dim in dims else None
        case "slice":
            source = dim
        case _:  # reshapes: as many entries before it
            before = int(np.prod(program.shape(equation.outputs[0])[:dim], dtype=int))
            counts = np.cumprod([1, *shape])
            found = [d for d, m in enumerate(shape) if counts[d] == before and m == n]
            source = found[-1] if found else None
    return source if source is not None and shape[source] == n else None


def operand_dim(program: Program, equation: Equation, dim: int) -> tuple[int, int] | None:
    """(operand, its dimension) that a free dimension of a contraction's result comes from."""
    if equation.name == "conv_general_dilated":
        dims = equation.params["dimension_numbers"]
        return (1, dims.rhs_spec[0]) if dim == dims.out_spec[1] else None
    contracted, batch = equation.params["dimension_numbers"]
    free = [
        [d for d in range(len(program.shape(o))) if d not in (*c, *b)]
        for o, c, b in zip(equation.inputs, contracted, batch, strict=True)
    ]
    sources = [(side, d) for side in (0, 1) for d in free[side]]
    at = dim - len(batch[0])
    return sources[at] if at >= 0 else None


def covered(program: Program, equation: Equation) -> bool:
    """Whether each window of a convolution holds an input, not only padding and dilation."""
    if equation.name != "conv_general_dilated":
        return True
    p = equation.params
    dims, shapes = p["dimension_numbers"], list(map(program.shape, equation.inputs))
    for i, (d, k) in enumerate(zip(dims.lhs_spec[2:], dims.rhs_spec[2:], strict=True)):
        apart = p["lhs_dilation"][i]
        start = np.arange(program.shape(equation.outputs[0])[dims.out_spec[2 + i]])[:, None]
        at = start * p["window_strides"][i] - p["padding"][i][0]
        at = at + np.arange(shapes[1][k]) * p["rhs_dilation"][i]
        inside = (at >= 0) & (at < shapes[0][d] * apart) & (at % apart == 0)
        if not inside.any(1).all():
            return False
    return True
