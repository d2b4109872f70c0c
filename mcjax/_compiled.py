"""Compiled functions that are kept while they are used, and let go with what they close over.

`jax.jit` with static arguments keeps every function, network and path structure that it was ever
called with. Here a function is compiled once for each value of them, and the oldest go.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

# Results kept at a time.
KEPT = 64

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
