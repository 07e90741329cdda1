"""Arrays on disk: axes, components and parts come out where names say, read as little as needed."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError, MissingFileError
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable

RNG = np.random.default_rng(0)
DIMS = ("trajectory", "time", "y", "x")
SIZES = {"trajectory": 6, "time": 5, "y": 4, "x": 3}


def stored(path: Path, values: np.ndarray) -> Hdf5Dataset:
    with h5py.File(path, "w") as file:
        file["a"] = values
        return Hdf5Dataset.of(file["a"])


@pytest.fixture
def parts(tmp_path: Path) -> tuple[np.ndarray, list[Hdf5Dataset]]:
    """(time, x, y, sample, component): nothing where the convention has it, in parts of 1, 3 and 2 samples."""
    values = RNG.normal(size=(5, 3, 4, 6, 2))
    pieces = np.split(values, [1, 4], axis=3)
    return values, [stored(tmp_path / f"{i}.h5", piece) for i, piece in enumerate(pieces)]


def test_axes_are_permuted_and_components_selected_by_name(
    parts: tuple[np.ndarray, list[Hdf5Dataset]],
) -> None:
    values, readers = parts
    made = lazy_variable(DIMS, readers, ("time", "x", "y", "trajectory", 1), SIZES, {})
    np.testing.assert_array_equal(made, values[..., 1].transpose(3, 0, 2, 1))


INDEXERS = [
    {},
    {"trajectory": 4},
    {"trajectory": -1, "time": 0, "y": 2, "x": 1},
    {"trajectory": slice(1, 5), "x": slice(None, None, 2)},
    {"trajectory": slice(5, None, -2)},
    {"trajectory": [5, 0, 0, 3], "time": slice(1, 3)},
    {"trajectory": [0, 5], "time": [4, 2], "y": [0, 3]},
    {"trajectory": slice(0, 6, 3), "y": [0, 1, 3]},
    {"trajectory": slice(2, 2)},
    {"trajectory": np.array([True, False, True, True, False, False])},
    {"x": xr.DataArray([0, 1], dims="points"), "trajectory": xr.DataArray([5, 2], dims="points")},
]


@pytest.mark.parametrize("indexer", INDEXERS, ids=str)
def test_indexing_is_that_of_an_array_in_memory(
    parts: tuple[np.ndarray, list[Hdf5Dataset]], indexer: dict[str, object]
) -> None:
    values, readers = parts
    made = lazy_variable(DIMS, readers, ("time", "x", "y", "trajectory", 0), SIZES, {})
    expected = xr.Variable(DIMS, values[..., 0].transpose(3, 0, 2, 1))
    xr.testing.assert_identical(
        xr.DataArray(made).isel(indexer).compute(), xr.DataArray(expected).isel(indexer)
    )


def test_what_does_not_vary_is_repeated(tmp_path: Path) -> None:
    profile = RNG.normal(size=(4, 5))
    reader = stored(tmp_path / "a.h5", profile)
    made = lazy_variable(DIMS, [reader], ("y", "time"), SIZES, {}, counts=[6])
    np.testing.assert_array_equal(made, np.broadcast_to(profile.T[None, :, :, None], (6, 5, 4, 3)))
    made[2:4].values[...] = 0  # a copy of one's own


def test_parts_without_trajectories_stand_for_one_each_or_as_many_as_told(tmp_path: Path) -> None:
    readers = [stored(tmp_path / f"{i}.h5", np.full((4, 3), float(i))) for i in range(3)]
    dims = ("trajectory", "y", "x")
    np.testing.assert_array_equal(
        lazy_variable(dims, readers, ("y", "x"), SIZES | {"trajectory": 3}, {})[:, 0, 0], [0, 1, 2]
    )
    made = lazy_variable(dims, readers, ("y", "x"), SIZES, {}, counts=[1, 2, 3])
    np.testing.assert_array_equal(made[:, 0, 0], [0, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(made[1:4, 0, 0], [1, 1, 2])


def test_only_files_that_are_asked_for_are_opened(tmp_path: Path) -> None:
    readers = [stored(tmp_path / f"{i}.h5", RNG.normal(size=(2, 4, 3))) for i in range(3)]
    made = lazy_variable(("trajectory", "y", "x"), readers, ("trajectory", "y", "x"), SIZES, {})
    (tmp_path / "1.h5").unlink()
    assert made[[0, 1, 4, 5]].values.shape == (4, 4, 3)
    with pytest.raises(MissingFileError, match=r"1\.h5: no such file; did you mean [02]\.h5"):
        made[2].load()


def test_a_shape_that_contradicts_the_others_is_named(tmp_path: Path) -> None:
    readers = [stored(tmp_path / f"{i}.h5", RNG.normal(size=(3, 4, 3 + i))) for i in range(2)]
    with pytest.raises(
        DataError, match=r"1\.h5: /a has shape \(3, 4, 4\); \(trajectory, y=4, x=3\) was expected"
    ):
        lazy_variable(("trajectory", "y", "x"), readers, ("trajectory", "y", "x"), SIZES, {})
    with pytest.raises(DataError, match=r"0\.h5: /a has 3 along trajectory; 6 were expected"):
        lazy_variable(("trajectory", "y", "x"), readers[:1], ("trajectory", "y", "x"), SIZES, {})
    with pytest.raises(DataError, match=r"shape \(3, 4, 3\); \(trajectory, y=4, more than 3\) was expected"):
        lazy_variable(("trajectory", "y"), readers[:1], ("trajectory", "y", 3), SIZES, {})


def test_parts_of_different_types_are_named(tmp_path: Path) -> None:
    readers = [
        stored(tmp_path / f"{i}.h5", np.zeros((3, 4, 3), dtype)) for i, dtype in enumerate(("f4", "f8"))
    ]
    with pytest.raises(DataError, match=r"1\.h5: /a is float64 but .*0\.h5: /a is float32"):
        lazy_variable(("trajectory", "y", "x"), readers, ("trajectory", "y", "x"), SIZES, {})
