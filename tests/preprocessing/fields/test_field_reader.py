import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.coarsen import coarse_grid, coarsen
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.mantissa import round_mantissa
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.fields.solar_forcing import FORCINGS
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources.formats.external import ExternalSource
from pelagos.preprocessing.store.store import open_store

EVERYTHING = (slice(0, 6), slice(0, 5))


def fields(tmp_path: Path, source: dict[str, Any] | None = None, **options: Any) -> FieldReader:
    return select_fields(Analytic(**(source or {})).open(), configuration(tmp_path, **options))


def test_fields_are_read_as_they_are(tmp_path: Path) -> None:
    block = fields(tmp_path).read(slice(1, 4), slice(2, 5))
    assert np.array_equal(block[:, :, 1], Analytic().values("velocity_y")[1:4, 2:5])


def test_reading_in_small_pieces_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fields(tmp_path).read(*EVERYTHING)
    monkeypatch.setattr("pelagos.preprocessing.fields.field_reader._PIECE", 1)
    for pieces in (10**6, 20, 6):
        monkeypatch.setattr("pelagos.preprocessing.fields.field_reader._PIECES", pieces)
        assert np.array_equal(fields(tmp_path).read(*EVERYTHING), whole)


def test_variables_are_selected_renamed_and_given_roles(tmp_path: Path) -> None:
    found = fields(
        tmp_path,
        {"names": ["velocity_x", "velocity_y", "density"]},
        variables=["speed", "density"],
        rename={"velocity_y": "speed"},
        roles={"speed": "diagnostic", "density": "prognostic"},
    )
    assert [(c.variable.key, c.variable.role) for c in found.state] == [
        ("density", "prognostic"),
        ("speed", "diagnostic"),
    ]
    assert np.array_equal(found.read(*EVERYTHING)[:, :, 1], Analytic().values("velocity_y"))


def test_levels_become_channels(tmp_path: Path) -> None:
    source = {"levels": [850, 500, 250], "names": ["velocity_x"]}
    found = fields(tmp_path, source, levels=[250, 850])
    assert [channel.variable.key for channel in found.state] == ["velocity_x@250", "velocity_x@850"]
    values = Analytic(**source).values("velocity_x")
    assert np.array_equal(found.read(*EVERYTHING), values[:, :, [2, 0]])


def test_units_are_converted_before_the_transform(tmp_path: Path) -> None:
    found = fields(
        tmp_path,
        {"dtype": "float64"},
        convert={"velocity_x": {"units": "cm s-1", "scale": 100, "offset": 300}},
        transforms={"velocity_x": {"kind": "log1p", "scale": 2}},
    )
    exact = np.log1p((Analytic(dtype="float64").values("velocity_x") * 100 + 300) / 2)
    assert np.array_equal(found.read(*EVERYTHING)[:, :, 0], exact.astype(np.float32))
    assert found.state[0].variable.units == "cm s-1"
    transform = found.state[0].variable.transform
    assert transform is not None
    assert transform.inverse(transform.forward(np.array([0, 1e-9, 5.0]))) == pytest.approx(
        [0, 1e-9, 5], rel=1e-12
    )


def test_a_transform_is_recorded_in_the_store(tmp_path: Path) -> None:
    convert = {"velocity_x": {"units": "m s-1", "offset": 10}}
    path = build(configuration(tmp_path, convert=convert, transforms={"velocity_x": {"scale": 2}}))
    attrs = zarr.open_array(path / "state", mode="r").attrs["channels"][0]
    assert attrs["transform"] == {"kind": "log1p", "scale": 2, "units": "m s-1"}
    assert (attrs["units"], attrs["long_name"]) == ("1", "ln(1 + velocity_x / 2 m s-1)")


def test_subsets_are_ranges_of_trajectories_and_times(tmp_path: Path) -> None:
    subset = {"trajectories": [1, -1], "time": [1, None], "every": 2}
    found = fields(tmp_path, subset=subset)
    assert found.dataset["trajectory"].values.tolist() == [101, 102, 103, 104]
    assert found.axis.tolist() == [0.75, 1.25]
    values = Analytic().values("velocity_x")[1:5, 1::2]
    assert np.array_equal(found.read(slice(0, 4), slice(0, 2))[:, :, 0], values)


