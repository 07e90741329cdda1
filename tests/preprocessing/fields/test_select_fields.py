import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic_source import EVERYTHING, Analytic, analytic_fields, configuration

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.select_fields import select_fields


def test_variables_are_selected_renamed_and_given_roles(tmp_path: Path) -> None:
    found = analytic_fields(
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
    found = analytic_fields(tmp_path, source, levels=[250, 850])
    assert [channel.variable.key for channel in found.state] == ["velocity_x@250", "velocity_x@850"]
    values = Analytic(**source).values("velocity_x")
    assert np.array_equal(found.read(*EVERYTHING), values[:, :, [2, 0]])


def test_subsets_are_ranges_of_trajectories_and_times(tmp_path: Path) -> None:
    subset = {"trajectories": [1, -1], "time": [1, None], "every": 2}
    found = analytic_fields(tmp_path, subset=subset)
    assert found.dataset["trajectory"].values.tolist() == [101, 102, 103, 104]
    assert found.axis.tolist() == [0.75, 1.25]
    values = Analytic().values("velocity_x")[1:5, 1::2]
    assert np.array_equal(found.read(slice(0, 4), slice(0, 2))[:, :, 0], values)


def test_values_bound_subsets(tmp_path: Path) -> None:
    # Frames are at 0.5, 0.75, ...
    assert analytic_fields(tmp_path, subset={"times": [0.75, 1.3]}).axis.tolist() == [0.75, 1.0, 1.25]
    found = analytic_fields(tmp_path, {"levels": [850, 500, 250]}, subset={"level": [300, 900]})
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


def test_dates_bound_subsets(tmp_path: Path) -> None:
    found = analytic_fields(tmp_path, {"dates": True}, subset={"time": ["2001-12-28T06", "2001-12-29"]})
    assert [str(date) for date in found.axis] == [
        "2001-12-28T06:00:00",
        "2001-12-28T12:00:00",
        "2001-12-28T18:00:00",
    ]


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
        analytic_fields(tmp_path, source, **options)


def test_times_must_be_evenly_spaced(tmp_path: Path) -> None:
    ds = Analytic().open().assign_coords(time=("time", [0, 1, 2, 4, 5.0], {"units": "s"}))
    with pytest.raises(
        DataError, match=r"frames 0 and 1 are 1 s apart, frames 2 and 3 2, at 2.0; see subset.time"
    ):
        select_fields(ds, configuration(tmp_path))
    assert len(select_fields(ds, configuration(tmp_path, subset={"time": [0, 3]})).axis) == 3
