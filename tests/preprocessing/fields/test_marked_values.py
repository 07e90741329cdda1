"""Values that stand for missing ones without a word of the archive: asked about, and missing where they are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.marked_values import is_mark, without_marks
from pelagos.preprocessing.store.store import open_store


def test_what_people_write_for_missing_values_is_told_from_what_they_measure() -> None:
    marks = (
        -999,
        -9999.0,
        999.9,
        -99999,
        1e20,
        -1e30,
        9.999e20,
        9.969209968386869e36,
        -32767,
        np.float32(1e15),
    )
    assert all(is_mark(float(one)) for one in marks)
    assert not any(is_mark(one) for one in (0, -99, 1e5, 273.15, 101325, 1000, -998, 9e6, np.inf, np.nan))


def test_marks_keep_the_dataset_lazy_and_its_values(tmp_path: Path) -> None:
    ds = Analytic(trajectories=2, sea=0).open()
    marked = without_marks(ds, {"velocity_x": [12345.0]})
    assert not isinstance(marked.velocity_x.variable._data, np.ndarray)
    for index in ({"time": 0}, {"trajectory": 1, "y": slice(2, 5)}, {"x": [0, 3]}):
        xr.testing.assert_identical(marked.velocity_x.isel(index).load(), ds.velocity_x.isel(index).load())


def test_a_build_asks_about_marks_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Analytic.values

    def with_mark(self: Analytic, name: str) -> np.ndarray[Any, Any]:
        values = original(self, name)
        values[..., 0, 0] = -9999
        return values

    monkeypatch.setattr(Analytic, "values", with_mark)
    with pytest.raises(ConfigError, match=r"marks: {velocity_x: \[-9999\]}"):
        build(configuration(tmp_path))
    with pytest.raises(ConfigError, match="marks: no field 'nothing'"):
        build(configuration(tmp_path, marks={"nothing": [1]}))
    names = {"velocity_x": [-9999], "velocity_y": [-9999]}
    store = open_store(build(configuration(tmp_path, marks=names, missing="keep")))
    assert store.assumptions == ()
