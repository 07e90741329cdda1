"""A survey sees constants, lost digits, marks and spikes, and repeated ends; and calls ordinary fields ordinary."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import Assumption, collect
from pelagos.preprocessing.fields import survey as surveys
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.fields.survey import assume_survey, survey_fields, table
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention

RNG = np.random.default_rng(0)


def reader(values: NDArray[Any], periodic: bool = True, **options: Any) -> FieldReader:
    """One field (trajectory, time, y, x) on a Cartesian grid."""
    sides: Any = ("periodic", "periodic") if periodic else ("wall", "wall")
    height, width = values.shape[-2:]
    field = xr.Variable(convention.TIME_DIMS, values, {"units": "Pa", "role": "prognostic"})
    ds = convention.assemble(
        {"pressure": field},
        grid=Grid("cartesian", np.arange(float(height)), np.arange(float(width)), sides, sides),
        time=np.arange(float(values.shape[1])),
        dataset="made",
        source_format="test",
        sources=(),
        num_trajectories=len(values),
    )
    return select_fields(ds, FieldOptions.model_validate(options))


def found(fields: FieldReader) -> tuple[Assumption, ...]:
    with collect() as assumptions:
        assume_survey(survey_fields(fields), fields)
    return assumptions.all


def waves(mean: float, amplitude: float, points: int = 16, dtype: str = "float64") -> NDArray[Any]:
    y, x = np.meshgrid(*(2 * np.pi * np.arange(points) / points,) * 2, indexing="ij")
    phases = np.arange(6.0).reshape(2, 3, 1, 1)
    return (mean + amplitude * np.sin(x + phases) * np.cos(y)).astype(dtype)


@pytest.mark.parametrize(
    "values",
    [
        waves(0, 1),
        waves(250, 30, dtype="float32"),
        RNG.lognormal(0, 3, (2, 3, 32, 32)),  # heavier a tail than precipitation's
        np.where(waves(0, 1) > 0, 3.0, 12.0),  # two phases
        np.where(waves(0, 1) > 0, 3.0, 12.0) + 1e-7 * waves(0, 1),
        np.maximum(waves(0, 1) - 0.99, 0),  # a blob in a field at rest
    ],
)
def test_ordinary_fields_are_ordinary(values: NDArray[Any]) -> None:
    assert found(reader(values)) == ()


def test_what_float32_cannot_resolve_is_said_with_the_offset_that_helps() -> None:
    fields = reader(waves(101325, 0.004))
    (one,) = found(fields)
    assert (one.code, one.field) == ("precision_lost", "pressure")
    assert one.answer == "transforms: {pressure: {kind: shift, offset: 101325.0}}"
    helped = reader(waves(101325, 0.004), transforms={"pressure": {"kind": "shift", "offset": 101325.0}})
    assert found(helped) == ()
    stored = helped.read(slice(0, 2), slice(0, 3))[:, :, 0]
    assert stored.astype(np.float64) + 101325 == pytest.approx(waves(101325, 0.004), abs=1e-9)


def test_numbers_that_float32_holds_exactly_lose_nothing_however_they_are_kept() -> None:
    rounded = waves(101325, 0.1).astype(np.float32).astype(np.float64)
    assert found(reader(rounded)) == ()


def test_a_constant_is_told_and_one_with_the_noise_of_float64_too() -> None:
    for values in (np.full((2, 3, 8, 8), 0.1), 0.1 + 1e-17 * waves(0, 1)):
        (one,) = found(reader(values))
        assert (one.code, one.field) == ("constant", "pressure")
        assert "0.1 Pa everywhere" in one.text


@pytest.mark.parametrize("share", [1, 300])
@pytest.mark.parametrize("mark", [-9999.0, 1e20, -32767.0])
def test_marks_of_missing_values_stand_out_whether_rare_or_many(mark: float, share: int) -> None:
    values = waves(280, 30)
    values.reshape(-1)[:share] = mark
    (one,) = found(reader(values))
    assert (one.code, one.question) == ("missing_values", True)
    assert f"{share} of {values.size} values" in one.text


@pytest.mark.parametrize("mark", [-9999.0, 1e20])
def test_a_mark_beside_a_single_other_value_is_no_second_phase(mark: float) -> None:
    (one,) = found(reader(np.where(waves(0, 1) > 0.5, mark, 1.0)))
    assert (one.code, one.question) == ("missing_values", True)


def test_a_mark_in_the_second_column_does_not_make_the_last_one_seem_to_repeat_the_first() -> None:
    values = waves(280, 30)
    values[..., 2, 1] = 1e36
    assert [one.code for one in found(reader(values))] == ["missing_values"]


def test_a_periodic_axis_that_repeats_its_first_point_is_told_and_one_with_walls_is_not() -> None:
    repeated = waves(0, 1)[..., [*range(16), 0]]
    (one,) = found(reader(repeated))
    assert (one.code, one.field, one.answer) == ("repeated_end", "x", "subset: {x: [0.0, 15.0]}")
    assert found(reader(repeated, periodic=False)) == ()
    assert found(reader(repeated, subset={"x": [0, 15]})) == ()


def test_fields_at_rest_do_not_count_as_repeating() -> None:
    assert [one.code for one in found(reader(np.zeros((1, 2, 8, 8))))] == ["constant"]


def test_large_data_are_sampled_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "_VALUES", 2 * 16 * 16)
    fields = reader(waves(101325, 0.004))
    survey = survey_fields(fields)
    assert (survey.num_frames, survey.of_frames) == (2, 6)
    assert survey.extent == "2 of 6 frames"
    assert "made, 2 of 6 frames" in found(fields)[0].text


def test_the_table_shows_extremes_missing_share_and_outliers() -> None:
    values = waves(280, 30)
    values[0, 0, :4] = np.nan
    values[1, 2, 5, 5] = 1e20
    head, line = table(survey_fields(reader(values, missing="keep")))
    assert head.split() == ["variable", "units", "minimum", "maximum", "mean", "std", "missing", "outliers"]
    cells = line.split()
    assert cells[:2] == ["pressure", "Pa"]
    assert float(cells[2]) == pytest.approx(250, rel=0.01)
    assert float(cells[3]) == 1e20
    assert cells[6:] == [f"{100 * 64 / 1536:.2f}%", "1"]


def test_a_field_without_any_value_is_no_error() -> None:
    (one,) = survey_fields(reader(np.full((1, 2, 4, 4), np.nan), missing="keep")).channels
    assert (one.count, one.missing) == (0, 1.0)


def test_values_beyond_float32_are_outliers_and_no_warning() -> None:
    values = waves(280, 30)
    values[0, 0, 0, :3] = (1e300, -1e308, np.inf)
    (one,) = survey_fields(reader(values)).channels
    assert (one.outliers, one.loses, one.constant) == (3, False, False)


@pytest.mark.parametrize("mark", [-9999.0, 1e20])
@pytest.mark.parametrize("share", [0.5, 0.0005])
def test_an_unmarked_mark_is_asked_about_in_the_units_of_the_source(mark: float, share: float) -> None:
    values = waves(280, 10, points=64)
    hidden = np.random.default_rng(0).random(values.shape) < share
    values[hidden] = mark
    options: dict[str, Any] = {"convert": {"pressure": {"units": "hPa", "scale": 0.01, "offset": 3}}}
    (one,) = found(reader(values, **options))
    assert (one.code, one.field, one.question) == ("missing_values", "pressure", True)
    assert one.answer.startswith(f"marks: {{pressure: [{mark:.7g}]}}")
    fields = reader(values, marks={"pressure": [mark]}, missing="keep", **options)
    assert found(fields) == ()
    stored = fields.read(slice(0, 2), slice(0, 3))[:, :, 0]
    np.testing.assert_array_equal(np.isnan(stored), hidden)


def test_a_field_without_any_value_is_told_and_one_of_infinite_ones() -> None:
    for value, code, words in (
        (np.nan, "missing_values", "all values are missing"),
        (np.inf, "spikes", "none is finite"),
    ):
        (one,) = found(reader(np.full((2, 3, 8, 8), value), missing="keep"))
        assert one.code == code
        assert words in one.text
