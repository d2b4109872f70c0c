"""PyTorch: a module as `(apply_fn, params)`, and parameters as a state dict that it takes.

Parameters are a dict by torch's own names, parameters and buffers together, as in a state dict; a
tied one stands there once, under its first name. `mcjax.save` writes them under these names, which
`safetensors.torch` reads, and `mcjax.load` reads what `safetensors.torch` has written: checkpoints
go both ways without torch. Nothing is ever unpickled.

    pip install 'mcjax[torch]'
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._lazy import lazily
from .._tree import is_held, named_leaves
from .._types import Params
from ._torchax import environment

torch = lazily("torch")


def from_module(module: Any) -> tuple[Callable[[Params, Any], Any], dict[str, Any]]:
    """A `torch.nn.Module` as a pure function of its parameters and inputs, and its parameters.

    `apply_fn(params, x)` is `module(x)` with the parameters and buffers of `params`, in JAX: for
    `jax.jit`, `jax.grad`, `mcjax.trace`. What the module does to itself is dropped. Modules
    run through torchax, operator by operator.

    **Arguments:**
    - `module`: in evaluation mode, on any device; it is copied (without its parameters) and stays
      as it is

    **Returns:** `(apply_fn, params)`. Of `x`, an array is the module's one argument, a tuple its
    positional and a dict its named arguments; of its outputs, mappings come back as dicts (as
    Hugging Face's do).

    **Raises:** `ValueError` for what is no module, one in training mode, compiled by
    `torch.jit`, on the meta device, or that cannot be copied, and in a call for one that draws
    random numbers; `ImportError` without torch and torchax.

        >>> import jax.numpy as jnp, torch, mcjax
        >>> module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()
        >>> apply_fn, params = mcjax.interop.torch.from_module(module)
        >>> sorted(params)
        ['0.bias', '0.weight']
        >>> apply_fn(params, jnp.ones((2, 3))).shape
        (2, 4)
    """
    _check_module(module)
    params = from_state_dict(module.state_dict(), module)
    env = environment()
    # Only the structure is kept: parameters come with each call.
    hollow = {id(v): _hollow(v) for v in module.state_dict(keep_vars=True).values() if _is(v)}
    # What is computed from parameters (by weight_norm and prune) torch copies without their graph.
    computed = [v for part in module.modules() for v in vars(part).values() if _is(v)]
    hollow |= {id(v): v.detach().clone() for v in computed if not v.is_leaf}
    try:
        module = copy.deepcopy(module, hollow)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"module cannot be copied: {error}") from error

    def apply_fn(params: Params, x: Any) -> Any:
        given, x = env.j2t_iso(jax.tree.map(jnp.asarray, (dict(params), x)))
        args, named = ((), x) if isinstance(x, dict) else (x if type(x) is tuple else (x,), {})
        fresh = copy.deepcopy(module)  # nothing that it keeps of a call is seen by the next
        with env:
            out = torch.func.functional_call(fresh, given, args, named)
            return _plain(out, env)

    return apply_fn, params


def from_state_dict(state_dict: Mapping[str, Any], module: Any) -> dict[str, Any]:
    """Parameters of a module from a state dict: tensors or arrays by torch's names.

    **Arguments:**
    - `state_dict`: of tensors, or of arrays, as `mcjax.load` reads them from `.safetensors`; of
      tied parameters one is enough
    - `module`: what it belongs to, in whose shapes it must be and in whose types it is given

    **Returns:** a dict of JAX arrays in the order of `module.state_dict()`; NumPy arrays of what
    JAX would round (64 bits).

    **Raises:** `ValueError` naming what is missing, unknown, of another shape, or differs between
    tied parameters.

        >>> import numpy as np, torch, mcjax
        >>> module = torch.nn.Linear(3, 2).eval()
        >>> state = {"weight": np.ones((2, 3)), "bias": np.zeros(2)}
        >>> mcjax.interop.torch.from_state_dict(state, module)["weight"].dtype.name
        'float32'
    """
    _check_module(module)
    types, known = _tensors(module), module.state_dict()
    state_dict = _flat(state_dict, known)
    unknown = [k for k in state_dict if k not in known]
    if unknown:
        raise ValueError(
            f"state_dict has {unknown[0]!r} ({len(unknown)} in all), which the module has not"
            + _prefix(state_dict, known)
        )
    params: dict[str, Any] = {}
    for names in _tied(types):
        given = {n: state_dict[n] for n in names if n in state_dict}
        if not given:
            raise ValueError(f"state_dict has no {names[0]!r}, which the module has")
        values = [_array(v, types[n], f"state_dict: {n!r}") for n, v in given.items()]
        if any(values[0].tobytes() != v.tobytes() for v in values[1:]):
            raise ValueError(
                f"state_dict: {' and '.join(map(repr, given))} are one parameter of the module, "
                "and have different values"
            )
        value = values[0]
        params[names[0]] = jnp.asarray(value) if is_held(value.dtype) else value
    return params


def to_state_dict(params: Params, module: Any) -> dict[str, Any]:
    """The state dict of parameters, bit for bit: `module.load_state_dict` takes it.

    **Arguments:**
    - `params`: of `from_module`, or what mcjax has made of them (aligned, merged, a path's point)
    - `module`: the module they belong to; it is left as it is

    **Returns:** tensors on the CPU, in the names (tied ones too), shapes and types of
    `module.state_dict()`.

    **Raises:** `ValueError` naming what is missing, unknown or of another shape.

        >>> import torch, mcjax
        >>> module = torch.nn.Linear(3, 2).eval()
        >>> apply_fn, params = mcjax.interop.torch.from_module(module)
        >>> module.load_state_dict(mcjax.interop.torch.to_state_dict(params, module))
        <All keys matched successfully>
    """
    _check_module(module)
    types, state = _tensors(module), dict(module.state_dict())
    firsts = {n: names[0] for names in _tied(types) for n in names}
    for name in firsts.values():
        if name not in params:
            raise ValueError(f"params: leaf {name!r} is not there, which the module has")
    unknown = [k for k in params if k not in firsts.values()]
    if unknown:
        raise ValueError(f"params: leaf {unknown[0]!r} is nothing of the module's")
    made = {n: _tensor(_array(params[n], types[n], f"params: leaf {n!r}"), types[n].dtype)
            for n in set(firsts.values())}  # fmt: skip
    # What is no tensor (a module's extra state) stays the module's.
    return {n: made[firsts[n]] if n in firsts else v for n, v in state.items()}


def _check_module(module: Any) -> None:
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got a {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("module is compiled by torch.jit; give the torch.nn.Module that it was of")
    training = [name for name, part in module.named_modules() if part.training]
    if training:
        where = f"its part {training[0]!r}" if training[0] else "it"
        raise ValueError(f"module: {where} is in training mode; call module.eval() first")
    for name, tensor in _tensors(module).items():
        if tensor.is_meta:
            raise ValueError(f"module: {name!r} is on the meta device and has no values")


def _is(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _tensors(module: Any) -> dict[str, Any]:
    """Torch's name → parameter or buffer."""
    return {k: v for k, v in module.state_dict(keep_vars=True).items() if _is(v)}


def _tied(tensors: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The names of each parameter: more than one where it is used in several places."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    return [tuple(n) for n in names.values()]


def _flat(state_dict: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The same by whole names: `mcjax.load` splits those that hold a `/`."""
    flat: dict[str, Any] = {}
    for name, value in state_dict.items():
        split = isinstance(value, dict | list) and name not in known
        parts = [(f"{name}/{k}", v) for k, v in named_leaves(value)] if split else [(name, value)]
        flat |= dict(parts)
    return flat


def _prefix(state_dict: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """What to do if all of the module's names are there with the same before them."""
    first = next(iter(known), "")
    before = (name.removesuffix(first) for name in state_dict if name.endswith(f".{first}"))
    found = next((p for p in before if all(p + name in state_dict for name in known)), None)
    if found is None:
        return ""
    return (
        f"; its names stand there with {found!r} before them (as DataParallel writes them): take "
        f"{{k.removeprefix({found!r}): v for k, v in state_dict.items()}}"
    )


def _hollow(tensor: Any) -> Any:
    """The same parameter or buffer without values."""
    empty = tensor.detach().to("meta")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def _plain(out: Any, env: Any) -> Any:
    """A module's outputs as arrays in plain containers."""
    if isinstance(out, Mapping):
        return {k: _plain(v, env) for k, v in out.items()}
    if type(out) in (list, tuple) or hasattr(out, "n_sequence_fields"):  # torch.max's, say
        kind = list if type(out) is list else tuple
        return kind(_plain(v, env) for v in out)
    return env.t2j_iso(out)


def _array(value: Any, like: Any, name: str) -> np.ndarray:
    """A tensor or an array as a NumPy array of the shape and the type of a tensor, copied."""
    array = _numpy(value) if _is(value) else np.asarray(value)
    if array.shape != tuple(like.shape):
        raise ValueError(
            f"{name} has shape {array.shape}, expected {tuple(like.shape)} as in the module"
        )
    dtype = _dtype(like.dtype)
    if array.dtype.kind in "OSUMm" or (array.dtype.kind == "c" and dtype.kind != "c"):
        raise ValueError(f"{name} is of type {array.dtype}, expected {dtype} as in the module")
    return np.array(array, dtype, order="C")


def _dtype(dtype: Any) -> np.dtype:
    """NumPy's dtype for torch's: `torch.bfloat16`, …"""
    return jnp.dtype(str(dtype).removeprefix("torch."))


def _numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype in (torch.bfloat16,) or "float8" in str(tensor.dtype):  # types NumPy has not
        bits = getattr(torch, f"uint{8 * tensor.element_size()}")
        return tensor.view(bits).numpy().view(_dtype(tensor.dtype))
    return tensor.numpy()


def _tensor(array: np.ndarray, dtype: Any) -> Any:
    if array.dtype.kind == "V" or array.dtype.name not in np.sctypeDict:  # of ml_dtypes
        return torch.from_numpy(array.view(f"u{array.dtype.itemsize}")).view(dtype)
    return torch.from_numpy(array)
