"""Forecasts are written frame by frame, in blocks that outlive the process."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation import forecast_writer
from pelagos.evaluation.forecast_writer import ForecastWriter
from pelagos.evaluation.forecast_zarr import read_forecasts

SHAPE = (3, 2, 3, 7, 4, 5)
BLOCK = (1, 2, 2)
CELLS = list(product(range(3), range(1), range(2)))


def forecasts(rng: np.random.Generator) -> xr.Dataset:
    dims = ("trajectory", "start", "member", "lead_time", "y", "x")
    coords = {dim: np.arange(size) * 1.0 for dim, size in zip(dims, SHAPE, strict=True)}
    values = rng.normal(size=(2, *SHAPE))
    fields = {"u": (dims, values[0].astype(np.float32)), "v": (dims, values[1])}
    attrs = {"grid": "cartesian", "boundary_y": "wall,wall", "boundary_x": "wall,wall"}
    return xr.Dataset(fields, coords, attrs)


def part(ds: xr.Dataset, name: str, cell: tuple[int, ...], step: int) -> NDArray[np.floating]:
    where = {
        dim: slice(at * size, (at + 1) * size)
        for dim, at, size in zip(ds[name].dims, cell, BLOCK, strict=False)
    }
    values = ds[name].isel({**where, "lead_time": step}).values
    return values.reshape(-1, *values.shape[-2:])


def write(writer: ForecastWriter, ds: xr.Dataset, cell: tuple[int, ...], stop: int = SHAPE[3]) -> None:
    with writer.block(cell) as take:
        for step in range(stop):
            take([part(ds, name, cell, step) for name in ("u", "v")])
        if stop < SHAPE[3]:
            raise KeyboardInterrupt


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Frames of 80 and 160 bytes: one in a chunk, some, all; and one chunk in a shard, or two.
@pytest.mark.parametrize(
    ("chunk", "shard"), [(1, 1 << 20), (330, 1 << 20), (1 << 20, 1 << 20), (330, 700), (1, 1)]
)
def test_blocks_of_frames_are_read_as_one_dataset(
    chunk: int, shard: int, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_writer, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(forecast_writer, "SHARD_BYTES", shard)
    expected = forecasts(rng)
    writer = ForecastWriter(tmp_path / "f.zarr", expected, BLOCK)
    for cell in reversed(CELLS):
        write(writer, expected, cell)
    writer.finish()
    found = read_forecasts(tmp_path / "f.zarr").load()
    xr.testing.assert_identical(found, expected)
    assert [found[name].dtype for name in ("u", "v")] == [np.float32, np.float64]
    assert [path.name for path in tmp_path.iterdir()] == ["f.zarr"]


def test_what_was_interrupted_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    expected = forecasts(rng)
    whole = ForecastWriter(tmp_path / "whole.zarr", expected, BLOCK, "facts")
    for cell in CELLS:
        write(whole, expected, cell)
    whole.finish()
    for number, cell in enumerate(CELLS):
        writer = ForecastWriter(tmp_path / "killed.zarr", expected, BLOCK, "facts")
        assert [writer.is_written(one) for one in CELLS] == [True] * number + [False] * (len(CELLS) - number)
        with pytest.raises(KeyboardInterrupt):
            write(writer, expected, cell, stop=5)
        write(writer, expected, cell)
    ForecastWriter(tmp_path / "killed.zarr", expected, BLOCK, "facts").finish()
    assert files(tmp_path / "killed.zarr") == files(tmp_path / "whole.zarr")


def test_unfinished_forecasts_of_something_else_are_discarded_with_a_word(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    ds = forecasts(rng)
    write(ForecastWriter(tmp_path / "f.zarr", ds, BLOCK, "one"), ds, (0, 0, 0))
    assert not ForecastWriter(tmp_path / "f.zarr", ds, BLOCK, "other").is_written((0, 0, 0))
    assert "unfinished forecasts of another configuration are discarded" in capsys.readouterr().err


def test_without_a_fingerprint_nothing_is_taken_over(tmp_path: Path, rng: np.random.Generator) -> None:
    ds = forecasts(rng)
    write(ForecastWriter(tmp_path / "f.zarr", ds, BLOCK), ds, (0, 0, 0))
    assert not ForecastWriter(tmp_path / "f.zarr", ds, BLOCK).is_written((0, 0, 0))