def test_values_bound_subsets(tmp_path: Path) -> None:
    # Frames are at 0.5, 0.75, ...
    assert fields(tmp_path, subset={"times": [0.75, 1.3]}).axis.tolist() == [0.75, 1.0, 1.25]
    found = fields(tmp_path, {"levels": [850, 500, 250]}, subset={"level": [300, 900]})
    assert [channel.variable.key for channel in found.state][:2] == ["velocity_x@850", "velocity_x@500"]


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_bounds_mean_coordinates_that_went_through_single_precision(tmp_path: Path, offset: float) -> None:
    ds = Analytic(levels=(1, 2, 3, 4, 5)).open()
    single = {
        axis: ds[axis].copy(data=(offset + 0.1 * np.arange(ds.sizes[axis])).astype(np.float32).astype(float))
        for axis in ("time", "level", "y", "x")
    }
    for first, last in itertools.combinations(range(5), 2):
        bounds = [offset + first / 10, offset + last / 10]
        subset = {"times": bounds, "level": bounds, "y": bounds, "x": bounds}
        found = select_fields(ds.assign_coords(single), configuration(tmp_path, subset=subset))
        taken = last - first + 1
        assert (len(found.axis), len(found.dataset.level), found.grid.shape) == (taken, taken, (taken, taken))


@pytest.mark.parametrize(
    ("chosen", "sides", "beyond"),
    [
        ({"subset": {"level": [0, 2]}}, "wall,open", "wall,open"),
        ({"subset": {"level": [0, 1]}}, "wall,wall", "wall,open"),
        ({"subset": {"level": [1, 2]}}, "periodic,periodic", "open,open"),
        ({"levels": [2, 0]}, "periodic,periodic", "periodic,periodic"),
        ({"levels": [1]}, "wall,wall", "open,open"),
    ],
)
def test_ends_that_chosen_planes_leave_out_are_open(
    tmp_path: Path, chosen: dict[str, Any], sides: str, beyond: str
) -> None:
    ds = Analytic(levels=(0, 1, 2)).open()
    ds["level"].attrs["boundary"] = sides
    assert select_fields(ds, configuration(tmp_path, **chosen)).dataset["level"].attrs["boundary"] == beyond
    assert ds["level"].attrs["boundary"] == sides


def test_a_region_is_what_indexing_gives(tmp_path: Path) -> None:
    # Rows and columns are at 0, 0.125, ..., 0.875.
    found = fields(tmp_path, {"static": "varying"}, subset={"y": [0.25, 0.6], "x": [0.5, 2]})
    assert found.grid.y.tolist() == [0.25, 0.375, 0.5]
    assert found.grid.x.tolist() == [0.5, 0.625, 0.75, 0.875]
    assert (found.grid.boundary_y, found.grid.boundary_x) == (("open", "open"), ("open", "open"))
    values = Analytic().values("velocity_x")[..., 2:5, 4:]
    assert np.array_equal(found.read(*EVERYTHING)[:, :, 0], values)
    depth = Analytic().values("depth")[:, 0, 2:5, 4:]
    assert np.array_equal(found.read_static(slice(0, 6))[:, 0], depth)


@pytest.mark.parametrize(
    ("bounds", "columns", "longitudes"),
    [
        # Columns are at 0, 45, ..., 315 degrees.
        ([90, 200], [2, 3, 4], [90, 135, 180]),
        ([170, -80], [4, 5, 6], [180, 225, 270]),
        ([-90, 50], [6, 7, 0, 1], [-90, -45, 0, 45]),
        ([270, 410], [6, 7, 0, 1], [270, 315, 360, 405]),
        ([-180, 180], [4, 5, 6, 7, 0, 1, 2, 3], [-180, -135, -90, -45, 0, 45, 90, 135]),
    ],
)
def test_longitudes_run_from_west_to_east_across_any_seam(
    tmp_path: Path, bounds: list[float], columns: list[int], longitudes: list[float]
) -> None:
    source = {"latlon": True, "dates": True}
    found = fields(tmp_path, source, subset={"x": bounds}, forcings=["cos_local_time"])
    assert found.grid.x.tolist() == longitudes
    assert found.grid.periodic[1] is (len(columns) == 8)
    assert found.grid.boundary_y == ("pole", "pole")
    block = found.read(*EVERYTHING)
    assert np.array_equal(block[:, :, 0], Analytic(**source).values("velocity_x")[..., columns])
    whole = fields(tmp_path, source, forcings=["cos_local_time"]).read(*EVERYTHING)
    assert block[:, :, 2] == pytest.approx(whole[:, :, 2][..., columns], abs=1e-6)


