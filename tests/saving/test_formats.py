"""Checkpoints of other programs: each program writes, mcjax reads."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile

import flax.serialization
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import optax
import pytest
import safetensors.numpy

import mcjax

from .test_file import same


def tree(dtype=np.float32):
    rng = np.random.default_rng(0)
    make = lambda *s: rng.normal(size=s).astype(dtype)
    return {"a": {"kernel": make(3, 4), "bias": make(4)}, "layers": [make(2), make(1, 2)],
            "count": np.asarray(3)}  # fmt: skip


def to_npz(file, value):
    flat = jax.tree_util.tree_flatten_with_path(value)[0]
    np.savez(file, **{"/".join(str(k.key if hasattr(k, "key") else k.idx) for k in p): v
                      for p, v in flat})  # fmt: skip


def to_msgpack(file, value):
    file.write_bytes(flax.serialization.to_bytes(value))


def to_orbax(file, value):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(file, value)


def to_shards(file, value):
    """A folder as Hugging Face writes it."""
    file.mkdir()
    flat = {"/".join(str(getattr(k, "key", getattr(k, "idx", None))) for k in p): v
            for p, v in jax.tree_util.tree_flatten_with_path(value)[0]}  # fmt: skip
    names = sorted(flat)
    parts = {"one.safetensors": names[:2], "two.safetensors": names[2:]}
    for part, inside in parts.items():
        safetensors.numpy.save_file({n: flat[n] for n in inside}, file / part)
    index = {"metadata": {"total_size": 1}, "weight_map": {n: p for p in parts for n in parts[p]}}
    (file / "model.safetensors.index.json").write_text(json.dumps(index))


WRITERS = {"a.npz": to_npz, "a.msgpack": to_msgpack, "orbax": to_orbax, "shards": to_shards}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_comes_back_to_the_bit(name, tmp_path):
    file = tmp_path / name
    WRITERS[name](file, tree())
    same(mcjax.load(file), tree())
    same(mcjax.load(str(file), like=tree()), tree())
    same(mcjax.load(file, like=jax.eval_shape(tree)), tree())
    with pytest.raises(ValueError, match=f"{name}.* leaf 'layers/2' is not in it"):
        mcjax.load(file, like={**tree(), "layers": [np.ones(1)] * 3})
    other = tree()
    other["a"]["bias"] = other["a"]["bias"][:2]
    with pytest.raises(ValueError, match=f"{name}.* leaf 'a/bias' .* shape"):
        mcjax.load(file, like=other)


def test_the_index_of_shards_by_itself(tmp_path):
    to_shards(tmp_path / "model", tree())
    index = tmp_path / "model" / "model.safetensors.index.json"
    same(mcjax.load(index), tree())
    whole = index.read_text()
    index.write_text(whole.replace("two", "three"))
    with pytest.raises(ValueError, match=r"not beside it: .*three\.safetensors"):
        mcjax.load(tmp_path / "model")
    index.write_text(whole.replace('"two.safe', '"../two.safe'))
    with pytest.raises(ValueError, match="not beside it"):
        mcjax.load(index)
    index.write_text(whole.replace("a/bias", "a/scale"))
    with pytest.raises(ValueError, match=r"leaf 'a/scale' is not in .*one\.safetensors"):
        mcjax.load(index)
    shorter = json.loads(whole)
    lost = sorted(shorter["weight_map"])[-1]
    del shorter["weight_map"][lost]
    index.write_text(json.dumps(shorter))
    with pytest.raises(ValueError, match=f"does not list leaf {lost!r} of "):
        mcjax.load(index)
    index.write_text("[]")
    with pytest.raises(ValueError, match="no weight_map"):
        mcjax.load(index)


def test_a_folder_with_one_file_and_folders_without(tmp_path):
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "model.safetensors")
    same(mcjax.load(tmp_path), {"w": np.ones(2)})
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"name one of .*model\.safetensors, .*other"):
        mcjax.load(tmp_path)
    to_orbax(tmp_path / "run" / "10" / "default", {"w": np.ones(2)})
    with pytest.raises(ValueError, match=r"name one of .*run/10/default"):
        mcjax.load(tmp_path / "run")


def test_states_of_flax_and_optax(tmp_path):
    """`like` restores classes; a number that is no array stays that of `like`."""
    params = tree()
    state = {"params": params, "optimizer": optax.adam(1e-3).init(params), "step": 7}
    for name, write in (("a.msgpack", to_msgpack), ("orbax", to_orbax)):
        write(tmp_path / name, state)
        again = mcjax.load(tmp_path / name, like={**state, "step": 0})
        assert again["step"] == 0
        as_numpy = lambda tree: jax.tree.map(np.asarray, {**tree, "step": 0})
        same(as_numpy(again), as_numpy(state))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64", "uint8", "bool"])
def test_types_in_msgpack(dtype, tmp_path):
    value = {"w": np.asarray(np.arange(6).reshape(2, 3), dtype), "empty": np.zeros((0, 2), dtype),
             "scalar": np.asarray(1, dtype)[()], "numbers": [-7, 2**40, 1.5, 2j, None]}  # fmt: skip
    (tmp_path / "a").write_bytes(flax.serialization.to_bytes(value))
    same(mcjax.load(tmp_path / "a"), value)


def test_arrays_of_another_byte_order_and_layout(tmp_path):
    value = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.asarray(3)}
    swapped = {k: np.array(v, v.dtype.newbyteorder(">"), order="F") for k, v in value.items()}
    np.savez(tmp_path / "a.npz", **swapped)
    same(mcjax.load(tmp_path / "a.npz"), value)
    assert jnp.sum(mcjax.load(tmp_path / "a.npz", like=value)["w"]) == 15


def test_arrays_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 40)
    value = {"w": np.arange(35.0).reshape(5, 7), "b": np.arange(3.0)}
    to_msgpack(tmp_path / "a", value)
    assert b"chunked" in (tmp_path / "a").read_bytes()
    same(mcjax.load(tmp_path / "a"), value)


@pytest.mark.parametrize("cut", range(1, 60, 7))
@pytest.mark.parametrize("name", ["a.npz", "a.msgpack"])
def test_cut_off_files(name, cut, tmp_path):
    WRITERS[name](tmp_path / name, tree())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * cut // 60])
    with pytest.raises(ValueError, match=rf"{name[0]}\.{name[2:]} is no whole"):
        mcjax.load(tmp_path / name)


def test_msgpack_that_flax_does_not_write(tmp_path):
    array = lambda *parts: msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb(parts))})
    wrong = {
        "not as many values": array([2], "float32", b"1234"),
        "no shape, type": array([2], "float32"),
        "type 'nonsense'": array([1], "nonsense", b"1234"),
        "objects": array([1], "object", b"12345678"),
        "type 9": msgpack.packb({"w": msgpack.ExtType(9, b"1234")}),
        "too deep": b"\x81\xa1w" * 300 + b"\x01",
        "after its end": msgpack.packb({"w": 1}) + b"\x01",
        "a key is a NoneType": b"\x81\xc0\x01",
        "means nothing": b"\x81\xa1w\xc1",
        "pieces do not fit": msgpack.packb({"w": {"__msgpack_chunked_array__": True}}),
    }
    for what, content in wrong.items():
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ValueError, match=f"a is no whole msgpack file of flax's.*{what}"):
            mcjax.load(tmp_path / "a")


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise RuntimeError('unpickled')",))

    np.savez(tmp_path / "a.npz", w=np.array([Bomb()], object))
    with pytest.raises(ValueError, match=r"a\.npz: leaf 'w' .*never opened|'w': holds pickled"):
        mcjax.load(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "torch.pt", "w") as archive:  # as torch.save does
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="never unpickles"):
        mcjax.load(tmp_path / "torch.pt")
    np.savez(tmp_path / "b.npz", w=np.zeros(2, jnp.bfloat16))
    with pytest.raises(ValueError, match=r"leaf 'w' is of type .* no bfloat16"):
        mcjax.load(tmp_path / "b.npz")
    buffer = io.BytesIO()
    np.save(buffer, np.ones(2))
    (tmp_path / "c.npy").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="no whole safetensors"):
        mcjax.load(tmp_path / "c.npy")


MEASURE = """
import resource, sys, jax, mcjax
from pathlib import Path
mcjax.load(sys.argv[2])  # what the first load imports
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loaded = mcjax.load(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
file = Path(sys.argv[1])
size = sum(f.stat().st_size for f in (file.rglob("*") if file.is_dir() else [file]))
print((after - before) * 1024 / size, len(jax.tree.leaves(loaded)))
"""


def memory(write, folder, megabytes):
    """What loading a file adds to the memory at its peak, as a share of the file."""
    rng = np.random.default_rng(0)
    leaves = {f"w{i}": rng.integers(0, 256, (megabytes << 20) // 32, np.uint8).view(np.float32)
              for i in range(32)}  # fmt: skip
    small, large = folder / ("small" + write[1]), folder / ("large" + write[1])
    write[0](small, {"w0": np.ones(2, np.float32)})
    write[0](large, leaves)
    out = subprocess.run([sys.executable, "-c", MEASURE, str(large), str(small)],
                         capture_output=True, text=True, check=True)  # fmt: skip
    share, count = out.stdout.split()
    assert int(count) == 32
    return float(share)


FORMATS = {"ours": (mcjax.save, ".safetensors"), "npz": (to_npz, ".npz"),
           "msgpack": (to_msgpack, ".msgpack"), "orbax": (to_orbax, "")}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_memory_while_loading(kind, tmp_path):
    assert memory(FORMATS[kind], tmp_path, 1024) < 1.2
