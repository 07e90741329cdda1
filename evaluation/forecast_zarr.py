"""Forecasts on disk: a Zarr group with one array per variable, written trajectory by trajectory."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import xarray as xr


def write_forecasts(blocks: Iterable[xr.Dataset], path: Path) -> None:
    """Write blocks of trajectories one after the other; the group takes its name once it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    for number, block in enumerate(blocks):
        if number == 0:
            block.to_zarr(partial, zarr_format=3, consolidated=False)
        else:
            block.to_zarr(partial, append_dim="trajectory", consolidated=False)
    # A folder cannot be replaced by another in one step, unlike a file.
    if path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)


def read_forecasts(path: Path) -> xr.Dataset:
    """Forecasts that `write_forecasts` wrote; fields are read when they are asked for."""
    forecasts: xr.Dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    return forecasts
