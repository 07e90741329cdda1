"""What a CF or ACDD reader expects of a store, read with zarr-python and xarray alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from analytic_source import Analytic, configuration
from pydantic import ValidationError

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.quantities.units import parse_unit

WEATHER = {
    "latlon": True,
    "dates": True,
    "static": "common",
    "scalars": True,
    "names": ["velocity_x", "heating"],
}


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {
        "title": "Made-up weather",
        "references": "doi:10.0/0",
        "attributes": {"institution": "Nowhere", "creator_name": "Nobody"},
        "bits": {"velocity_x": 9},
        "codec": "blosc-lz4",
    }
    return build(configuration(tmp_path_factory.mktemp("cf"), WEATHER, **options))


def test_the_group_says_what_acdd_recommends(weather: Path) -> None:
    attrs: dict[str, Any] = dict(zarr.open_group(weather, mode="r").attrs)
    assert attrs["Conventions"] == "CF-1.12 ACDD-1.3"
    assert (attrs["id"], attrs["title"], attrs["license"]) == ("analytic-1", "Made-up weather", "CC0-1.0")
    assert attrs["summary"] == "6 trajectories of 5 frames of 8 x 8 points: velocity_x, heating"
    assert (attrs["institution"], attrs["creator_name"]) == ("Nowhere", "Nobody")
    assert attrs["history"].startswith("built by pelagos")
    assert (attrs["geospatial_lat_min"], attrs["geospatial_lon_max"]) == (-70, 315)
    assert attrs["time_coverage_start"] == "2001-12-28T00:00:00Z"
    assert attrs["time_coverage_end"] == "2001-12-29T00:00:00Z"
    assert set(attrs["provenance"]) == {"config", "sources", "software"}


@pytest.mark.parametrize("source", [WEATHER, {"static": "varying"}], ids=["latlon", "cartesian"])
def test_every_array_says_what_it_is(tmp_path: Path, source: dict[str, Any]) -> None:
    group: Any = zarr.open_group(build(configuration(tmp_path, source)), mode="r")
    for name, array in group.arrays():
        assert "long_name" in array.attrs, name
        assert len(array.metadata.dimension_names) == array.ndim
        flags = array.attrs.get("flag_values")
        if flags is not None:
            assert len(flags) == len(array.attrs["flag_meanings"].split())
            assert set(np.unique(array[:])) <= set(flags)
    for name in ("state", "static"):
        for channel in group[name].attrs["channels"]:
            assert {"name", "units"} <= set(channel)
            parse_unit(channel["units"])


def test_coordinates_are_recognised_by_their_attributes(weather: Path) -> None:
    ds = xr.open_zarr(weather, chunks=None)
    assert (ds["y"].attrs["standard_name"], ds["y"].attrs["units"]) == ("latitude", "degrees_north")
    assert (ds["x"].attrs["standard_name"], ds["x"].attrs["units"]) == ("longitude", "degrees_east")
    assert [ds[axis].attrs["axis"] for axis in ("time", "y", "x")] == ["T", "Y", "X"]
    assert np.array_equal(ds["time"].values, Analytic(**WEATHER).open()["time"].values)
    raw = xr.open_zarr(weather, chunks=None, decode_times=False)
    assert raw["time"].attrs["units"].startswith("seconds since ")
    assert raw["time"].attrs["calendar"] == "proleptic_gregorian"


def test_rounding_is_told_in_the_words_of_cf(weather: Path) -> None:
    state: Any = zarr.open_array(weather / "state", mode="r")
    rounded, exact = state.attrs["channels"]
    assert (rounded["quantization"]["algorithm"], rounded["quantization_nsb"]) == ("bitround", 9)
    assert 0 < rounded["quantization_relative_error"] <= 2.0**-10
    assert "quantization" not in exact


def test_a_logarithm_has_no_standard_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Analytic.open

    def named(self: Analytic) -> xr.Dataset:
        ds = original(self)
        ds["velocity_x"].attrs["standard_name"] = "precipitation_flux"
        return ds

    monkeypatch.setattr(Analytic, "open", named)
    plain = build(configuration(tmp_path))
    logarithmic = build(configuration(tmp_path, version="2", transforms={"velocity_x": {"scale": 3}}))
    states: list[Any] = [zarr.open_array(p / "state", mode="r") for p in (plain, logarithmic)]
    first, second = (state.attrs["channels"][0] for state in states)
    assert first["standard_name"] == "precipitation_flux"
    assert "standard_name" not in second


def test_what_the_build_writes_itself_cannot_be_said_otherwise(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="history is written by the build itself"):
        configuration(tmp_path, attributes={"history": "none"})
