"""The contract of tasks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..tasks import Task
from ._require import require


def check_task(task: Task, outputs: Any, y: Any) -> None:
    """Raise `AssertionError` unless a task scores outputs of a model as it should.

    - its own check lets outputs and labels pass
    - each metric gives one finite number an example, which does not depend on the others, under
      `jit` too
    - the loss can be differentiated in the outputs, and its high values are the bad ones
    - a task of the same parts is equal and hashes alike, so that nothing is compiled twice

    **Arguments:**
    - `outputs`: what `apply_fn` returns for two examples or more
    - `y`: their labels

        >>> import jax.numpy as jnp, mcjax
        >>> mcjax.testing.check_task(
        ...     mcjax.tasks.REGRESSION, jnp.array([[0.5], [2.0]]), jnp.array([[1.0], [2.0]]))
    """
    task.check(task.outputs(outputs), y)
    n = np.shape(jax.tree.leaves(y)[0])[0]
    require(n >= 2, "two examples are needed to see whether each is scored by itself")
    found = task.values(outputs, y)
    compiled = jax.jit(task.values)(outputs, y)
    last = jax.tree.map(lambda v: v[-1:], (outputs, y))
    alone = task.values(*last)
    require(found.keys() == task.metrics.keys(), "values() must give each metric")
    for name, values in found.items():
        shape = np.shape(values)
        require(
            shape == (n,), f"metrics[{name!r}] has shape {shape}, expected one value each: {(n,)}"
        )
        require(np.isfinite(np.asarray(values)).all(), f"metrics[{name!r}] is not finite")
        same = np.allclose(values, compiled[name], rtol=1e-4, atol=1e-6)
        require(same, f"metrics[{name!r}] differs under jit")
        same = np.allclose(values[-1], alone[name][0], rtol=1e-4, atol=1e-6)
        require(same, f"metrics[{name!r}] of an example depends on the others")
        worst = task.worst(name, values)
        high = task.worse[name] == "high"
        require(worst == (np.max(values) if high else np.min(values)), f"worst({name!r}) is not")
    require(np.array_equal(task.losses(outputs, y), found[task.loss]), "losses() are not the loss")
    require(task.worse[task.loss] == "high", "of the loss, high values are the bad ones")
    gradient = jax.grad(lambda o: jnp.mean(task.losses(o, y)))(outputs)
    finite = all(np.isfinite(np.asarray(g)).all() for g in jax.tree.leaves(gradient))
    require(finite, "the gradient of the loss is not finite")
    copy = dataclasses.replace(task)
    require(copy == task and hash(copy) == hash(task), "a task of the same parts must be equal")
