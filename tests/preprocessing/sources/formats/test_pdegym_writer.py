"""Written files of PDEGym: what is written is read again, and what cannot be held is refused."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats import pdegym_writer
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from pelagos.preprocessing.sources.formats.pdegym_writer import PDEGymWriter
from tests.preprocessing.sources.contracts import WriterContract
from tests.preprocessing.sources.datasets import dataset


class _WriterContract(WriterContract):
    writer = PDEGymWriter
    filename = "made.nc"

    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        made = PDEGymWriter(path.with_name("again.nc"), ds, 0)
        made.close()
        return made.source().model_copy(update={"paths": (str(path),)}).open()


class TestWriter(_WriterContract):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(
            ("velocity_x", "velocity_y", "tracer"), ("force_x",), shape=(6, 6), boundary_y=("wall", "open")
        )


class TestWriterOfWaves(_WriterContract):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(("displacement",), ("wave_speed",), shape=(6, 6))


class TestWriterOfKnownSet(_WriterContract):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(("velocity_x", "velocity_y"), shape=(6, 6), name="NS-SL")


def test_written_files_have_the_layout_of_the_hub(tmp_path: Path) -> None:
    ds = dataset(("velocity_x", "velocity_y"), shape=(4, 4))
    pdegym_writer.write(ds, tmp_path / "v.nc")
    pdegym_writer.write(dataset(("displacement",), ("wave_speed",), shape=(4, 4)), tmp_path / "w.nc")
    pdegym_writer.write(dataset(("activator", "inhibitor"), shape=(4, 4)), tmp_path / "g.nc")
    with h5py.File(tmp_path / "v.nc") as file:
        assert file["velocity"].shape == (3, 5, 2, 4, 4)
        assert file["velocity"].dtype == np.float32
        np.testing.assert_array_equal(file["velocity"][:, :, 1], ds.velocity_y)
    with h5py.File(tmp_path / "w.nc") as file:
        assert (file["solution"].shape, file["c"].shape) == ((3, 5, 4, 4), (3, 4, 4))
    with h5py.File(tmp_path / "g.nc") as file:
        assert file["solution"].shape == (3, 5, 2, 4, 4)
    with xr.open_dataset(tmp_path / "v.nc", engine="h5netcdf") as written:
        assert written.velocity.dims == ("sample", "time", "channel", "y", "x")


def test_the_transposed_set_is_written_as_the_hub_has_it(tmp_path: Path) -> None:
    ds = dataset(("velocity_x", "velocity_y"), shape=(4, 4), name="NS-SL")
    pdegym_writer.write(ds, tmp_path / "v.nc")
    with h5py.File(tmp_path / "v.nc") as file:
        np.testing.assert_array_equal(file["velocity"][:, :, 0], ds.velocity_x.transpose(..., "x", "y"))


def test_a_static_field_of_all_trajectories_is_repeated_for_each(tmp_path: Path) -> None:
    ds = dataset(("displacement",), ("wave_speed",), shape=(4, 4))
    pdegym_writer.write(ds.assign(wave_speed=ds.wave_speed[0]), tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        np.testing.assert_array_equal(file["c"], np.repeat(ds.wave_speed[:1], 3, axis=0))


def test_a_steady_solution_is_written_without_times(tmp_path: Path) -> None:
    ds = dataset(("solution",), ("source",), times=1, shape=(4, 4), name="Poisson-Gauss")
    ds.solution.attrs["role"] = "diagnostic"
    pdegym_writer.write(ds, tmp_path / "a.nc")
    found = PDEGym(paths=str(tmp_path / "a.nc"), dataset="Poisson-Gauss").open()
    np.testing.assert_array_equal(found.solution, ds.solution)
    with h5py.File(tmp_path / "a.nc") as file:
        assert file["solution"].shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("ds", "message"),
    [
        (dataset(("velocity_x",), shape=(4, 6)), "square, not 0.5 by 0.75"),
        (dataset(("velocity_x",), shape=(4, 4)).isel(time=[0, 1, 3]), "time, which must be evenly spaced"),
        (
            dataset(("vorticity",), shape=(4, 4), name="NS-BB"),
            "vorticity cannot be written as PDEGym's set NS-BB",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused(ds: xr.Dataset, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        pdegym_writer.write(ds, tmp_path / "a.nc")
    assert list(tmp_path.iterdir()) == []
