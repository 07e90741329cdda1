"""One file of The Well: however attributes are spelled, it is understood; what contradicts itself is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.the_well import TheWell
from tests.preprocessing.sources.formats.well_archive import N, T, WellArchive, X, ends


def test_components_of_vectors_and_tensors_follow_the_axes_of_the_file(well: WellArchive) -> None:
    vector = well.array("t1_fields", "velocity", "sample time x y", 2)
    tensor = well.array("t2_fields", "stress", "sample time x y", 2, 2)
    flat = well.array("t2_fields", "strain", "sample time x y", 4)
    ds = well.done().open()
    np.testing.assert_array_equal(ds.velocity_y, vector[..., 1].swapaxes(-1, -2))
    for i, (a, b) in enumerate((("x", "x"), ("x", "y"), ("y", "x"), ("y", "y"))):
        np.testing.assert_array_equal(ds[f"stress_{a}{b}"], tensor[..., i // 2, i % 2].swapaxes(-1, -2))
        np.testing.assert_array_equal(ds[f"strain_{a}{b}"], flat[..., i].swapaxes(-1, -2))
    assert ds.velocity_x.attrs["group"] == "velocity"


def test_a_vector_of_three_components_in_the_plane_is_an_error(well: WellArchive) -> None:
    well.array("t1_fields", "field", "sample time x y", 3)
    with pytest.raises(
        DataError, match=r"/t1_fields/field of t1_fields has shape .* 2 components for each of 1"
    ):
        well.done().open()


def test_attributes_spelled_as_text_mean_the_same(well: WellArchive) -> None:
    well.array("t0_fields", "static", "x y", sample_varying="False", time_varying="False")
    well.file["t0_fields"].attrs["field_names"] = "['density' 'static']"
    well.file["dimensions"].attrs["spatial_dims"] = np.bytes_("['x', 'y']")
    well.boundary("walls", "wall", "['x']", ends(X, 0, -1), sample_varying="False")
    ds = well.done().open()
    assert set(ds) == {"density", "static"}
    assert (ds.static.dims, ds.attrs["boundary_x"]) == (("y", "x"), "wall,wall")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda made: made.coordinate("time", np.zeros((N + 1, T))),
            r"/dimensions/time has shape \(3, 5\); \(time,\) or \(trajectory=2, time\) would be right",
        ),
        (
            lambda made: made.coordinate("time", np.zeros((1, N, T))),
            r"/dimensions/time has shape \(1, 2, 5\)",
        ),
        (lambda made: made.coordinate("time", np.zeros(0)), r"/dimensions/time has shape \(0,\)"),
        (
            lambda made: made.file["t0_fields/density"].attrs.update(dim_varying=[True]),
            r"/t0_fields/density has 1 flags dim_varying; one for each of x, y would be right",
        ),
        (
            lambda made: made.array("scalars", "rate", "sample time x", time_varying=False),
            r"/scalars/rate has shape \(2, 5, 6\); \(\) or \(trajectory=2,\) would be right",
        ),
        (
            lambda made: made.coordinate("y", np.array([0, 1, np.nan, 3])),
            r"y must be one-dimensional and strictly monotonic|y is nan at point 2",
        ),
    ],
)
def test_what_contradicts_itself_is_named(well: WellArchive, change: Any, message: str) -> None:
    change(well)
    with pytest.raises(DataError, match=message):
        well.done().open()


def test_a_moving_grid_is_refused(well: WellArchive) -> None:
    well.coordinate("x", np.tile(np.arange(X) / 8, (N, 1)), sample_varying=True)
    with pytest.raises(DataError, match=r"small\.hdf5: coordinate x is not the same for all trajectories"):
        well.done().open()


def test_an_attribute_that_the_specification_wants_is_named(well: WellArchive) -> None:
    del well.file["t0_fields/density"].attrs["dim_varying"]
    with pytest.raises(DataError, match=r"'/t0_fields/density' lacks the attribute dim_varying"):
        well.done().open()


def test_files_are_joined_and_what_is_constant_in_each_is_repeated(tmp_path: Path) -> None:
    parts = []
    for i in range(2):
        made = WellArchive(tmp_path / f"p{i}.hdf5")
        parts.append([made.array("t0_fields", "density", "sample time x y"), made.array("t0_fields", "c", "x y"),
                      made.array("scalars", "nu", "")])  # fmt: skip
        made.done()
    ds = TheWell(paths=str(tmp_path / "p*.hdf5")).open()
    np.testing.assert_array_equal(ds.density, np.concatenate([part[0] for part in parts]).swapaxes(-1, -2))
    np.testing.assert_array_equal(ds.c, np.repeat([part[1] for part in parts], N, axis=0).swapaxes(-1, -2))
    np.testing.assert_array_equal(ds.nu, np.repeat([part[2] for part in parts], N))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda made: made.coordinate("time", np.arange(7) / 4),
            r"p1\.hdf5: /t0_fields/density has shape \(2, 5, 6, 4\); \(trajectory, time=7, x=6, y=4\) was",
        ),
        (lambda made: made.array("scalars", "nu", ""), r"differ in the arrays scalars/nu"),
        (
            lambda made: made.boundary("x", "wall", ["x"], ends(X, 0, -1)),
            r"differ in their boundary_conditions",
        ),
    ],
)
def test_files_that_do_not_fit_together_are_named(tmp_path: Path, change: Any, message: str) -> None:
    for i in range(2):
        made = WellArchive(tmp_path / f"p{i}.hdf5")
        made.array("t0_fields", "density", "sample time x y")
        if i:
            change(made)
        made.done()
    with pytest.raises(DataError, match=message):
        TheWell(paths=str(tmp_path / "p*.hdf5")).open()
