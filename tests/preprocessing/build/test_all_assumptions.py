"""What a build assumes is recorded in the store, refused where asked, and shown by inspect before and after."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from analytic_source import Analytic, configuration, contents
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.xarray_view import xarray_view

opened = Analytic.open


def assuming(self: Analytic) -> xr.Dataset:
    assume("calendar", "time", "a formula: 365 days a year")
    return opened(self)


def asking(self: Analytic) -> xr.Dataset:
    ask("boundary", "", "a formula: taken as open", "boundary: wall")
    return opened(self)


def test_a_store_records_what_was_assumed_and_inspect_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Analytic, "open", assuming)
    path = build(configuration(tmp_path))
    recorded = open_store(path).assumptions
    assert recorded is not None
    assert [(one.code, one.field) for one in recorded] == [("calendar", "time")]
    assert "calendar (time): a formula: 365 days a year" in inspect(path)


def test_assumptions_change_neither_fingerprint_nor_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build(configuration(tmp_path / "before"))
    monkeypatch.setattr(Analytic, "open", assuming)
    config = configuration(tmp_path / "after", accept=["calendar"], strict=True)
    after = build(config)
    assert make_plan(config).fingerprint == make_plan(configuration(tmp_path)).fingerprint
    one, two = contents(before), contents(after)
    assert {name for name in one if one[name] != two[name]} == {"zarr.json", "_build/manifest.json"}


def test_a_question_stops_the_build_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Analytic, "open", asking)
    with pytest.raises(ConfigError, match="taken as open\n      boundary: wall"):
        build(configuration(tmp_path))
    assert not list((tmp_path / "analytic").glob("analytic-*"))
    path = build(configuration(tmp_path, accept=["boundary"]))
    assert build(configuration(tmp_path, accept=["boundary"])) == path
    (path / "split/c/0/0").unlink()
    with trusting(["analytic_source:Analytic"]):
        assert repair(path) == ["split/c/0/0"], "a question that was answered once is not asked again"


def test_strict_refuses_what_is_assumed_before_and_after_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(configuration(tmp_path / "plain", strict=True))
    monkeypatch.setattr(Analytic, "open", assuming)
    with pytest.raises(ConfigError, match="strict: nothing may be assumed"):
        build(configuration(tmp_path, strict=True))
    build(configuration(tmp_path))
    with pytest.raises(ConfigError, match="365 days a year"):
        build(configuration(tmp_path, strict=True))
    build(configuration(tmp_path, strict=True, accept=["calendar"]))


def test_a_field_without_values_in_frames_that_train_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = Analytic.values

    def late(self: Analytic, name: str) -> NDArray[np.float64]:
        """An instrument that measured only where nothing trains any more."""
        known = np.array(values(self, name))
        known[:4] = np.nan if name == "density" else known[:4]
        return known

    monkeypatch.setattr(Analytic, "values", late)
    source = {"names": ["velocity_x", "density"]}
    splits = {"kind": "trajectories", "valid": 1, "test": 1}
    recorded = open_store(build(configuration(tmp_path, source, missing="keep", splits=splits))).assumptions
    assert recorded is not None
    [told] = [one for one in recorded if one.code == "missing_values"]
    assert told.field == "density"
    assert "all frames that train: all values are missing" in told.text


def test_a_kind_of_assumption_that_does_not_exist_is_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'wind' is no kind of assumption; there are fields_not_read"):
        configuration(tmp_path, accept=["wind"])


def test_repair_restores_the_record_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Analytic, "open", assuming)
    path = build(configuration(tmp_path))
    before = contents(path)
    (path / "zarr.json").unlink()
    with trusting(["analytic_source:Analytic"]):
        repair(path)
    assert contents(path) == before


def test_what_is_assumed_while_parts_are_read_is_recorded_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = FieldReader.read

    def reading(self: FieldReader, trajectories: slice, times: slice) -> NDArray[np.float32]:
        assume("chunks_absent", "velocity_x", f"trajectory {trajectories.start}: never written")
        return exact(self, trajectories, times)

    monkeypatch.setattr(FieldReader, "read", reading)
    (one,) = open_store(build(configuration(tmp_path))).assumptions or ()
    assert (one.code, one.field) == ("chunks_absent", "velocity_x")
    assert one.count == len(make_plan(configuration(tmp_path)).parts) > 1
    assert one.text == "trajectory 0: never written"


def weather(path: Path, pressure: np.ndarray) -> Path:
    """A CF file of pressure, and of a temperature that is constant."""
    times, height, width = pressure.shape
    fields = {"sp": pressure, "t2m": np.full(pressure.shape, 273.15)}
    coordinates = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(6, "h"),
        "latitude": ("latitude", np.linspace(60, -60, height), {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(width) * 360 / width, {"units": "degrees_east"}),
    }
    dims, units = ("time", "latitude", "longitude"), {"sp": "Pa", "t2m": "K"}
    variables = {name: (dims, values, {"units": units[name]}) for name, values in fields.items()}
    xr.Dataset(variables, coordinates, {"Conventions": "CF-1.8"}).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture
def pressure() -> np.ndarray:
    return 101325 + 0.004 * np.random.default_rng(0).normal(size=(8, 6, 12))


def test_a_signal_below_float32_is_said_by_inspect_and_build_and_the_offset_brings_it_back(
    tmp_path: Path, pressure: np.ndarray
) -> None:
    file = weather(tmp_path / "sp.nc", pressure)
    offset = "transforms: {sp: {kind: shift, offset: 101325.0}}"
    text = propose(file)
    assert offset in text
    assert "constant (t2m)" in text
    assert "2001-01-01T00:00:00 to 2001-01-02T18:00:00, 8 points 6 h apart" in text
    values = {"dataset": "sp", "source": {"kind": "cf", "paths": str(file)}, "root": str(tmp_path)}
    lossy = open_store(build(BuildConfig.model_validate(values)))
    codes = {(one.code, one.field): one for one in lossy.assumptions or ()}
    assert codes["precision_lost", "sp"].answer == offset
    assert ("constant", "t2m") in codes
    shifted = {"sp": {"kind": "shift", "offset": 101325.0}}
    store = open_store(build(BuildConfig.model_validate(values | {"version": "2", "transforms": shifted})))
    assert [one.code for one in store.assumptions or ()] == ["constant"]
    view = xarray_view(store)
    assert view["sp"].attrs["units"] == "Pa"
    assert view["sp"].values[0] == pytest.approx(pressure, abs=1e-9)
    assert np.abs(xarray_view(lossy)["sp"].values[0] - pressure).max() > 1e-3


def test_a_late_spike_that_no_sample_sees_is_found_by_the_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pelagos.preprocessing.fields.survey._RUNS", 2)
    monkeypatch.setattr("pelagos.preprocessing.fields.survey._VALUES", 2 * 2 * 64)
    values = Analytic.values

    def spiked(self: Analytic, name: str) -> np.ndarray:
        field = values(self, name)
        field[2, 2, 0, 0] = 1e9
        return field

    monkeypatch.setattr(Analytic, "values", spiked)
    recorded = open_store(build(configuration(tmp_path))).assumptions
    assert [(one.code, one.field) for one in recorded or ()] == [
        ("spikes", "velocity_x"),
        ("spikes", "velocity_y"),
    ]
    assert "1e+09" in str((recorded or ())[0])
