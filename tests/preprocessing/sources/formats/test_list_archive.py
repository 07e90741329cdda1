"""Listings of archives: keys, shapes and types of every container, and folders that are no archive by name."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr
import zarr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources.formats.list_archive import list_archive

U = np.arange(6, dtype="f4").reshape(2, 3)


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["group/u"] = U
        file.attrs["title"] = np.bytes_("flow")


def zarr_group(path: Path) -> None:
    zarr.create_group(path, attributes={"title": "flow"}).create_array("u", data=U)


def npy(path: Path) -> None:
    with path.open("wb") as file:  # by its path, numpy.save would add a suffix
        np.save(file, U)


@pytest.mark.parametrize(
    ("make", "container", "key"),
    [
        (hdf5, "hdf5", "group/u"),
        (zarr_group, "zarr", "u"),
        (lambda path: xr.Dataset({"u": (("y", "x"), U)}).to_netcdf(path, engine="scipy"), "netcdf3", "u"),
        (lambda path: scipy.io.savemat(path, {"u": U}, appendmat=False), "mat5", "u"),
        (lambda path: torch.save({"u": torch.tensor(U)}, path), "torch", "u"),
        (npy, "npy", ""),
    ],
)
def test_arrays_of_every_container_are_listed_whatever_the_files_are_called(
    tmp_path: Path, make: Callable[[Path], None], container: str, key: str
) -> None:
    make(tmp_path / "data")
    listing = list_archive(tmp_path / "data")
    assert (listing.path, listing.paths) == (tmp_path / "data", str(tmp_path / "data"))
    assert (str(listing.container), listing.shapes[key]) == (container, U.shape)
    assert np.dtype(listing.types[key]).newbyteorder("=") == U.dtype
    assert listing.has(key)
    assert (listing.rank(key), listing.rank("v")) == (2, -1)
    assert listing.describe("v", key) == f"{key} (2, 3)"
    assert listing.attrs.get("title", "flow") == "flow"


def test_a_group_for_each_of_thousands_of_samples_is_not_listed_to_the_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(100):
            file[f"{i:04d}/data"] = U
    assert 1 < len(list_archive(tmp_path / "a.h5").shapes) < 100


def test_a_place_that_is_no_archive_is_told_what_it_is(shared: Path, tmp_path: Path) -> None:
    group = shared / "data/weather/anemoi_uk2t.zarr"
    with pytest.raises(DataError, match=f"data: an array; name the Zarr group that it belongs to, {group}$"):
        list_archive(group / "data")
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros(3))
    with pytest.raises(DataError, match=r"a\.zarr: an array; name the Zarr group"):
        list_archive(tmp_path / "a.zarr")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="b holds nothing; name a file, a folder of files, or a store"):
        list_archive(tmp_path / "b")
    (tmp_path / "b/c").mkdir()
    with pytest.raises(DataError, match="b holds no file of a known kind, but c; name a file, a folder"):
        list_archive(tmp_path / "b")
    np.save(tmp_path / "b/c/e.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"b holds .* or a store, or a pattern in quotes: '.*/b/\*/\*\.npy'$"):
        list_archive(tmp_path / "b")
    (tmp_path / "b/d.h5").touch()
    with pytest.raises(DataError, match=r"d\.h5: the file is empty; download or create it again"):
        propose(tmp_path / "b/d.h5")
