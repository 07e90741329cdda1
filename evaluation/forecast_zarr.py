"""Forecasts on disk: a Zarr group with one array per variable, written trajectory by trajectory."""

import logging
import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

import xarray as xr
import zarr

from pelagos.preprocessing.files.durable import sync_directory, sync_tree
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST

_log = logging.getLogger(__name__)


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
        _consolidate(partial)
        checksum_list.write_list(partial, checksum_list.list_files(partial, checksum_list.all_files(partial)))
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


def _consolidate(path: Path) -> None:
    """Gather the metadata of a group in one file, so that whoever opens it does not have to list its files."""
    with warnings.catch_warnings():
        # Version 3 of Zarr does not specify it yet; zarr-python and xarray read it.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def read_forecasts(path: Path) -> xr.Dataset:
    """Forecasts that `write_forecasts` wrote, fields by name; they are read when they are asked for.

    Raises:
        DamagedFileError: a file is not as it was written.
    """
    listed = checksum_list.verify_list(path, closed=True)
    if listed is None:
        _log.warning("%s is of an earlier version, without %s: nothing of it is checked", path, CHECKSUM_LIST)
    forecasts: xr.Dataset = xr.open_zarr(path, consolidated=listed is not None, chunks=None)
    # Zarr lists arrays as the directory or its threads happen to: the same scores came in another order.
    return forecasts[sorted(map(str, forecasts.data_vars))]
