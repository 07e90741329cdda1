"""Dates of frames go on beyond both ends of an axis, by the calendar."""

import cftime
import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.quantities.date_axis import DateAxis


def test_hours_go_on_over_the_leap_day() -> None:
    axis = DateAxis.of(
        np.array(["2020-02-28T12:00", "2020-02-29T00:00", "2020-02-29T12:00"], "datetime64[s]")
    )
    found = axis.at(np.array([[-1, 0], [3, 4]]))
    assert found.astype("datetime64[h]").astype(str).tolist() == [
        ["2020-02-28T00", "2020-02-28T12"],
        ["2020-03-01T00", "2020-03-01T12"],
    ]


def test_a_calendar_without_leap_years_has_no_leap_day() -> None:
    days = [cftime.datetime(2020, 2, 27, calendar="noleap"), cftime.datetime(2020, 2, 28, calendar="noleap")]
    (found,) = DateAxis.of(np.array(days, object)).at(np.array([2]))
    assert (found.month, found.day, found.calendar) == (3, 1, "noleap")


def test_months_are_those_of_the_calendar() -> None:
    axis = DateAxis.of(np.array(["2019-11-16", "2019-12-16", "2020-01-16"], "datetime64[s]"), months=1)
    assert axis.at(np.array([2, 3, 4])).astype("datetime64[D]").astype(str).tolist() == [
        "2020-01-16",
        "2020-02-16",
        "2020-03-16",
    ]


def test_frames_are_found_by_their_dates() -> None:
    axis = DateAxis.of(np.array(["2020-01-01", "2020-01-02"], "datetime64[s]"))
    assert axis.frame("2020-01-02") == 1
    for text in ("2020-01-03", "2020-13-01"):
        with pytest.raises(ValueError, match="20"):
            axis.frame(text)


def test_one_frame_cannot_be_continued() -> None:
    axis = DateAxis.of(np.array(["2020-01-01"], "datetime64[s]"))
    assert axis.at(np.array([0]))[0] == np.datetime64("2020-01-01")
    with pytest.raises(DataError, match="no distance"):
        axis.at(np.array([1]))
