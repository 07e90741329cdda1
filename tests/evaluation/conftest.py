"""Forecasts made by formula."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

Make = Callable[..., xr.Dataset]


@pytest.fixture(scope="session")
def make() -> Make:
    """make(values, group=..., ...) -> a forecast; values: name -> array (trajectory, lead_time, y, x)."""

    def dataset(
        values: dict[str, np.ndarray],
        *,
        boundary: str = "periodic,periodic",
        grid: str = "cartesian",
        y: np.ndarray | None = None,
        x: np.ndarray | None = None,
        group: dict[str, str] | None = None,
        dims: tuple[str, ...] = ("trajectory", "lead_time", "y", "x"),
    ) -> xr.Dataset:
        height, width = next(iter(values.values())).shape[-2:]
        coords = {
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
