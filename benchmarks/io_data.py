"""The data of the benchmarks of reading and writing: the same values in our stores and in others' files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.frame_reader import FrameReader
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.xarray_view import xarray_view

NAMES = ["velocity_x", "velocity_y", "vorticity", "tracer"]


class Recorded(Config):
    """A .npy file of (trajectory, time, variable, y, x), mapped."""

    path: str

    def open(self) -> xr.Dataset:
        values = np.load(self.path, mmap_mode="r")
        num, length, channels, height, width = values.shape
        dims = ("trajectory", "time", "y", "x")
        attrs = {"units": "1", "role": "prognostic"}
        variables = {
            name: (dims, da.from_array(values[:, :, c], chunks=(1, length, height, width)), attrs)
            for c, name in enumerate(NAMES[:channels])
        }
        coords = {
            "trajectory": np.arange(num),
            "time": ("time", np.arange(length, dtype=np.float64), {"units": "s"}),
            "y": np.arange(height) / height,
            "x": np.arange(width) / width,
        }
        facts = {
            "dataset": "benchmark",
            "source_format": "npy",
            "grid": "cartesian",
            "boundary_y": "periodic,periodic",
            "boundary_x": "periodic,periodic",
            "sources": json.dumps([self.path]),
        }
        return xr.Dataset(variables, coords, facts)


def turbulence(num: int, length: int = 21, channels: int = 4, size: int = 128) -> NDArray[np.float32]:
    """(N, T, C, H, W) smooth random fields, which compress about as much as turbulence does."""
    rng = np.random.default_rng(0)
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")) * size
    spectrum = (1 + waves) ** -2.5
    out = np.empty((num, length, channels, size, size), np.float32)
    for frame in out.reshape(-1, channels, size, size):
        noise = rng.standard_normal((channels, size, size), np.float32)
        frame[:] = np.fft.irfft2(np.fft.rfft2(noise) * spectrum, s=(size, size))
    return out


def configuration(source: Path, root: Path, **options: Any) -> BuildConfig:
    values = {
        "dataset": "benchmark",
        "source": {"kind": "external", "path": "benchmarks.io_data:Recorded", "args": {"path": str(source)}},
        "root": root,
        "splits": {"kind": "trajectories"},
        "shard_bytes": 44 << 20,
        "checksum_sources": False,
    }
    return BuildConfig.model_validate(values | options)


def make(root: Path, num: int) -> None:
    """The limit file and, from it, our stores and HDF5 in Poseidon's and The Well's layouts."""
    source = root / "limit.npy"
    np.save(source, turbulence(num))
    for codec in ("none", "blosc-lz4"):
        build(configuration(source, root, codec=codec, version=codec))
    with h5py.File(root / "poseidon.h5", "w") as file:
        file["data"] = np.load(source)
    (root / "well").mkdir()
    well_writer.write(xarray_view(store(root, "none")), root / "well" / "benchmark.hdf5")


def store(root: Path, codec: str) -> Any:
    return open_store(root / "benchmark" / f"benchmark-{codec}.zarr")


class MappedArray(FrameReader):
    """Frames of a .npy file by copies from a memory map: the limit of reading."""

    def __init__(self, path: Path) -> None:
        self.values = np.load(path, mmap_mode="r")

    def read_frame(self, position: tuple[int, ...], buffers: Any) -> None:
        values, start = self.values[position], 0
        for buffer in buffers:
            buffer[:] = values[start : start + len(buffer)]
            start += len(buffer)

    def read_frames(self, position: tuple[int, ...], out: NDArray[np.float32]) -> None:
        out[:] = self.values[position[0], position[1] : position[1] + len(out)]


def dataset(root: Path, codec: str, mapped: bool = False, **options: Any) -> Dataset:
    """All pairs of the store, or the same samples copied from the memory map."""
    opened = store(root, codec)
    if mapped:
        opened = replace(opened, frames=MappedArray(root / "limit.npy"))
    config = DatasetConfig.model_validate({"path": opened.path} | options)
    return Dataset(opened, config, Normalizer.of(opened))
