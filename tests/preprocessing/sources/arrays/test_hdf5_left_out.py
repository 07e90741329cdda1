"""Each format of HDF5 names the arrays that it does not read, and only these."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.sources.formats.pdearena import PDEArena
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from pelagos.preprocessing.sources.formats.realpdebench import RealPDEBench
from pelagos.preprocessing.sources.formats.the_well import TheWell
from tests.preprocessing.sources.formats import pdebench_archive, pdegym_archive
from tests.preprocessing.sources.formats.well_archive import WellArchive

Open = Callable[[], xr.Dataset]


def flow(path: Path) -> Open:
    pdebench_archive.flow(path)
    return PDEBench(paths=str(path), boundary="periodic").open


def seeds(path: Path) -> Open:
    pdebench_archive.seeds(path, (5, 6, 4, 2), "yx", "diff-react")
    return PDEBench(paths=str(path), problem="diff-react").open


def incompressible(path: Path) -> Open:
    pdebench_archive.incompressible(path)
    return PDEBench(paths=str(path)).open


def pdegym(path: Path) -> Open:
    arrays = {"velocity": pdegym_archive.values(2, 5, 3, 6, 4)}
    pdegym_archive.store(path, **arrays)
    return PDEGym(paths=str(path), dataset="NS-Sines").open


def helmholtz(path: Path) -> Open:
    field = pdegym_archive.values(6, 4)
    pdegym_archive.store(path, **{f"Sample_0/{key}": field for key in ("a", "u")}, **{"Sample_0/bc": 1.0})
    return PDEGym(paths=str(path), dataset="Helmholtz").open


def smoke(path: Path) -> Open:
    rows = {key: np.tile(np.arange(n) / 2, (2, 1)) for key, n in {"t": 5, "x": 6, "y": 4}.items()}
    pdegym_archive.store(path, **{key: np.zeros((2, 5, 6, 4)) for key in ("u", "vx", "vy")}, **rows)
    return PDEArena(paths=str(path)).open


def measured(path: Path) -> Open:
    pdegym_archive.store(path, **{f"measured_data/{key}": np.zeros((5, 6, 4)) for key in "uv"})
    return RealPDEBench(paths=str(path), dt=0.1, parameters=()).open


def well(path: Path) -> Open:
    archive = WellArchive(path)
    archive.array("t0_fields", "density", "sample time x y")
    archive.array("t1_fields", "velocity", "sample time x y", 2)
    archive.file.close()
    return TheWell(paths=str(path), boundary="periodic").open


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (flow, "entropy"),
        (seeds, "0000/entropy"),
        (incompressible, "entropy"),
        (pdegym, "entropy"),
        (helmholtz, "Sample_0/entropy"),
        (smoke, "entropy"),
        (measured, "measured_data/entropy"),
        (well, "t0_fields/entropy"),
    ],
)
def test_an_array_that_a_format_does_not_know_is_named(
    tmp_path: Path, make: Callable[[Path], Open], key: str
) -> None:
    path = tmp_path / "a.hdf5"
    open_file = make(path)
    told: list[list[str]] = []
    for more in ({}, {key: np.zeros((5, 6))}):
        with h5py.File(path, "a") as file:
            file.update(more)
        with collect() as assumed:
            open_file()
        told.append([one.text for one in assumed.all if one.code == "fields_not_read"])
    assert told == [[], [f"{path}: it also holds {key} (5, 6), which are not read"]]
