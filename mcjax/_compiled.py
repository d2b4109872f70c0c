"""Compiled functions that are kept while they are used, and let go with what they close over.

`jax.jit` with static arguments keeps every function, network and path structure that it was ever
called with. Here a function is compiled once for each value of them, and the oldest go.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

# Results kept at a time: more than the programs that one connection of a deep network takes.
KEPT = 128

_made: OrderedDict[Any, Any] = OrderedDict()
_lock = threading.Lock()


def compiled(
    function: Callable, *static: Any, of: Any = None, options: tuple[tuple[str, Any], ...] = ()
) -> Callable:
    """`jax.jit` of a function with its first arguments given; the same object for equal ones.

    At most `KEPT` of them are kept. With one that is dropped go its programs, and what `static`
    holds (functions, networks).

    **Arguments:**
    - `function`: of a module, not made anew for each call
    - `static`: its first arguments, hashable
    - `of`: what else the programs belong to (the structure of a path, say, which may hold a
      network), so that they go with it
    - `options`: of `jax.jit`, as pairs

        >>> from mcjax._compiled import compiled
        >>> def scaled(scale, x):
        ...     return scale * x
        >>> float(compiled(scaled, 3)(2.0)), compiled(scaled, 3) is compiled(scaled, 3)
        (6.0, True)
    """
    return remembered(_jitted, function, static, of, options)


def _jitted(function: Callable, static: tuple, of: Any, options: tuple) -> Callable:
    return jax.jit(partial(function, *static), **dict(options))


def compiled_for(*names: str, once: bool = False, **options: Any) -> Callable[[Callable], Callable]:
    """`jax.jit` with static arguments as a decorator, whose programs are let go as `compiled`'s.

    **Arguments:**
    - `names`: of the static arguments, hashable
    - `once`: whether each program is run once, so that optimising it takes longer than it saves
    - `options`: of `jax.jit`

        >>> from mcjax._compiled import compiled_for
        >>> @compiled_for("scale")
        ... def scaled(scale, x):
        ...     return scale * x
        >>> float(scaled(3, 2.0))
        6.0
    """

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            static = tuple((name, given.pop(name)) for name in names if name in given)
            # The structure of what else is given may hold a network, too.
            structure = jax.tree.structure(given)
            program = remembered(
                _jitted_for, function, static, structure, once, tuple(options.items())
            )
            return program(**given)

        return call

    return decorate


def _jitted_for(function: Callable, static: tuple, of: Any, once: bool, options: tuple) -> Callable:
    # A CPU's compiler takes seconds for a few random draws; at this level their bits are the same
    # (seen of seven of JAX's initialisers, float32).
    quick = once and jax.default_backend() == "cpu"
    quick = quick and not jax.config.read("jax_disable_most_optimizations")  # quicker still
    levels = {"xla_backend_optimization_level": 1} if quick else None
    return jax.jit(partial(function, **dict(static)), compiler_options=levels, **dict(options))


def remembered(function: Callable, *arguments: Any) -> Any:
    """What a function returns, from memory if it was called with equal arguments lately.

    As `functools.lru_cache`, with one memory for all functions, so that what arguments hold on to
    is bounded once.
    """
    key = function, arguments
    with _lock:
        if key in _made:
            _made.move_to_end(key)
            return _made[key]
    made = function(*arguments)  # which may ask for others
    with _lock:
        made = _made.setdefault(key, made)
        while len(_made) > KEPT:
            dropped = _made.popitem(last=False)[1]
            if hasattr(dropped, "clear_cache"):
                dropped.clear_cache()
        return made
