"""Archives that claim shapes beyond any memory end in one message, whatever reads them."""

import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from typer.testing import CliRunner

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.cli import app, reported
from pelagos.pipeline.engine import checkpoint, checkpoint_writer
from pelagos.pipeline.engine.saved_tensors import whole_share
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.preprocessing.errors import DamagedFileError, PelagosError
from pelagos.preprocessing.files.durable import json_checksum, sha256
from pelagos.preprocessing.sources.arrays import mat_file, zarr_array
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, open_hdf5
from pelagos.preprocessing.sources.arrays.npy_file import NpyArray
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.manifest import read_manifest

HUGE = 1 << 40


def test_hdf5(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("u", (HUGE, 8), "f8", chunks=(1, 8))
        opened.create_dataset("zeros", data=np.zeros(1000), compression="gzip")
    with open_hdf5(file) as opened:
        with pytest.raises(
            DamagedFileError, match=r"a.h5: '/u' claims the shape \(1099511627776, 8\).*0 bytes are there"
        ):
            Hdf5Dataset.of(opened["u"])
        assert Hdf5Dataset.of(opened["zeros"]).shape == (1000,)
    with (
        pytest.raises(DamagedFileError, match=r"a.h5: claims an array that does not fit"),
        open_hdf5(file) as opened,
    ):
        opened["u"][()]
    result = CliRunner().invoke(app, ["inspect", str(file)])
    assert "Traceback" not in result.output


def test_zarr(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("u", shape=(HUGE, 8), chunks=(HUGE, 8), dtype="f8")
    chunk = tmp_path / "a.zarr" / "u" / "c" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"little")
    array = zarr_array.array(tmp_path / "a.zarr", zarr_array.open_group(tmp_path / "a.zarr"), "u")
    with pytest.raises(DamagedFileError, match=r"a.zarr: u: cannot be read"):
        array.read((slice(0, HUGE), slice(0, 8)))


def test_zarr_does_not_unpickle(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    folder = tmp_path / "a.zarr" / "u"
    folder.mkdir(parents=True)
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    metadata = {
        "zarr_format": 2,
        "shape": [1],
        "chunks": [1],
        "dtype": "|O",
        "fill_value": None,
        "order": "C",
        "compressor": None,
        "filters": [{"id": "pickle", "protocol": 0}],
    }
    (folder / ".zarray").write_text(json.dumps(metadata))
    (folder / "0").write_bytes(f"cos\nmkdir\n(V{mark}\ntR.".encode())
    with pytest.raises((PelagosError, ValueError)):
        zarr_array.array(tmp_path / "a.zarr", zarr_array.open_group(tmp_path / "a.zarr"), "u").read(
            (slice(0, 1),)
        )
    assert not mark.exists()


@pytest.mark.parametrize("shape", [(HUGE, 8), (1 << 62, 1 << 62), (-1,)])
def test_npy(shape: tuple[int, ...], tmp_path: Path) -> None:
    header = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)
    )
    with pytest.raises(DamagedFileError, match=r"a.npy: not a whole .npy file"):
        NpyArray.of(tmp_path / "a.npy")


def test_mat(tmp_path: Path) -> None:
    element = struct.pack("<6I", 6, 8, 6, 0, 5, 8) + struct.pack("<2i", 1 << 30, 1 << 30)
    element += struct.pack("<2I", 1, 1) + b"u".ljust(8, b"\0") + struct.pack("<2I", 9, 8) + bytes(8)
    matrix = struct.pack("<2I", 14, len(element)) + element
    file = tmp_path / "a.mat"
    file.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + matrix)
    with pytest.raises(DamagedFileError, match=r"a.mat: not a whole MATLAB file"):
        mat_file.arrays(file)["u"].read((slice(0, 1), slice(0, 1)))


def claim(weights: Path) -> None:
    """Write a header of safetensors that claims what no disk holds."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [HUGE, 8], "data_offsets": [0, 32 * HUGE]}}).encode()
    weights.write_bytes(struct.pack("<Q", len(header)) + header)


def test_weights_of_a_model(tmp_path: Path) -> None:
    config, signature = (
        FNOConfig(width=4, modes=(2, 2), num_layers=1),
        Signature(("u",), ("u",), shape=(8, 8)),
    )
    Model(config, config.build(signature), signature, {}).save(tmp_path)
    weights, file = tmp_path / "weights.safetensors", tmp_path / "model.json"
    claim(weights)
    values = json.loads(file.read_text())
    values["sha256"][weights.name] = sha256(weights)
    file.write_text(json.dumps(values))
    digests = {path.name: sha256(path) for path in (weights, file)}
    checksum_list.write_list(tmp_path, checksum_list.checksum_text(digests))
    with pytest.raises(DamagedFileError, match=r"weights.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["rank-00000.safetensors", "weights.safetensors"])
def test_weights_of_a_checkpoint(tmp_path: Path, name: str) -> None:
    checkpoint_writer.save(tmp_path, 1, whole_share({"weights": {"w": torch.ones(8)}}), {})
    path = checkpoint.path_of(tmp_path, 1)
    claim(path / name)
    state = json.loads((path / "state.json").read_text())
    state.pop("checksum")
    if name == "weights.safetensors":  # as earlier versions wrote them
        state.pop("pieces")
    state["sha256"] = {name: sha256(path / name)}
    (path / "state.json").write_text(json.dumps({**state, "checksum": json_checksum(state, finite=False)}))
    with pytest.raises(DamagedFileError, match="cannot be read as safetensors"):
        checkpoint.load(path)


def test_records_that_nest_without_end(tmp_path: Path) -> None:
    deep = "[" * 200_000
    for name in ("model.json", "weights.safetensors", "state.json"):
        (tmp_path / name).write_text(deep)
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "manifest.json").write_text(deep)
    for read in (load, checkpoint.load, read_manifest):
        with pytest.raises(DamagedFileError, match=r"(model|state|manifest).json"):
            read(tmp_path)


def test_what_nobody_foresaw_is_one_message_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="1"), reported():
        np.empty(HUGE, "S1000000")
    told = capsys.readouterr().err
    assert told.startswith("error: out of memory (Unable to allocate")
    assert told.count("\n") == 1
