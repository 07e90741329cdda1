from pathlib import Path

import numpy as np
import pytest
from analytic_source import EVERYTHING, analytic_fields

from pelagos.preprocessing.fields.solar_forcing import FORCINGS
from pelagos.preprocessing.grid import Grid


def test_forcings_follow_sun_and_calendar(tmp_path: Path) -> None:
    found = analytic_fields(
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
    assert FORCINGS["cos_year"](dates, grid, 0.0)[:, 0, 0] == pytest.approx([1, -1, 1], abs=1e-12)


def test_places_and_insolation_are_channels(tmp_path: Path) -> None:
    found = analytic_fields(
        tmp_path,
        {"dates": True, "latlon": True},
        forcings=["insolation", "mean_insolation", "mean_insolation_ahead"],
        places=["sin_latitude", "cos_longitude", "cell_area"],
    )
    static = found.read_static(slice(0, 1))[0]
    assert [channel.variable.role for channel in found.static] == ["static"] * 3
    assert static[0, :, 0] == pytest.approx(np.sin(np.deg2rad(found.grid.y)), abs=1e-6)
    assert static[1, 0] == pytest.approx(np.cos(np.deg2rad(found.grid.x)), abs=1e-6)
    assert static[2].mean() == pytest.approx(1, abs=1e-6)
    block = found.read(*EVERYTHING)[:, :, -3:]
    # The mean over the hours before is that of what the sun shines within them.
    axis = found.axis
    step = axis[1] - axis[0]
    within = axis[2] - step * (np.arange(100) + 0.5) / 100
    sampled = FORCINGS["insolation"](within.astype("datetime64[s]"), found.grid, 0.0).mean(axis=0)
    assert block[0, 2, 1] == pytest.approx(sampled, abs=5)
    # What comes until the next frame is what came before it.
    assert block[0, 2, 2] == pytest.approx(block[0, 3, 1], abs=0.1)
