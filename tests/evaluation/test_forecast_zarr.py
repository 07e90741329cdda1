from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_zarr import read_forecasts, write_forecast
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.shard_stream import ShardStream

Make = Callable[..., xr.Dataset]


@pytest.fixture
def forecasts(make: Make, rng: np.random.Generator) -> xr.Dataset:
    return make({name: rng.normal(size=(5, 2, 4, 6)).astype(np.float32) for name in ("u", "v")})


def test_what_was_written_is_read_as_it_was_in_memory(forecasts: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "forecast.zarr"
    write_forecast(forecasts, path)
    xr.testing.assert_identical(read_forecasts(path).load(), forecasts)


def test_new_forecasts_replace_the_old(forecasts: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "forecast.zarr"
    write_forecast(forecasts, path)
    write_forecast(forecasts.isel(trajectory=[1]), path)
    assert read_forecasts(path).sizes["trajectory"] == 1


def test_an_interrupted_write_leaves_the_old_forecasts(
    forecasts: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "forecast.zarr"
    write_forecast(forecasts, path)
    with monkeypatch.context() as patched:
        patched.setattr(ShardStream, "write", killed)
        with pytest.raises(RuntimeError, match="killed"):
            write_forecast(-forecasts, path)
    xr.testing.assert_identical(read_forecasts(path).load(), forecasts)
    write_forecast(forecasts, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["forecast.zarr"]


def killed(stream: ShardStream, first: tuple[int, ...], chunks: Any) -> None:
    raise RuntimeError("killed")


def test_sixty_changes_of_a_byte_are_refused(
    forecasts: xr.Dataset, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "forecast.zarr"
    write_forecast(forecasts, path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for number in range(60):
        file = files[number % len(files)]
        content = file.read_bytes()
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with pytest.raises(DamagedFileError):
            read_forecasts(path)
        file.write_bytes(content)
    xr.testing.assert_identical(read_forecasts(path).load(), forecasts)


def test_a_chunk_too_few_or_too_many_is_refused(forecasts: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "forecast.zarr"
    write_forecast(forecasts, path)
    chunk = next(file for file in sorted((path / "u" / "c").rglob("*")) if file.is_file())
    chunk.rename(chunk.with_name("99"))
    with pytest.raises(DamagedFileError, match="missing, though SHA256SUMS names it"):
        read_forecasts(path)
    chunk.write_bytes(chunk.with_name("99").read_bytes())
    with pytest.raises(DamagedFileError, match="99: SHA256SUMS does not know this file"):
        read_forecasts(path)


def test_forecasts_of_before_are_read_with_a_word(
    forecasts: xr.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "forecast.zarr"
    forecasts.to_zarr(path, zarr_format=3, consolidated=False)
    xr.testing.assert_identical(read_forecasts(path).load(), forecasts)
    assert "nothing of it is checked" in caplog.text


def test_strangers_open_them_without_a_warning(
    forecasts: xr.Dataset, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "forecast.zarr"
    write_forecast(forecasts, path)
    recwarn.clear()
    xr.testing.assert_equal(xr.open_zarr(path, chunks=None).load(), forecasts)
    assert [str(warning.message) for warning in recwarn] == []


def test_fields_are_in_the_order_of_their_names(make: Make, tmp_path: Path) -> None:
    values = np.zeros((2, 1, 2, 6), np.float32)
    write_forecast(make(dict.fromkeys("gbhdafec", values)), tmp_path / "forecast.zarr")
    assert list(read_forecasts(tmp_path / "forecast.zarr").data_vars) == list("abcdefgh")
