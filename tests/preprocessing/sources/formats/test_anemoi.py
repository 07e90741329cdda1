"""Anemoi's Zarr 2 stores: cells become rows and columns, names with levels become fields with levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.anemoi import Anemoi
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
NAMES = ["2t", "t_850", "lsm", "t_500", "insolation", "q_850"]
TIMES = np.datetime64("2020-01-01T00", "s") + np.arange(4) * np.timedelta64(6, "h")


def save(path: Path, data: np.ndarray, names: list[str] = NAMES, **facts: Any) -> str:
    """A store of layout "gridded", or "trajectories" where `data` has steps, as anemoi-datasets 0.5 writes it."""
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
    chunks = (1, data.shape[1], 1, *[1] * (data.ndim == 5), data.shape[-1])
    array = group.create_array("data", shape=data.shape, chunks=chunks, dtype="f4", fill_value=np.nan)
    array[:] = data
    array.attrs["_ARRAY_DIMENSIONS"] = [
        "time",
        "variable",
        "ensemble",
        *(["step"] * (data.ndim == 5)),
        "cell",
    ]
    times = {"base_dates": TIMES[:3], "steps": STEPS} if data.ndim == 5 else {"dates": TIMES}
    for key, values in {**times, "latitudes": rows.ravel(), "longitudes": columns.ravel()}.items():
        group.create_array(key, data=values)
    return str(path)


STEPS = (np.arange(0, 24, 6) * np.timedelta64(1, "h")).astype("m8[s]")
DATA = RNG.normal(size=(4, len(NAMES), 2, 40)).astype("f4")
DATA[:, 2] = DATA[0, 2, 0]


class TestAnemoi(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        return Anemoi(paths=save(tmp_path_factory.mktemp("anemoi") / "era.zarr", DATA))

    def vital(self, path: Path) -> Path:
        return path / "data/0.0.0.0"


class TestForecasts(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("anemoi") / "aifs.zarr"
        return Anemoi(paths=save(path, FORECASTS, layout="trajectories"))

    def vital(self, path: Path) -> Path:
        return path / "data/0.0.0.0.0"


FORECASTS = RNG.normal(size=(3, len(NAMES), 2, 4, 40)).astype("f4")
FORECASTS[:, 2] = FORECASTS[0, 2, 0, 0]


def test_each_member_of_each_forecast_is_a_trajectory_over_hours(tmp_path: Path) -> None:
    ds = Anemoi(paths=save(tmp_path / "a.zarr", FORECASTS, layout="trajectories")).open()
    grids = FORECASTS.reshape(3, len(NAMES), 2, 4, 5, 8)
    assert ds.trajectory.values.tolist()[1:4] == [
        f"2020-01-01T{at}" for at in ("00:00 1", "06:00 0", "06:00 1")
    ]
    np.testing.assert_array_equal(ds.time, [0, 6, 12, 18])
    assert ds.time.attrs["units"] == "h"
    for number, (date, member) in enumerate(np.ndindex(3, 2)):
        np.testing.assert_array_equal(ds["2t"][number], grids[date, 0, member])
        np.testing.assert_array_equal(ds.t[number], grids[date, [3, 1], member].swapaxes(0, 1))
    np.testing.assert_array_equal(ds.lsm, grids[0, 2, 0, 0])
    assert ds.t[:0].values.shape == (0, 4, 2, 5, 8)
    single = Anemoi(paths=save(tmp_path / "b.zarr", FORECASTS[:, :, :1], layout="trajectories")).open()
    assert single.trajectory.values.tolist() == [f"2020-01-01T{hour}:00" for hour in ("00", "06", "12")]


@pytest.mark.parametrize("layout", ["gridded", "trajectories"])
def test_missing_dates_are_absent(tmp_path: Path, layout: str) -> None:
    values, land = {"gridded": (DATA, DATA[1, 2, 0]), "trajectories": (FORECASTS, FORECASTS[1, 2, 0, 0])}[
        layout
    ]
    values = np.concatenate([np.full_like(values[:1], np.nan), values[1:]])
    path = save(tmp_path / "a.zarr", values, layout=layout, missing_dates=["2020-01-01T00:00:00"])
    ds = Anemoi(paths=path).open()
    np.testing.assert_array_equal(ds.present, np.isfinite(ds["2t"][:, :, 0, 0]))
    assert (~ds.present.values).sum() == (2 if layout == "gridded" else 8)
    config = yaml.safe_load(propose(path)) | {"root": tmp_path}
    assert config.pop("command") == "build"
    assert "missing" not in config
    store = open_store(build(BuildConfig.model_validate(config)))
    assert store.num_missing == 0
    np.testing.assert_array_equal(store.static(0)[0], land.reshape(5, 8))
    np.testing.assert_array_equal(np.any(list(store.splits.values()), axis=0), ds.present)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.zarr: its layout is tabular; gridded or trajectories would be right"
    ):
        Anemoi(paths=save(tmp_path / "a.zarr", DATA, layout="tabular")).open()
    with pytest.raises(
        DataError, match=r"data has shape .*; \(base date, variable, ensemble, step, cell\) with"
    ):
        Anemoi(paths=save(tmp_path / "b.zarr", DATA, layout="trajectories")).open()


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
        DataError, match=r"a\.zarr: its 40 cells do not form rows and columns \(field_shape \[40\]\)"
    ):
        Anemoi(paths=save(tmp_path / "a.zarr", DATA, field_shape=[40])).open()
    with pytest.raises(
        DataError, match="lie on a projected or rotated grid; one of latitudes and longitudes would"
    ):
        Anemoi(paths=save(tmp_path / "b.zarr", DATA, field_shape=[8, 5])).open()
    with pytest.raises(DataError, match=r"data has shape .*with the variables a, b would be right"):
        Anemoi(paths=save(tmp_path / "c.zarr", DATA, ["a", "b"])).open()
