"""Dates of the standard calendar and of others are handled alike."""

from typing import Any

import cftime
import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.quantities import dates

CALENDARS = ["noleap", "all_leap", "360_day", "julian", "standard"]


def counted(numbers: Any, calendar: str, units: str = "days since 2001-01-01") -> Any:
    return np.array(cftime.num2date(np.asarray(numbers), units, calendar), object)


@pytest.mark.parametrize("calendar", CALENDARS)
def test_seconds_and_dates_are_inverse_in_every_calendar(calendar: str) -> None:
    axis = counted(np.arange(0, 800, 0.25), calendar)
    assert dates.calendar_of(axis) == calendar
    np.testing.assert_array_equal(dates.from_seconds(dates.seconds(axis), axis), axis)
    np.testing.assert_array_equal(np.diff(dates.seconds(axis)), 6 * 3600)


def test_seconds_of_datetime64_are_those_since_1970() -> None:
    axis = np.array(["1970-01-02", "1969-12-31"], "datetime64[ns]")
    np.testing.assert_array_equal(dates.seconds(axis), [86400, -86400])
    assert dates.from_seconds(dates.seconds(axis), axis).dtype == axis.dtype


def test_a_leap_day_is_no_date_without_leap_years_and_one_of_a_360_day_year_is() -> None:
    with pytest.raises(ValueError, match="day"):
        dates.parse("2000-02-29", counted([0], "noleap"))
    assert dates.parse("2001-02-30T06", counted([0], "360_day")) == counted([59.25], "360_day")[0]


def test_fractions_of_a_year_are_of_the_calendars_own() -> None:
    np.testing.assert_allclose(dates.year_fraction(counted([0, 90, 180], "360_day")), [0, 0.25, 0.5])
    np.testing.assert_allclose(dates.year_fraction(counted([73], "noleap", "days since 2004-01-01")), [0.2])
    np.testing.assert_allclose(dates.year_fraction(np.array(["2004-12-31"], "M8[s]")), [365 / 366])


@pytest.mark.parametrize(
    ("texts", "months"),
    [
        (["2001-01-01", "2001-02-01", "2001-03-01"], 1),
        (
            ["1850-01-16T12", "1850-02-15", "1850-03-16T12", "1850-04-16"],
            1,
        ),  # the middle, as CMIP dates means
        (["2001-01-31", "2001-02-28", "2001-03-31"], 1),
        (["2001-01-01", "2002-01-01", "2003-01-01", "2004-01-01", "2005-01-01"], 12),
        (["2001-01-01", "2001-04-01", "2001-07-01"], 3),
        (["2001-01-01", "2001-02-01", "2001-04-01"], 0),  # March is missing
        (["2001-01-03", "2001-02-27", "2001-03-01"], 0),
        (["2001-01-01", "2001-01-02", "2001-01-04"], 0),
    ],
)
def test_steps_of_months_are_told_from_uneven_ones(texts: list[str], months: int) -> None:
    assert dates.even_months(np.array(texts, "datetime64[s]")) == months


def test_months_of_other_calendars_are_even_too() -> None:
    assert dates.even_months(counted([14, 45, 73.5, 104], "noleap")) == 1
    axis = counted([14, 45, 73.5, 104], "noleap")
    np.testing.assert_array_equal(dates.months_since_first(axis), [0, 1, 2, 3])


@pytest.mark.parametrize("calendar", ["noleap", "standard"])
def test_months_are_added_by_the_calendar(calendar: str) -> None:
    start = np.array(["1979-01-01"], "M8[s]") if calendar == "standard" else counted([0], calendar)
    found = dates.add_months(start, np.array([0.0, 1, 1.5, 14]))
    year = dates.years(start)[0]
    expected = [f"{year}-01-01", f"{year}-02-01", f"{year}-02-15", f"{year + 1}-03-01"]
    assert [dates.text_of(one)[:10] for one in found] == expected


def test_a_month_after_the_31st_is_no_date() -> None:
    with pytest.raises(ValueError, match="1979-01-31"):
        dates.add_months(np.array(["1979-01-31"], "M8[s]"), np.ones(1))


def test_objects_of_the_standard_calendar_become_datetime64_after_its_reform() -> None:
    later = dates.simplified(counted([0, 0.5], "standard", "days since 2500-01-01"))
    np.testing.assert_array_equal(later, np.array(["2500-01-01T00", "2500-01-01T12"], "M8[s]"))
    before = counted([0, 1], "standard", "days since 1500-01-01")
    assert dates.simplified(before).dtype == object


def test_two_calendars_are_named() -> None:
    with pytest.raises(DataError, match=r"a\.nc and b\.nc differ in their calendars: noleap and 360_day"):
        dates.require_one_calendar("a.nc", counted([0], "noleap"), "b.nc", counted([0], "360_day"))
