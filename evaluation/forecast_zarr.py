"""Forecasts on disk: those in memory written as a Zarr group, and what was written read."""

import logging
from pathlib import Path

import xarray as xr

from pelagos.evaluation.forecast_cf import from_cf
from pelagos.evaluation.forecast_schema import LEAD_TIME, ordered_fields, sample_dims, variable_names
from pelagos.evaluation.forecast_writer import ForecastWriter
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST

_log = logging.getLogger(__name__)


def write_forecast(forecast: xr.Dataset, path: Path) -> None:
    """Write forecasts that are in memory; the group takes its name once it is complete."""
    ordered = ordered_fields(forecast)
    names, dims = variable_names(ordered), sample_dims(ordered)
    writer = ForecastWriter(path, ordered, tuple(ordered.sizes[dim] for dim in dims))
    try:
        with writer.block(tuple(0 for _ in dims)) as write:
            for step in range(ordered.sizes[LEAD_TIME]):
                frames = [ordered[name].isel({LEAD_TIME: step}).values for name in names]
                # Channels of several types are kept apart: stacked they would all be float64.
                write([frame.reshape(-1, *frame.shape[-2:]) for frame in frames])
        writer.finish()
    except BaseException:
        writer.discard()
        raise


def read_forecasts(path: Path) -> xr.Dataset:
    """Forecasts that were written, fields by name and as they were in memory; they are read when they are asked for.

    Raises:
        DamagedFileError: a file is not as it was written.
    """
    listed = checksum_list.verify_list(path, closed=True)
    if listed is None:
        _log.warning("%s is of an earlier version, without %s: nothing of it is checked", path, CHECKSUM_LIST)
    written = xr.open_zarr(path, consolidated=listed is not None, chunks=None, decode_timedelta=False)
    forecasts = from_cf(written)
    # Zarr lists arrays as the directory or its threads happen to: the same scores came in another order.
    return forecasts[sorted(map(str, forecasts.data_vars))]