def test_dates_bound_subsets(tmp_path: Path) -> None:
    found = fields(tmp_path, {"dates": True}, subset={"time": ["2001-12-28T06", "2001-12-29"]})
    assert [str(date) for date in found.axis] == [
        "2001-12-28T06:00:00",
        "2001-12-28T12:00:00",
        "2001-12-28T18:00:00",
    ]


def test_coarsening_takes_means_of_blocks(tmp_path: Path) -> None:
    found = fields(tmp_path, {"static": "varying"}, coarsen=4)
    values = Analytic().values("velocity_x").astype(np.float64)
    expected = values.reshape(6, 5, 2, 4, 2, 4).mean(axis=(3, 5))
    assert found.read(*EVERYTHING)[:, :, 0] == pytest.approx(expected, rel=1e-6)
    assert found.grid.x.tolist() == [3 / 16, 11 / 16]
    depth = Analytic().values("depth")[:, 0].astype(np.float64).reshape(6, 2, 4, 2, 4).mean(axis=(2, 4))
    assert found.read_static(slice(0, 6))[:, 0] == pytest.approx(depth, rel=1e-6)


def test_coarsening_conserves_the_integral_on_a_sphere() -> None:
    fine = Grid("latlon", np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0))
    coarse = coarse_grid(fine, 4)
    values = np.cos(np.deg2rad(fine.y))[:, None] * (2 + np.sin(np.deg2rad(fine.x)))
    before = (values * fine.area_weights()).mean()
    # Area weights of a coarse grid are those of its own cells, whose edges are the fine ones'.
    after = (coarsen(values, fine, 4) * coarse.area_weights()).mean()
    assert after == pytest.approx(before, rel=1e-12)


def test_coarsening_looks_past_missing_values() -> None:
    grid = Grid("cartesian", np.arange(2.0), np.arange(4.0))
    values = np.array([[1, np.nan, np.nan, np.nan], [3, 5, np.nan, np.nan]])
    means = coarsen(values, grid, 2)
    assert means[0, 0] == 3
    assert np.isnan(means[0, 1])


def test_forcings_follow_sun_and_calendar(tmp_path: Path) -> None:
    found = fields(
        tmp_path,
        {"dates": True, "latlon": True},
        forcings=["cos_local_time", "sin_local_time", "cos_year"],
    )
    assert [channel.variable.role for channel in found.state] == ["prognostic"] * 2 + ["forcing"] * 3
    block = found.read(*EVERYTHING)
    # At 00 UTC it is midnight at 0 degrees, 06 in the morning at 90 degrees east.
    assert block[0, 0, 2, 0, [0, 2, 4]] == pytest.approx([1, 0, -1], abs=1e-6)
    assert block[0, 0, 3, 0, [0, 2, 4]] == pytest.approx([0, 1, 0], abs=1e-6)
    # Six hours later everywhere is six hours later.
    assert block[3, 1, 2, 5, 0] == pytest.approx(0, abs=1e-6)
    # The 28th of December 2001 is day 361 of 365.
    assert block[0, 0, 4, 0, 0] == pytest.approx(np.cos(2 * np.pi * 361 / 365), abs=1e-6)
    assert np.array_equal(block[0], block[5]) is False
    assert np.array_equal(block[0, :, 2:], block[5, :, 2:])


def test_leap_years_have_their_own_length() -> None:
    grid = Grid("latlon", np.array([0.0]), np.array([0.0]))
    dates = np.array(["2004-01-01", "2004-07-02", "2003-01-01"], "datetime64[s]")
    assert FORCINGS["cos_year"](dates, grid)[:, 0, 0] == pytest.approx([1, -1, 1], abs=1e-12)


@pytest.mark.parametrize("bits", [1, 7, 12, 22])
def test_rounding_keeps_so_many_bits_and_tells_the_error(bits: int) -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    values[:3] = [np.nan, 0, np.inf]
    rounded = values.copy()
    error = round_mantissa(rounded, bits)
    assert not (rounded.view(np.uint32)[3:] & ((1 << (23 - bits)) - 1)).any()
    exact = np.abs((rounded[3:].astype(np.float64) - values[3:]) / values[3:]).max()
    assert error == exact
    assert 0 < error <= 2.0 ** -(bits + 1)
    assert np.isnan(rounded[0])
    assert (rounded[1], rounded[2]) == (0, np.inf)


