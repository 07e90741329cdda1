"""Loaders of others on equal data, each without workers, as torch's DataLoader runs them.

What pip installs runs itself; what is named a pattern is our own lines in the way that package reads.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorstore
import torch
import xarray as xr
import xbatcher
import zarr
from numpy.typing import NDArray
from the_well.data import WellDataset
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from xbatcher.loaders.torch import MapDataset

from pelagos.preprocessing.samples.dataset import Dataset

BATCH = 16
Stream = Iterator[Any]


def endless(loader: DataLoader[Any]) -> Stream:
    while True:
        yield from loader


class PoseidonPattern(TorchDataset[Any]):
    """Herde et al. 2024: one h5py slice a frame and sample, normalised, collated."""

    def __init__(self, path: Path, ours: Dataset) -> None:
        self.data, self.ours = h5py.File(path)["data"], ours
        scale = ours.input_normalizer
        self.mean, self.std = (
            torch.from_numpy(a.astype(np.float32))[:, None, None] for a in (scale.mean, scale.std)
        )

    def __len__(self) -> int:
        return self.ours.num_samples

    def __getitem__(self, sample: int) -> dict[str, Any]:
        trajectory, initial, valid = self.ours.index(np.array([sample]))[0]
        inputs = torch.from_numpy(self.data[trajectory, initial]).type(torch.float32)
        labels = torch.from_numpy(self.data[trajectory, valid]).type(torch.float32)
        return {
            "pixel_values": (inputs - self.mean) / self.std,
            "labels": (labels - self.mean) / self.std,
            "time": float(valid - initial),
        }


def poseidon(root: Path, ours: Dataset) -> Stream:
    return endless(DataLoader(PoseidonPattern(root / "poseidon.h5", ours), batch_size=BATCH, shuffle=True))


def the_well(root: Path, ours: Dataset) -> Stream:
    data = WellDataset(path=str(root / "well"), n_steps_input=1, n_steps_output=1, use_normalization=False)
    return endless(DataLoader(data, batch_size=BATCH, shuffle=True))


def xbatcher_adjacent(root: Path, ours: Dataset) -> Stream:
    state = xr.open_zarr(ours.config.path, chunks=None)["state"]
    sizes = {"trajectory": 1, "time": 1} | {dim: state.sizes[dim] for dim in ("channel", "y", "x")}
    pair = [xbatcher.BatchGenerator(state.isel(time=slice(k, k + 20)), input_dims=sizes) for k in (0, 1)]
    return endless(DataLoader(MapDataset(*pair), batch_size=BATCH, shuffle=True))


def tensorstore_batches(root: Path, ours: Dataset) -> Stream:
    """Futures of a whole batch at a time, three batches ahead; normalised as ours are."""
    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(ours.config.path / "state")}}
    ).result()
    drawn = draws(ours)

    def asked() -> list[Any]:
        return [array[place].read() for place in next(drawn)]

    waiting = [asked() for _ in range(3)]
    while True:
        frames = np.stack([future.result() for future in waiting.pop(0)])
        waiting.append(asked())
        yield normalised(frames, ours)


def with_zarrs(path: Path) -> Any:
    """An array that zarr-python reads through zarrs; which codecs it uses is decided when it is opened."""
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return zarr.open_array(path, mode="r")


def zarrs_batches(root: Path, ours: Dataset) -> Stream:
    """Frame by frame, normalised as ours are."""
    array, drawn = with_zarrs(Path(str(ours.config.path)) / "state"), draws(ours)
    while True:
        yield normalised(np.stack([array[place] for place in next(drawn)]), ours)


def draws(ours: Dataset) -> Iterator[list[tuple[int, int]]]:
    """Places of both frames of a batch's pairs."""
    rng = np.random.default_rng(0)
    while True:
        index = ours.index(rng.integers(ours.num_samples, size=BATCH)).tolist()
        yield [(n, t) for n, *frames in index for t in frames]


def normalised(frames: NDArray[np.float32], ours: Dataset) -> tuple[torch.Tensor, ...]:
    """Inputs and targets."""
    scale = ours.input_normalizer
    mean, std = (a.astype(np.float32)[:, None, None] for a in (scale.mean, scale.std))
    frames -= mean
    frames /= std
    return torch.from_numpy(frames).reshape(BATCH, 2, *frames.shape[1:]).unbind(1)


PEERS: dict[str, Callable[[Path, Dataset], Stream]] = {
    "tensorstore 0.1.86, futures": tensorstore_batches,
    "Poseidon's pattern": poseidon,
    "zarr 3.1.6 with zarrs 0.2.3": zarrs_batches,
    "xbatcher 0.4.0, adjacent frames": xbatcher_adjacent,
    "the_well 1.2.0": the_well,
}


BARS = {
    "tensorstore 0.1.86, futures": 3,
    "Poseidon's pattern": 5,
    "xbatcher 0.4.0, adjacent frames": 12,
    "the_well 1.2.0": 35,
}
"""How many times as fast as them our loader is to be."""


def drain(stream: Stream, batches: int) -> Callable[[], None]:
    def call() -> None:
        for _ in islice(stream, batches):
            pass

    return call
