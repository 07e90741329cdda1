"""Joined files: trajectories follow one another, and what differs between files is named."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.derived_arrays import MemoryArray
from pelagos.preprocessing.sources.arrays.join_files import (
    FileContents,
    FileField,
    join_files,
    periodic_axis,
    shared_coordinate,
)
from pelagos.preprocessing.sources.file_source import FileSource

RNG = np.random.default_rng(0)


def contents(path: Path, count: int, frames: int = 3, width: int = 4, **scalars: float) -> FileContents:
    """A file of `count` trajectories of u (time, x), in one row."""
    path.touch()
    u = MemoryArray(RNG.normal(size=(count, frames, width)), str(path))
    coordinates = {"time": np.arange(float(frames)), "x": periodic_axis(width)}
    fields = {"u": FileField("prognostic", ("trajectory", "time", "x"), u, "m s-1")}
    return FileContents(
        path, count, coordinates, fields, {key: np.array(value) for key, value in scalars.items()}
    )


def joined(files: list[FileContents], several_lengths: bool = False) -> xr.Dataset:
    return join_files(
        files,
        FileSource(paths=tuple(str(file.path) for file in files)),
        convention.on_all_sides("wall"),
        source_format="made",
        several_lengths=several_lengths,
    )


def values(file: FileContents) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(file.fields["u"].reader.read((slice(None),) * 3))


def test_trajectories_of_files_follow_one_another(tmp_path: Path) -> None:
    files = [contents(tmp_path / "a", 2, viscosity=0.1), contents(tmp_path / "b", 1)]
    ds = joined(files)
    np.testing.assert_array_equal(ds.u[:, :, 0], np.concatenate([values(file) for file in files]))
    np.testing.assert_array_equal(ds.viscosity, [0.1, 0.1, np.nan])
    assert ds.u.attrs["units"] == "m s-1"


def test_a_single_row_wraps_around(tmp_path: Path) -> None:
    ds = joined([contents(tmp_path / "a", 1)])
    assert (ds.sizes["y"], ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == (
        1,
        "periodic,periodic",
        "wall,wall",
    )


def test_a_scalar_of_a_single_file_has_no_trajectories(tmp_path: Path) -> None:
    assert joined([contents(tmp_path / "a", 2, viscosity=0.1)]).viscosity.dims == ()


def test_frames_after_the_end_of_a_shorter_file_are_absent(tmp_path: Path) -> None:
    files = [contents(tmp_path / "a", 1, frames=2), contents(tmp_path / "b", 1, frames=3)]
    ds = joined(files, several_lengths=True)
    np.testing.assert_array_equal(ds.present, [[True, True, False], [True, True, True]])
    assert np.isnan(ds.u[0, 2]).all()
    np.testing.assert_array_equal(ds.u[0, :2, 0], values(files[0])[0])
    with pytest.raises(DataError, match="differ in time: 2 and 3 points"):
        joined(files)


def test_files_that_differ_are_named(tmp_path: Path) -> None:
    first = contents(tmp_path / "a", 1)
    with pytest.raises(DataError, match=r"/a and .*/b differ in x: 4 and 5 points"):
        joined([first, contents(tmp_path / "b", 1, width=5)])
    other = FileContents(first.path, 1, first.coordinates, {"v": first.fields["u"]})
    with pytest.raises(DataError, match=r"/a holds u but .*/a v, or in other axes: make a dataset of each"):
        join_files(
            [first, other],
            FileSource(paths=str(first.path)),
            convention.on_all_sides("wall"),
            source_format="",
        )


def test_a_periodic_axis_leaves_out_its_right_end() -> None:
    np.testing.assert_array_equal(periodic_axis(4, 2.0), [0, 0.5, 1, 1.5])


def test_a_coordinate_repeated_for_each_trajectory_is_one() -> None:
    rows = np.tile(np.arange(3.0), (4, 1))
    np.testing.assert_array_equal(shared_coordinate(Path("a.h5"), "x", rows), np.arange(3))
    np.testing.assert_array_equal(shared_coordinate(Path("a.h5"), "x", rows[0]), np.arange(3))
    rows[2, 1] = 5
    with pytest.raises(
        DataError, match=r"a\.h5: trajectory 0 and trajectory 2 differ in x: point 1 is 1\.0 and 5\.0"
    ):
        shared_coordinate(Path("a.h5"), "x", rows)
