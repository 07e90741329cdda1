"""Forcings go on beyond the data by the clock or another store, and what nothing knows is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs.model_folder import Model
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.store.store import Store

MakeWeather = Callable[..., xr.Dataset]
BuildWeather = Callable[..., Store]
ModelOf = Callable[..., Model]


@pytest.fixture(scope="module")
def longer(
    make_weather: MakeWeather, build_weather: BuildWeather, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """The same days and those after them."""
    folder = tmp_path_factory.mktemp("longer")
    forcings = ["cos_local_time", "sin_year"]
    return build_weather(folder, "long", make_weather(frames=30), forcings=forcings)


def test_forecasts_beyond_the_data_are_those_with_all_data(
    weather: Store, longer: Store, model_of: ModelOf
) -> None:
    model = model_of(longer)
    plan = replace(StartsConfig(at=("last",)).plan(weather, verified=False), steps=9)
    expected = Forecaster(model, longer).forecast(plan)
    made = Forecaster(model, weather, supply=ForcingSupply(weather, longer)).forecast(plan)
    xr.testing.assert_identical(made, expected)
    assert float(abs(made.temperature.diff("lead_time")).min()) > 0


def test_the_clock_needs_no_data(weather: Store, longer: Store, model_of: ModelOf) -> None:
    """Computed beyond the end of one store, they are bit by bit what a longer one holds."""
    forcings = [one for one in weather.variables if one.name in ("cos_local_time", "sin_year")]
    channels = [longer.variables.index(one) for one in forcings]
    for frame in (11, 12, 29):
        found = ForcingSupply(weather).frame(forcings, 0, frame)
        np.testing.assert_array_equal(found, longer.read(0, frame, frame + 1)[0, channels])


def test_an_unknown_forcing_is_refused_with_what_to_give(weather: Store, model_of: ModelOf) -> None:
    plan = replace(StartsConfig(at=("last",)).plan(weather, verified=False), steps=3)
    message = (
        r"forced by ice, which forecasts need up to frame 12 \(2020-03-02T18:00:00\).*holds it up to frame 11"
        r".*give forcings\.store=STORE_OR_FILE.*or forcings\.hold=\[ice\]"
    )
    with pytest.raises(DataError, match=message):
        Forecaster(model_of(weather), weather).check(plan)
    Forecaster(model_of(weather), weather).check(
        replace(plan, steps=1)
    )  # its one step starts from the last frame


def test_a_forcing_is_held_where_that_is_asked_for(weather: Store) -> None:
    ice = [one for one in weather.variables if one.key == "ice"]
    supply = ForcingSupply(weather, hold=("ice",))
    np.testing.assert_array_equal(supply.frame(ice, 0, 40), supply.frame(ice, 0, 11))
    plan = replace(StartsConfig(at=("last",)).plan(weather, verified=False), steps=3)
    with pytest.raises(ConfigError, match="'land' is no forcing of the model"):
        ForcingSupply(weather, hold=("land",)).check(weather.variables, plan, 2)


def test_a_gap_between_two_stores_is_found_before_the_first_step(
    weather: Store, model_of: ModelOf, make_weather: MakeWeather, build_weather: BuildWeather, tmp_path: Path
) -> None:
    later = build_weather(tmp_path, "later", make_weather("2020-03-04T00:00", 9))
    plan = replace(StartsConfig(at=("last",)).plan(weather, verified=False), steps=12)
    with pytest.raises(DataError, match=r"up to frame 12 .*not at that time either"):
        Forecaster(model_of(weather), weather, supply=ForcingSupply(weather, later)).check(plan)
