"""Forecasts on disk: a Zarr group with one array per variable, written trajectory by trajectory."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from pelagos.preprocessing.durable import sync_directory, sync_tree


def write_forecasts(blocks: Iterable[xr.Dataset], path: Path) -> None:
    """Write blocks of trajectories one after the other; the group takes its name once it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        for number, block in enumerate(blocks):
            if number == 0:
                block.to_zarr(partial, zarr_format=3, consolidated=False)
            else:
                block.to_zarr(partial, append_dim="trajectory", consolidated=False)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_tree(partial)
    # A folder cannot be replaced by another in one step, unlike a file: the old one goes when the new has its name.
    replaced = path.with_name(f".{path.name}.replaced")
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    os.replace(partial, path)
    sync_directory(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def read_forecasts(path: Path) -> xr.Dataset:
    """Forecasts that `write_forecasts` wrote; fields are read when they are asked for."""
    forecasts: xr.Dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    return forecasts
