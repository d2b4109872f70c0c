"""Files that nobody's program writes: a `ValueError` that names them, nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import warnings
import zipfile
from pathlib import Path

import msgpack
import numpy as np
import pytest
import safetensors.numpy

import mcjax
from mcjax.cli.given import arrays, parameters


def tensors(leaf=None, data=b"1234", metadata=None):
    leaves = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, len(data)], **(leaf or {})}}
    header = json.dumps(leaves | ({"__metadata__": metadata} if metadata else {})).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def own(value, text=None):
    return tensors(metadata={"mcjax": text or json.dumps({"version": 1, "value": value})})


def archive(*members):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as written:
        warnings.simplefilter("ignore")  # two of one name
        for name, content in members:
            written.writestr(name, content)
    return file.getvalue()


def npy(shape="(1,)"):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n12345678"


def patched(content, central, local, value):
    """A zip archive with another number in both places where a header holds it."""
    changed, start = bytearray(content), content.find(b"PK\x01\x02")
    changed[start + central : start + central + 2] = changed[local : local + 2] = value
    return bytes(changed)


def array(shape, dtype="float32", data=b""):
    return msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb([shape, dtype, data]))})


ARRAY = {"is": "numpy", "array": "w"}
HARMFUL = {
    "no such shape": tensors({"shape": [0, 2**62, 4]}, b""),
    "65 axes": tensors({"shape": [1] * 65}),
    "types of half a byte": tensors({"dtype": "F4", "shape": [8]}),
    "deep": own(None, "[" * 100_000),
    "no kind": own({"class": "mcjax.path.Linear"}),
    "a method of Python's": own({"is": "_subclasshook__"}),
    "no number": own({"is": "float", "of": "one"}),
    "no such key": own({"is": "key", "impl": "none", "array": "w"}),
    "bytes that fit no type": own({**ARRAY, "dtype": "float64"}),
    "copies of one array": own([ARRAY, ARRAY]),
    "bytes": archive(("w.npy", b"no array")),
    "one name twice": archive(("w.npy", npy()), ("w.npy", npy())),
    "zeros of no such shape": archive(("w.npy", npy(f"(0, {2**62}, 4)"))),
    "too many to hold": archive(("w.npy", npy(f"({10**15},)"))),
    "deep header": archive(("w.npy", npy("(" * 2000))),
    "encrypted": patched(archive(("w.npy", npy())), 8, 6, b"\x01\x00"),
    "unknown compression": patched(archive(("w.npy", npy())), 10, 8, b"\x63\x00"),
    "no LZMA": patched(archive(("w.npy", npy())), 10, 8, b"\x0e\x00"),
    "something before": b"PKsomething" + archive(("w.npy", b"no array")),
    "keys that are maps": b"\x81" * 100_000,
    "extensions": b"\x81\xa1w" + b"\xc7\x02\x01\x93" * 10_000,
    "one key twice": b"\x82\xa1w\x01\xa1w\x02",
    "one key as number and text": b"\x82\xa11\x01\x01\x02",
    "half a complex number": msgpack.packb({"w": msgpack.ExtType(2, b"\x01")}),
    "shape of msgpack": array([0, 2**62, 4]),
    "axes of msgpack": array([1] * 65, data=b"1234"),
    "size of msgpack": array([2**63 + 5, 0]),
}


@pytest.mark.parametrize("what", HARMFUL)
def test_harmful_files(what, tmp_path):
    file = tmp_path / "harmful"
    file.write_bytes(HARMFUL[what])
    with pytest.raises(ValueError, match="harmful"):
        mcjax.load(file)
    for read in (parameters, lambda f: mcjax.load(f, like={"w": np.ones(1, np.float32)})):
        with contextlib.suppress(ValueError):  # both may take the arrays of a broken header
            assert isinstance(read(file)["w"], np.ndarray)


INDICES = {
    "deep": "[" * 100_000,
    "one name twice": '{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}',
    "too long a name": json.dumps({"weight_map": {"w": "a" * 5000}}),
    "a name of no file": '{"weight_map": {"w": "\\u0000"}}',
}


@pytest.mark.parametrize("what", INDICES)
def test_harmful_indices(what, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.safetensors").write_bytes(tensors())
    (tmp_path / "model.safetensors.index.json").write_text(INDICES[what])
    with pytest.raises(ValueError, match=r"index\.json"):
        mcjax.load(tmp_path)


def test_names_that_no_file_can_have(tmp_path):
    for name in ("a" * 5000, "nul\0"):
        with pytest.raises(ValueError, match="there is no file"):
            mcjax.load(name)
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        mcjax.load(tmp_path)


def test_a_name_of_very_many_parts(tmp_path):
    file, name = tmp_path / "a.safetensors", "a/" * 5000 + "w"
    safetensors.numpy.save_file({name: np.ones(2)}, file)
    np.testing.assert_array_equal(mcjax.load(file)[name], np.ones(2))


def test_arrays_of_orbax_that_no_memory_holds(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(tmp_path / "huge", {"w": np.ones((2, 3))})
    about = tmp_path / "huge" / "w" / ".zarray"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"shape": [3_000_000] * 2}))
    with pytest.raises(ValueError, match=r"huge is no whole .* take 67,055 GiB"):
        mcjax.load(tmp_path / "huge")


def test_inputs_that_are_no_arrays(tmp_path):
    file = tmp_path / "data.npz"
    file.write_bytes(archive(("x.npy", b"no array"), ("y.npy", npy())))
    with pytest.raises(ValueError, match="'x' is no array"):
        arrays(Path(file), ("x", "y"))
