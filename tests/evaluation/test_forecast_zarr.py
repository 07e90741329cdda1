from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_zarr import read_forecasts, write_forecasts

Make = Callable[..., xr.Dataset]


@pytest.fixture
def forecasts(make: Make, rng: np.random.Generator) -> xr.Dataset:
    return make({name: rng.normal(size=(5, 2, 4, 6)).astype(np.float32) for name in ("u", "v")})


def test_what_was_written_block_by_block_is_read_as_one(forecasts: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "forecast.zarr"
    write_forecasts((forecasts.isel(trajectory=slice(a, a + 2)) for a in (0, 2, 4)), path)
    found = read_forecasts(path)
    xr.testing.assert_identical(found.load(), forecasts)


def test_new_forecasts_replace_the_old(forecasts: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "forecast.zarr"
    write_forecasts([forecasts], path)
    write_forecasts([forecasts.isel(trajectory=[1])], path)
    assert read_forecasts(path).sizes["trajectory"] == 1


def test_an_interrupted_write_leaves_the_old_forecasts(forecasts: xr.Dataset, tmp_path: Path) -> None:
    def failing() -> Iterator[xr.Dataset]:
        yield forecasts.isel(trajectory=[0])
        raise RuntimeError("killed")

    path = tmp_path / "forecast.zarr"
    write_forecasts([forecasts], path)
    with pytest.raises(RuntimeError, match="killed"):
        write_forecasts(failing(), path)
    xr.testing.assert_identical(read_forecasts(path).load(), forecasts)
    write_forecasts([forecasts], path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["forecast.zarr"]
