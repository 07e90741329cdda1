"""A dataset in memory, by whatever names its axes have, gives the forecasts of the store that was built from it."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecast_dataset import forecast_dataset
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs.model_folder import Model
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store

MakeWeather = Callable[..., xr.Dataset]


@pytest.fixture(scope="module")
def model(weather: Store, model_of: Callable[..., Model]) -> Model:
    return model_of(weather)


def future(make_weather: MakeWeather) -> xr.Dataset:
    return make_weather(frames=30)[["ice"]]


def test_it_is_the_forecast_of_the_store(weather: Store, model: Model, make_weather: MakeWeather) -> None:
    made = forecast_dataset(model, make_weather(), 4, forcings=future(make_weather))
    plan = StartsConfig(at=("last",), steps=4).plan(weather, verified=False)
    supply = ForcingSupply(weather, hold=("ice",))
    expected = Forecaster(model, weather, supply=supply).forecast(plan)
    assert made["temperature"].shape == expected["temperature"].shape
    # The ice of the store is held, so that the first step is the same and later ones are not.
    first = {"lead_time": 0}
    np.testing.assert_allclose(
        made["temperature"].isel(first), expected["temperature"].isel(first), rtol=1e-6
    )
    assert made["time"].values[0, 0] == np.datetime64("2020-03-02T18:00")
    assert made["lead_time"].values[0] == np.timedelta64(6, "h")


def test_a_single_frame_steps_as_the_model_was_trained(
    model: Model, make_weather: MakeWeather, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = forecast_dataset(model, make_weather(), 4, forcings=future(make_weather))
    last = make_weather().isel(time=-1)
    made = forecast_dataset(model, last, 4, forcings=future(make_weather))
    xr.testing.assert_allclose(
        made.drop_vars(["start", "initial_time"]), whole.drop_vars(["start", "initial_time"])
    )
    assert "the shortest lead time trained" in capsys.readouterr().err


def test_members_are_kept(model: Model, make_weather: MakeWeather) -> None:
    one = make_weather().drop_vars("land").isel(time=[-1])
    two = xr.concat([one, one.assign(temperature=one.temperature + 1)], dim=xr.Variable("number", [0, 1]))
    two = two.assign(land=make_weather().land, ice=one.ice)
    made = forecast_dataset(model, two, 3, forcings=future(make_weather))
    assert made["temperature"].dims[2] == "member"
    difference = made["temperature"].isel(member=1) - made["temperature"].isel(member=0)
    np.testing.assert_allclose(difference, 1, rtol=1e-4)


def test_what_the_model_needs_is_named(model: Model, make_weather: MakeWeather) -> None:
    with pytest.raises(DataError, match=r"lacks the model's input variables .*temperature"):
        forecast_dataset(model, make_weather().drop_vars("temperature"), 2)
    with pytest.raises(DataError, match="forced by ice"):
        forecast_dataset(model, make_weather(), 4)
