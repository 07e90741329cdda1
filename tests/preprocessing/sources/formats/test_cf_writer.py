"""Written netCDF-4 by CF: what is written is read again, and what cannot be held is refused."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats import cf_writer
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.cf_writer import CFWriter
from tests.preprocessing.sources.contracts import WriterContract
from tests.preprocessing.sources.datasets import dataset


def globe() -> xr.Dataset:
    """Three trajectories of two fields on Gaussian latitudes."""
    rng = np.random.default_rng(0)
    nodes = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(6)[0]))[::-1].copy()
    x = np.arange(0.0, 360.0, 45.0)
    grid = Grid("latlon", nodes, x, ("pole", "pole"), ("periodic", "periodic"), "degrees")
    fields = {
        name: xr.Variable(
            ("trajectory", "time", "y", "x"),
            rng.standard_normal((3, 4, 6, 8)).astype(np.float32),
            convention.attrs(name, "prognostic", units=units),
        )
        for name, units in (("height", "m"), ("velocity_x", "m s-1"))
    }
    return convention.assemble(
        fields,
        grid=grid,
        time=np.arange(4) * 3.0,
        dataset="globe",
        source_format="simulation",
        sources=(),
        num_trajectories=3,
        time_units="h",
    )


class TestWriter(WriterContract):
    writer = CFWriter
    filename = "made.nc"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return globe()

    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        return CF(paths=str(path), axes={"trajectory": "realization"}).open()


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only latitudes and longitudes"):
        cf_writer.write(dataset(("phase",)), tmp_path / "plane.nc")
    scalar = xr.Variable(("trajectory",), [1.0, 2.0, 3.0], convention.attrs("depth", "scalar"))
    with pytest.raises(DataError, match="no parameters, such as depth"):
        cf_writer.write(globe().assign(depth=scalar), tmp_path / "deep.nc")
