"""What a user hands the command."""

from __future__ import annotations

OWN = ("a.safetensors", "b.safetensors")


MODEL = """
import flax.linen as nn, jax, jax.numpy as jnp

module = nn.Dense(3)

def apply_fn(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"]

def broken(params, x):
    return x @ params["no_such_leaf"]

class Detour:
    label = "By the origin"

    def connect(self, problem):
        import mcjax
        origin = jax.tree.map(jnp.zeros_like, problem.a)
        return mcjax.methods.Connection(mcjax.path.PolygonalChain([problem.a, origin, problem.b]))

detour, nothing = Detour(), 3

def in_dict(params, x):
    return {"logits": apply_fn(params, x)}

def one_number(params, x):
    return apply_fn(params, x)[:, :1]

def stops(params, x):
    raise SystemExit(3)
"""


def own(name, *more):
    """The arguments that connect the two networks."""
    return ["connect", *OWN, "--model", f"{name}:apply_fn", "--inputs", "data.npz", *more]
