"""Written files of The Well: what is written is read again, and what cannot be held is refused."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.sources.formats.the_well import TheWell
from pelagos.preprocessing.sources.formats.well_writer import WellWriter
from tests.preprocessing.sources.contracts import WriterContract
from tests.preprocessing.sources.datasets import dataset
from tests.preprocessing.sources.formats.well_archive import (
    of_lengths,
)


def test_trajectories_of_several_lengths_are_not_written(tmp_path: Path) -> None:
    ds = of_lengths(tmp_path, 3, 5).open()
    with pytest.raises(
        DataError, match=r"w\.hdf5: all trajectories of a file are equally long; write a file for each"
    ):
        well_writer.write(ds, tmp_path / "w.hdf5")


class TestWriter(WriterContract):
    writer = WellWriter
    filename = "made.hdf5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        ds = dataset(
            ("velocity_x", "velocity_y", "tracer", "stress_xx", "stress_xy", "stress_yx", "stress_yy"),
            ("force_x", "wave_speed"),
            {"viscosity": [1, 2, 3], "drag": 0.1},
            boundary_y=("wall", "open"),
        )
        return ds.assign(force_x=ds.force_x[0])

    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        return TheWell(paths=str(path)).open()


class TestWriterOfUnknownSides(TestWriter):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(("phase",), boundary_y=("unknown", "wall"), boundary_x=("unknown", "unknown"))


def test_written_files_have_the_layout_of_the_specification(tmp_path: Path) -> None:
    ds = dataset(("velocity_x", "velocity_y", "tracer"), ("wave_speed",), {"nu": [1, 2, 3], "drag": 0.1})
    well_writer.write(ds, tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert {
            key: file.attrs[key] for key in ("n_trajectories", "n_spatial_dims", "grid_type", "drag")
        } == {
            "n_trajectories": 3,
            "n_spatial_dims": 2,
            "grid_type": "cartesian",
            "drag": 0.1,
        }
        assert list(file.attrs["simulation_parameters"]) == ["drag"]
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        assert {key: file["dimensions"][key].dtype for key in ("time", "x", "y")} == dict.fromkeys(
            ("time", "x", "y"), np.float32
        )
        velocity = file["t1_fields/velocity"]
        assert velocity.shape == (3, 5, 4, 6, 2)
        np.testing.assert_array_equal(velocity[..., 1], ds.velocity_y.transpose(..., "x", "y"))
        assert (bool(velocity.attrs["sample_varying"]), bool(velocity.attrs["time_varying"])) == (True, True)
        assert list(file["t0_fields"].attrs["field_names"]) == ["tracer", "wave_speed"]
        assert not file["t0_fields/wave_speed"].attrs["time_varying"]
        assert file["scalars/nu"].shape == (3,)
        condition = file["boundary_conditions/x_periodic"]
        assert condition.attrs["bc_type"] == "PERIODIC"
        np.testing.assert_array_equal(condition["mask"], [True, False, False, True])
        assert len(file["t2_fields"].attrs["field_names"]) == 0


def test_a_scalar_beside_a_vector_of_its_name_stays_apart(tmp_path: Path) -> None:
    ds = dataset(("velocity", "velocity_x", "velocity_y", "force_x"))
    well_writer.write(ds, tmp_path / "a.hdf5")
    found = TheWell(paths=str(tmp_path / "a.hdf5")).open()
    xr.testing.assert_equal(found, ds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ds: ds.assign_coords(time=np.datetime64("2020", "ns") + np.arange(5)),
            "not dates or latitudes",
        ),
        (lambda ds: ds.assign_attrs(grid="latlon"), "not dates or latitudes"),
        (lambda ds: ds.expand_dims(level=[1.0], axis=2), "has no levels"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        well_writer.write(change(dataset(("phase",))), tmp_path / "a.hdf5")
    assert list(tmp_path.iterdir()) == []
