"""Forecasts made by formula, and a small store to score against."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.store.store import Store, open_store
from tests.preprocessing.simulated_store import simulated_store

Make = Callable[..., xr.Dataset]


@pytest.fixture(scope="session")
def make() -> Make:
    """make(values, group=..., ...) -> a forecast; values: name -> array (trajectory, lead_time, y, x)."""

    def dataset(
        values: dict[str, NDArray[np.float64]],
        *,
        boundary: str = "periodic,periodic",
        grid: str = "cartesian",
        y: NDArray[np.float64] | None = None,
        x: NDArray[np.float64] | None = None,
        group: dict[str, str] | None = None,
        dims: tuple[str, ...] = ("trajectory", "lead_time", "y", "x"),
    ) -> xr.Dataset:
        height, width = next(iter(values.values())).shape[-2:]
        coords: dict[str, NDArray[np.generic]] = {
            "y": np.arange(height) / height + 0.5 / height if y is None else y,
            "x": np.arange(width) / width + 0.5 / width if x is None else x,
        }
        sizes = dict(zip(dims, next(iter(values.values())).shape, strict=True))
        for dim in dims[:-2]:
            coords[dim] = np.arange(sizes[dim]) * 1.0 + 1.0 if dim == "lead_time" else np.arange(sizes[dim])
        attrs = {
            "grid": grid,
            "boundary_y": "pole,pole" if grid == "latlon" else boundary,
            "boundary_x": boundary,
        }
        fields = {
            name: (dims, array, {"units": "1", "group": (group or {}).get(name, "")})
            for name, array in values.items()
        }
        return xr.Dataset(fields, coords, attrs)

    return dataset


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Waves: six trajectories of seven frames, 0.02 apart; the last two are the test split."""
    folder = tmp_path_factory.mktemp("waves")
    simulation = {"num_trajectories": 6, "shape": (8, 8), "num_frames": 7, "interval": 0.02}
    return open_store(simulated_store(folder, simulation, {"test": 2}))
