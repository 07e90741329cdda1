from pathlib import Path

import numpy as np
import pytest
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.store.xarray_view import xarray_view

SOURCE = {"names": ["heating", "density", "velocity_x"], "static": "varying", "scalars": True}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(build(configuration(tmp_path_factory.mktemp("stores"), SOURCE)))


def test_the_view_is_in_the_convention_and_equal_to_the_source(store: Store) -> None:
    ds, source = xarray_view(store), Analytic(**SOURCE).open()
    convention.check(ds)
    assert set(ds.data_vars) == set(source.data_vars)
    for name in source.data_vars:
        assert ds[name].attrs["role"] == source[name].attrs["role"]
        assert ds[name].attrs["units"] == source[name].attrs["units"]
        assert ds[name].dims == source[name].dims
        assert np.array_equal(ds[name].values, source[name].values.astype(ds[name].dtype))
    assert ds["time"].values.tolist() == source["time"].values.tolist()


def test_levels_and_dates_come_back(tmp_path: Path) -> None:
    source = {"levels": [850, 500], "dates": True, "latlon": True, "static": "common"}
    store = open_store(build(configuration(tmp_path, source)))
    assert [variable.key for variable in store.variables][:2] == ["velocity_x@850", "velocity_x@500"]
    assert (store.dt, store.time_units) == (6 * 3600, "s")
    ds, original = xarray_view(store), Analytic(**source).open()
    convention.check(ds)
    assert ds["velocity_y"].dims == ("trajectory", "time", "level", "y", "x")
    assert np.array_equal(ds["velocity_y"].values, original["velocity_y"].values)
    assert np.array_equal(ds["time"].values, original["time"].values)
    assert ds["level"].values.tolist() == [850, 500]
    assert ds["depth"].dims == ("y", "x")
    assert np.array_equal(store.static(0), store.static(5))


def test_transforms_are_undone_where_the_view_is_read(tmp_path: Path) -> None:
    source = {"levels": [850, 500], "static": "varying"}
    changes = {
        "convert": {name: {"units": "m s-1", "offset": 30} for name in ("velocity_x", "depth")},
        "transforms": {"velocity_x": {"scale": 3}, "depth": {"scale": 2}},
    }
    store = open_store(build(configuration(tmp_path, source, **changes)))
    ds, original = xarray_view(store), Analytic(**source).open()
    convention.check(ds)
    assert ds["velocity_x"].attrs["units"] == "m s-1"
    for name in ("velocity_x", "depth"):
        assert ds[name].dtype == np.float32
        assert ds[name].values == pytest.approx(original[name].values + 30, rel=1e-6)
    part = {"trajectory": [4, 1], "time": slice(1, 4, 2), "x": 3}
    expected = original["velocity_x"].isel(part).values + 30
    assert ds["velocity_x"].isel(part).values == pytest.approx(expected, rel=1e-6)
    assert store.stats.maximum[0] < np.log1p(expected.max() / 3) + 1, "statistics are of what is stored"
    text = inspect(store.path)
    assert "velocity_x@850 is stored, and measured above, as ln(1 + velocity_x / 3 m s-1)" in text
