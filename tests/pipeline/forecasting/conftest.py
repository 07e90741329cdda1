"""A small dated store with forcings, and a model that knows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from torch import Tensor, nn

from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.runs.model_folder import Model
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.store.store import Store, open_store
from tests.fresh_model import fresh_model

MakeWeather = Callable[..., xr.Dataset]
BuildWeather = Callable[..., Store]
ModelOf = Callable[..., Model]


@pytest.fixture(scope="session")
def make_weather() -> MakeWeather:
    return _weather


@pytest.fixture(scope="session")
def build_weather() -> BuildWeather:
    return _built


@pytest.fixture(scope="session")
def model_of() -> ModelOf:
    return _model_of


def _weather(first: str = "2020-02-28T18:00", frames: int = 12) -> xr.Dataset:
    """Six-hourly fields on latitudes and longitudes: a temperature, the ice that forces it, and the land below."""
    lat, lon = np.array([60.0, 20.0, -20.0, -60.0]), np.arange(6) * 60.0
    time = np.datetime64(first, "ns") + np.arange(frames) * np.timedelta64(6, "h")
    hours = (time - np.datetime64("2020-01-01")) / np.timedelta64(1, "h")
    shape = (frames, 4, 6)
    temperature = 280 + np.cos(hours / 7)[:, None, None] + np.arange(24).reshape(4, 6) / 10
    ice = np.broadcast_to((hours / 1000)[:, None, None], shape)
    fields = {
        "temperature": (("time", "latitude", "longitude"), temperature.astype(np.float32), {"units": "K"}),
        "ice": (("time", "latitude", "longitude"), ice.astype(np.float32), {"units": "1"}),
        "land": (("latitude", "longitude"), np.eye(4, 6, dtype=np.float32), {"units": "1"}),
    }
    coords = {
        "time": time,
        "latitude": ("latitude", lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", lon, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    return xr.Dataset(fields, coords)


def _built(folder: Path, name: str, ds: xr.Dataset, **options: Any) -> Store:
    """A store of a dataset."""
    ds.to_netcdf(folder / f"{name}.nc", engine="h5netcdf")
    values = {
        "dataset": "weather",
        "version": name,
        "source": {"kind": "cf", "paths": str(folder / f"{name}.nc")},
        "root": str(folder),
        "roles": {"ice": "forcing", "land": "static"},
        "splits": {"kind": "time", "train": [None, 6], "test": [6, None]}
        if ds.sizes["time"] > 6
        else {"kind": "trajectories"},
        **options,
    }
    return open_store(build(BuildConfig.model_validate(values)))


@pytest.fixture(scope="session")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Twelve frames, with the forcings of the clock."""
    folder = tmp_path_factory.mktemp("weather")
    return _built(folder, "short", _weather(), forcings=["cos_local_time", "sin_year"])


class Forced(nn.Module):
    """Adds the forcings to the temperature: each of them matters at each step."""

    def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Any) -> Tensor:
        return (
            fields_BCHW[:, :1]
            + 0.1 * fields_BCHW[:, 2:].sum(dim=1, keepdim=True) * lead_B[:, None, None, None]
        )


def _model_of(store: Store, network: nn.Module | None = None) -> Model:
    """A model that was trained on a store, one frame ahead, in unscaled values."""
    leads = dict.fromkeys(("min_lead", "max_lead", "horizon"), store.dt)
    return fresh_model(store, UNetConfig(kind="unet"), network or Forced(), leads=leads)
