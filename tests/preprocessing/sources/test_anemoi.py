"""Anemoi's Zarr 2 stores: cells become rows and columns, names with levels become fields with levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.anemoi import Anemoi
from pelagos.preprocessing.sources.cf import CF
from pelagos.preprocessing.sources.files import Files
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
NAMES = ["2t", "t_850", "lsm", "t_500", "insolation", "q_850"]
TIMES = np.datetime64("2020-01-01T00", "s") + np.arange(4) * np.timedelta64(6, "h")


def save(path: Path, data: np.ndarray, names: list[str] = NAMES, **facts: Any) -> str:
    """A store of layout "gridded" as anemoi-datasets 0.5 writes it."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    rows, columns = np.meshgrid(np.linspace(90, -90, 5), np.arange(0, 360, 45.0), indexing="ij")
    levels = {name: {"levtype": "pl"} for name in names if "_" in name}
    metadata = {
        name: {
            "mars": levels.get(name, {"levtype": "sfc"}),
            "units": "K",
            "computed_forcing": name == "insolation",
        }
        for name in names
    }
    group.attrs.update(
        {
            "variables": names,
            "field_shape": list(rows.shape),
            "constant_fields": ["lsm"],
            "variables_metadata": metadata,
            "missing_dates": [],
            "licence": "Copernicus",
        }
        | facts
    )
    array = group.create_array(
        "data", shape=data.shape, chunks=(1, data.shape[1], 1, data.shape[3]), dtype="f4", fill_value=np.nan
    )
    array[:] = data
    array.attrs["_ARRAY_DIMENSIONS"] = ["time", "variable", "ensemble", "cell"]
    for key, values in (("dates", TIMES), ("latitudes", rows.ravel()), ("longitudes", columns.ravel())):
        group.create_array(key, data=values)
    return str(path)


DATA = RNG.normal(size=(4, len(NAMES), 2, 40)).astype("f4")
DATA[:, 2] = DATA[0, 2, 0]


class TestAnemoi(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Files:
        return Anemoi(paths=save(tmp_path_factory.mktemp("anemoi") / "era.zarr", DATA))

    def vital(self, path: Path) -> Path:
        return path / "data/0.0.0.0"


def test_the_real_store_equals_the_hourly_netcdf_at_its_times(shared: Path) -> None:
    folder = shared / "data/weather"
    ds = Anemoi(paths=str(folder / "anemoi_uk2t.zarr")).open()
    hourly = CF(paths=str(folder / "era5_2t_uk_hourly_2019-03.nc")).open()
    np.testing.assert_array_equal(ds["2t"], hourly.t2m.sel(time=ds.time))
    for axis in ("y", "x"):
        np.testing.assert_array_equal(ds[axis], hourly[axis])
    assert (ds.sizes["time"], ds["2t"].attrs["units"], ds.attrs["license"]) == (124, "K", "Copernicus")


def test_variables_of_one_array_become_fields_with_levels_and_roles(tmp_path: Path) -> None:
    ds = Anemoi(paths=save(tmp_path / "a.zarr", DATA)).open()
    assert {name: ds[name].attrs["role"] for name in ds} == {
        "t": "prognostic",
        "2t": "prognostic",
        "lsm": "static",
        "insolation": "forcing",
        "q_850": "prognostic",
    }
    np.testing.assert_array_equal(ds.level, [500, 850])
    grids = DATA.reshape(4, len(NAMES), 2, 5, 8)
    np.testing.assert_array_equal(ds.t[1], grids[:, [3, 1], 1])
    np.testing.assert_array_equal(ds["2t"][0, :, 4, 7], grids[:, 0, 0, 4, 7])
    np.testing.assert_array_equal(ds.lsm, grids[0, 2, 0])
    assert (ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == ("pole,pole", "periodic,periodic")


def test_fields_can_be_named_and_chosen(tmp_path: Path) -> None:
    source = Anemoi(
        paths=save(tmp_path / "a.zarr", DATA),
        rename={"2t": "air_temperature"},
        variables=("air_temperature",),
    )
    assert list(source.open()) == ["air_temperature"]


def test_cells_that_are_no_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.zarr: its 40 cells are no rows and columns \(field_shape \[40\]\)"
    ):
        Anemoi(paths=save(tmp_path / "a.zarr", DATA, field_shape=[40])).open()
    with pytest.raises(DataError, match="are no grid of latitudes and longitudes, but projected or rotated"):
        Anemoi(paths=save(tmp_path / "b.zarr", DATA, field_shape=[8, 5])).open()
    with pytest.raises(DataError, match=r"data has shape .*with the variables a, b would be right"):
        Anemoi(paths=save(tmp_path / "c.zarr", DATA, ["a", "b"])).open()