def test_ties_are_rounded_to_even() -> None:
    values = np.array([1 + 2**-3, 1 + 3 * 2**-3], np.float32)
    round_mantissa(values, 2)
    assert values.tolist() == [1, 1.5]


def test_rounding_is_recorded_with_its_error(tmp_path: Path) -> None:
    path = build(configuration(tmp_path, bits={"velocity_y": 6}))
    attrs = zarr.open_array(path / "state", mode="r").attrs["channels"]
    assert "quantization_nsb" not in attrs[0]
    assert attrs[1]["quantization_nsb"] == 6
    stored = np.stack([open_store(path).read(i, 0, 5)[:, 1] for i in range(6)]).astype(np.float64)
    exact = Analytic().values("velocity_y")
    assert attrs[1]["quantization_relative_error"] == np.abs((stored - exact) / exact).max()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            {},
            {"variables": ["pressure"]},
            r"variables: no field 'pressure'; there are \['velocity_x', 'velocity_y'\]",
        ),
        ({}, {"rename": {"u": "velocity_x"}}, "rename: no variable 'u'"),
        ({}, {"rename": {"velocity_x": "velocity_y"}}, "rename: .*velocity_y"),
        ({}, {"bits": {"density": 3}}, "bits: no field 'density'"),
        ({"static": "common"}, {"bits": {"depth": 3}}, "bits: 'depth' is static"),
        ({}, {"levels": [500]}, "levels: no field has levels"),
        ({"levels": [850]}, {"levels": [500]}, r"levels: no level 500; there are \[850\]"),
        ({}, {"coarsen": 3}, "coarsen: 3 does not divide the 8 points along y"),
        ({}, {"forcings": ["cos_year"]}, "cos_year needs dates"),
        ({"dates": True}, {"forcings": ["cos_year"]}, "cos_year needs longitudes"),
        ({}, {"subset": {"time": [3, 3]}}, r"subset.time: \[3, 3\] is empty or reaches beyond"),
        ({}, {"subset": {"times": [7, 9]}}, r"subset.times: nothing lies within \[7.0, 9.0\].* 0.5 to 1.5"),
        ({}, {"subset": {"times": [0, 9], "time": [0, 2]}}, "time and times both select frames"),
        ({"dates": True}, {"subset": {"times": [0, 9]}}, "the data have dates; give dates as subset.time"),
        ({}, {"subset": {"y": [1, 2]}}, r"subset.y: no point lies within \[1.0, 2.0\].* from 0 to 0.875"),
        ({"latlon": True}, {"subset": {"x": [1, 2]}}, "subset.x: no point lies within"),
        ({}, {"subset": {"level": [1, 2]}}, "subset.level: no field has levels"),
        ({}, {"coarsen": 2, "regrid": {"shape": [4, 4]}}, "give only one of them"),
        ({}, {"convert": {"velocity_x": "K"}}, r"convert.velocity_x: .*measure different things; .*scale"),
        (
            {},
            {"convert": {"velocity_x": "parsec"}},
            r"convert.velocity_x: units 'parsec': .* is not a known unit",
        ),
        ({"static": "common"}, {"variables": ["depth"]}, "none of .* depends on time"),
    ],
)
def test_options_that_contradict_the_data_are_explained(
    tmp_path: Path, source: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fields(tmp_path, source, **options)


def test_times_must_be_evenly_spaced(tmp_path: Path) -> None:
    ds = Analytic().open().assign_coords(time=("time", [0, 1, 2, 4, 5.0], {"units": "s"}))
    with pytest.raises(
        DataError, match=r"frames 0 and 1 are 1 s apart, frames 2 and 3 2, at 2.0; see subset.time"
    ):
        select_fields(ds, configuration(tmp_path))
    assert len(select_fields(ds, configuration(tmp_path, subset={"time": [0, 3]})).axis) == 3


def test_an_external_source_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)cannot make 'analytic_source:Analytic'.*colour"):
        build(configuration(tmp_path, {"colour": "red"}))
    with pytest.raises(ConfigError, match=r"cannot make 'nowhere:Nothing' \(package.module:Class\)"):
        ExternalSource(kind="external", path="nowhere:Nothing").open()
