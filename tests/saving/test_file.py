"""Parameters in files: every kind comes back, and nothing is ever unpickled."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict, namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import mcjax


def params():
    return {"params": {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}}


def test_round_trip(tmp_path):
    tree = {"layers": [{"w": jnp.ones((2, 2), jnp.bfloat16)}, {"w": jnp.zeros(3)}], **params()}
    mcjax.save(tmp_path / "a.safetensors", tree)
    again = mcjax.load(tmp_path / "a.safetensors")
    assert isinstance(again["layers"], list)
    assert again["layers"][0]["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(again["params"]["Dense_0"]["kernel"], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"w": [1]}), "pickled checkpoint, .* never unpickles"),
        (b"PK\x03\x04torch", "zip archive .* never unpickles"),
        (b"", "no whole safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "no whole safetensors file"),
        (b"\x07" + os.urandom(199), "no whole safetensors file"),
    ],
)
def test_foreign_files(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        mcjax.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("size", "mark"), [(0x180, b"\x80"), (0x4B50, b"PK")])
def test_a_header_whose_length_begins_like_a_pickle(tmp_path, size, mark):
    # A safetensors file starts with the length of its header, as a little-endian integer.
    tensor = '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    header = ("{" + tensor + "}").ljust(size).encode()
    values = np.array([1.0, 2.0], np.float32)
    content = size.to_bytes(8, "little") + header + values.tobytes()
    assert content.startswith(mark)
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    np.testing.assert_array_equal(mcjax.load(file)["w"], values)
    file.write_bytes(content[:-4])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        mcjax.load(file)


def test_cut_off_file(tmp_path):
    file = tmp_path / "a.safetensors"
    mcjax.save(file, params())
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        mcjax.load(file)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        mcjax.load(tmp_path / "none")


# -- names ---------------------------------------------------------------------------------


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for v, w in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if not hasattr(v, "dtype"):
            assert v == w
        elif jax.dtypes.issubdtype(v.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(*map(jax.random.key_data, (v, w)))
        else:
            assert (v.dtype, v.shape, type(v)) == (w.dtype, w.shape, type(w))
            assert np.asarray(v).tobytes() == np.asarray(w).tobytes()


Pair = namedtuple("Pair", "w b")


ODD = {
    "colliding names": {"a/b": jnp.zeros(2), "a": {"b": jnp.ones(3), "b#2": jnp.ones(4)}},
    "an array and a folder": {"a": jnp.zeros(2), "a/b": jnp.ones(3)},
    "haiku": {"linear/~/w": {"w": jnp.ones(2), "b": jnp.zeros(1)}, "linear": {"w": jnp.ones(1)}},
    "scalars": {"s": jnp.asarray(2.0), "n": np.float32(3), "i": np.asarray(7)},
    "integer keys": {0: jnp.ones(2), 1: {10: jnp.ones(1)}},
    "containers": ([jnp.ones(2)], (jnp.ones(1), None), OrderedDict(z=jnp.ones(1)), {}),
    "namedtuple": {"layer": Pair(jnp.ones((2, 2)), None)},
    "numbers": {"w": jnp.ones(1), "n": 3, "inf": float("inf"), "c": 0.1j, "s": "é→"},
    "one array": jnp.arange(3),
    "no elements": {"w": jnp.zeros((0, 3)), "": jnp.ones(1)},
    "transposed": {"w": np.arange(6.0).reshape(2, 3).T, "big": np.arange(3, dtype=">f4")},
    "types": {
        d: np.asarray(np.arange(4), d)
        for d in ("bfloat16", "float16", "float64", "complex64", "complex128", "int4", "uint8",
                  "float8_e4m3fn", "bool", "int64")
    },
    "keys": {"key": jax.random.key(3), "keys": jax.random.split(jax.random.key(1, impl="rbg"), 2)},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_any_tree_comes_back_to_the_bit(tmp_path, name):
    file = tmp_path / "a.safetensors"
    mcjax.save(file, ODD[name])
    expected = ODD[name]
    if name == "transposed":  # of the native byte order
        expected = {**expected, "big": expected["big"].astype("f4")}
    same(mcjax.load(file), expected)
    if name not in ("numbers", "containers"):
        same(mcjax.load(file, like=ODD[name]), expected)


def test_others_read_our_names_and_we_theirs(tmp_path):
    file = tmp_path / "a.safetensors"
    mcjax.save(file, params())
    assert set(safetensors.numpy.load_file(file)) == {
        "params/Dense_0/kernel", "params/Dense_0/bias"}  # fmt: skip
    theirs = {"a": np.zeros(2), "a/b": np.ones(3), "c/0": np.ones(1), "c/1": np.ones(2)}
    safetensors.numpy.save_file(theirs, file)
    loaded = mcjax.load(file)
    assert set(loaded) == {"a", "a/b", "c"}
    assert [len(v) for v in loaded["c"]] == [1, 2]
    haiku = {"linear/~/w": {"w": np.ones((2, 2))}, "linear": {"b": np.ones(2)}}
    safetensors.numpy.save_file({"linear/~/w/w": np.ones((2, 2)), "linear/b": np.ones(2)}, file)
    same(mcjax.load(file, like=haiku), haiku)
    with pytest.raises(ValueError, match="'linear/c' is not in it"):
        mcjax.load(file, like={**haiku, "linear": {"c": np.ones(2)}})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": np.array(["a"])}, "value: 'w' is an array of <U1"),
        ({"w": np.array([None])}, "value: 'w' is an array of object"),
        (jax.ShapeDtypeStruct((2,), "float32"), "a type without values"),
        (object(), "value is a object, which mcjax cannot save"),
        ({"w": [lambda: 0, object()]}, "value: 'w/1' is a object"),
        (jnp.tanh, "which mcjax cannot save"),
    ],
)
def test_what_no_file_can_hold(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        mcjax.save(tmp_path / "a", value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_parameters_of_other_shapes_and_types_do_not_fit(kind, tmp_path):
    file, saved = tmp_path / "a.safetensors", np.zeros(2, np.float32)
    mcjax.save(file, {"w": saved})
    like = {"w": np.zeros(3 if kind is np.float32 else 2, kind)}
    with pytest.raises(ValueError, match=r"a\.safetensors: leaf 'w' "):
        mcjax.load(file, like=like)
