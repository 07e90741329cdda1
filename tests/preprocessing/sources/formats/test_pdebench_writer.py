"""Written files of PDEBench: what is written is read again, and what cannot be held is refused."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml
from numpy.typing import ArrayLike

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Sides
from pelagos.preprocessing.sources.formats import pdebench_writer
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from pelagos.preprocessing.sources.formats.pdebench_writer import DiffusionReactionWriter, FlowWriter
from tests.preprocessing.sources.contracts import WriterContract
from tests.preprocessing.sources.datasets import dataset
from tests.preprocessing.sources.formats.pdebench_archive import (
    FLOW,
)

RATES: dict[str, ArrayLike] = {
    "diffusivity_activator": [1, 2, 3],
    "diffusivity_inhibitor": 0.5,
    "reaction_rate": [4, 5, 6],
}


class _WriterContract(WriterContract):
    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        return PDEBench(paths=str(path)).open()


class TestFlowWriter(_WriterContract):
    writer = FlowWriter
    filename = "2D_CFD_made_M0.5_periodic_Train.hdf5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(FLOW, scalars={"mach_number": 0.5, "shear_viscosity": 0.0})


class TestFlowWriterWithOpenSides(TestFlowWriter):
    filename = "2D_CFD_made_trans_Train.hdf5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(FLOW, boundary_y=("open", "open"), boundary_x=("open", "open"))


class TestDiffusionReactionWriter(_WriterContract):
    writer = DiffusionReactionWriter
    filename = "made.h5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        rates = {name: np.broadcast_to(value, 3) for name, value in RATES.items()}
        walls: Sides = ("wall", "wall")
        return dataset(("activator", "inhibitor"), scalars=rates, boundary_y=walls, boundary_x=walls)


def test_written_flow_has_the_layout_of_the_archive(tmp_path: Path) -> None:
    ds = dataset(FLOW, scalars={"mach_number": [0.5] * 3, "gamma": 1.4})
    pdebench_writer.write(ds, tmp_path / "made_periodic_.hdf5")
    with h5py.File(tmp_path / "made_periodic_.hdf5") as file:
        assert set(file) == {
            "density",
            "pressure",
            "Vx",
            "Vy",
            "t-coordinate",
            "x-coordinate",
            "y-coordinate",
        }
        assert file["Vx"].shape == (3, 5, 4, 6)
        assert file["Vx"].dtype == np.float32
        np.testing.assert_array_equal(file["Vx"], ds.velocity_x.transpose(..., "x", "y"))
        np.testing.assert_array_equal(file["t-coordinate"], np.arange(6) / 4)
        assert dict(file.attrs) == {"M": 0.5}


def test_the_real_file_is_written_as_it_was(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/pde/pdebench_2D_diff-react_48x48_T26_N12.h5"
    pdebench_writer.write(PDEBench(paths=str(path)).open().isel(trajectory=slice(0, 2)), tmp_path / "a.h5")
    with h5py.File(path) as original, h5py.File(tmp_path / "a.h5") as written:
        assert list(written) == ["0000", "0001"]
        for key in ("data", "grid/t", "grid/x", "grid/y"):
            one, two = original[f"0001/{key}"], written[f"0001/{key}"]
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
        settings = [yaml.safe_load(file["0001"].attrs["config"]) for file in (original, written)]
        assert settings[0] == settings[1]


@pytest.mark.parametrize(
    ("ds", "name", "message"),
    [
        (
            dataset(FLOW),
            "a.hdf5",
            "this one says unknown on all sides, the data are periodic,periodic along y",
        ),
        (dataset(FLOW[:3]), "a_periodic.hdf5", "holds density, pressure, velocity_x, velocity_y"),
        (dataset(FLOW, ("force_x",)), "a_periodic.hdf5", "the data have density, pressure"),
        (
            dataset(FLOW, scalars={"mach_number": [1, 2, 3]}),
            "a_periodic.hdf5",
            "mach_number must be the same throughout a file",
        ),
        (dataset(("activator", "inhibitor"), scalars=RATES), "a.h5", "walls on all sides"),
        (dataset(("activator", "inhibitor")), "a.h5", "holds activator, diffusivity_activator"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    ds: xr.Dataset, name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        pdebench_writer.write(ds, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
