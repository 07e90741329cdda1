"""Boundary conditions of The Well: sides and fields as their masks and values say, in little memory."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats import well_boundary
from pelagos.preprocessing.sources.formats.the_well import TheWell
from tests.preprocessing.sources.formats.well_archive import RNG, SIZES, N, WellArchive, X, Y, ends, inside


@pytest.mark.parametrize(
    ("conditions", "y", "x"),
    [
        ([], "unknown,unknown", "unknown,unknown"),
        ([("PERIODIC", ["x"], ends(X, 0, -1))], "unknown,unknown", "periodic,periodic"),
        ([("wall", "y", ends(Y, 0)), ("OPEN", "y", ends(Y, -1))], "wall,open", "unknown,unknown"),
        ([("WALL", ["x", "y"], ~np.pad(np.ones((X - 2, Y - 2), bool), 1))], "wall,wall", "wall,wall"),
        ([("WALL", ["x", "y"], np.outer(ends(X, 0, -1), np.ones(Y)).astype(bool))], "unknown,unknown", "wall,wall"),
        ([("WALL", ["x", "y"], np.outer(ends(X, 2), ends(Y, 1)))], "unknown,unknown", "unknown,unknown"),
    ],
)  # fmt: skip
def test_boundary_kinds_are_read_at_both_ends_of_the_masks(
    well: WellArchive, conditions: Any, y: str, x: str
) -> None:
    for i, condition in enumerate(conditions):
        well.boundary(f"condition_{i}", *condition)
    ds = well.done().open()
    assert (ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == (y, x)
    beyond = [f"condition_{i}_mask" for i in range(len(conditions)) if "unknown,unknown" == x == y]
    assert list(ds) == ["density", *beyond]


@pytest.mark.parametrize(
    "conditions",
    [
        [("WALL", ["x"], ends(X, 0)), ("OPEN", ["x"], ends(X, 0, -1))],
        [("WALL", ["x", "y"], np.outer(ends(X, 0), ends(Y, 1)))],
        [("DIRICHLET", ["x"], ends(X, 0))],
    ],
)
def test_an_ambiguous_side_is_asked_about(well: WellArchive, conditions: Any) -> None:
    for i, condition in enumerate(conditions):
        well.boundary(f"condition_{i}", *condition)
    source = well.done()
    with pytest.raises(
        DataError, match=r"small\.hdf5: its boundary_conditions give a side of x several kinds, or"
    ):
        source.open()
    told = TheWell.model_validate(
        {"paths": source.paths, "boundary": {"y": "periodic", "x": ["wall", "open"]}}
    )
    assert told.open().attrs["boundary_x"] == "wall,open"


@pytest.mark.parametrize("dims", [("x", "y"), ("y", "x")])
def test_values_at_a_boundary_lie_where_the_mask_marks_them(well: WellArchive, dims: tuple[str, str]) -> None:
    mask = RNG.random([SIZES[dim] for dim in dims]) < 0.5
    values = 1 + RNG.random(mask.sum())
    well.boundary("body", "WALL", dims, mask, values, associated_fields=["density", "heat"])
    ds = well.done(boundary="wall").open()
    expected = np.zeros(mask.shape, np.float32)
    expected[mask] = values
    order = [dims.index("y"), dims.index("x")]
    np.testing.assert_array_equal(ds.body_mask, mask.transpose(order))
    np.testing.assert_array_equal(ds.body_values, expected.transpose(order))
    np.testing.assert_array_equal(ds.body_values[1:3, ::2], expected.transpose(order)[1:3, ::2])
    assert ds.body_values.attrs["role"] == ds.body_mask.attrs["role"] == "static"
    about = "boundary condition body (wall)"
    assert ds.body_values.attrs["long_name"] == f"values of density, heat at the {about}"
    assert ds.body_mask.attrs["long_name"] == f"where the {about} holds"


def test_values_at_the_ends_of_one_axis_are_repeated_along_the_other(well: WellArchive) -> None:
    well.boundary("x_walls", "WALL", ["x"], ends(X, 0, -1), np.array([2.0, 3.0]))
    ds = well.done().open()
    assert ds.attrs["boundary_x"] == "wall,wall"
    np.testing.assert_array_equal(ds.x_walls_values, np.tile([2, 0, 0, 0, 0, 3], (Y, 1)))


@pytest.mark.parametrize("axes", ["sample", "time", "sample time"])
@pytest.mark.parametrize("moves", ["mask", "values", "both"])
def test_conditions_that_vary_are_fields_of_each_trajectory_and_time(
    well: WellArchive, axes: str, moves: str
) -> None:
    lengths = [SIZES[axis] for axis in axes.split()]
    moving = moves != "values"
    mask = np.zeros([*(lengths if moving else ()), X, Y], bool)
    for index in np.ndindex(mask.shape[:-2]):
        mask[index][tuple(RNG.permutation(np.argwhere(inside(X, Y)))[:3].T)] = True
    values = 1 + RNG.random([*(lengths if moves != "mask" else ()), 3])
    varying = {f"{axis}_varying": True for axis in axes.split()}
    well.boundary("body", "WALL", ["x", "y"], mask, values, **varying)
    ds = well.done().open()
    expected = np.zeros([*lengths, X, Y], np.float32)
    whole = np.broadcast_to(mask, expected.shape)
    expected[whole] = np.broadcast_to(values, [*lengths, 3]).ravel()
    assert ds.body_values.attrs["role"] == ("forcing" if "time" in axes else "static")
    dims = ("trajectory", "time", "y", "x") if "time" in axes else ("trajectory", "y", "x")
    assert ds.body_values.dims == dims
    assert ds.body_mask.dims == (dims if moving else ("y", "x"))
    named = [axis.replace("sample", "trajectory") for axis in axes.split()] + ["x", "y"]
    for name, one in (("body_values", expected), ("body_mask", whole)):
        assert bool((ds[name] == xr.DataArray(one, dims=named)).all())
        np.testing.assert_array_equal(ds[name][1:, ..., 1:], ds[name].values[1:, ..., 1:])
        assert ds[name].isel({ds[name].dims[0]: slice(0, 0)}).values.size == 0


def test_sides_of_masks_that_vary_are_known_where_all_trajectories_agree(tmp_path: Path) -> None:
    whole = np.stack([ends(X, 0, -1)] * N)
    for name, mask in (("same", whole), ("other", whole & np.array([[True], [False]]))):
        made = WellArchive(tmp_path / f"{name}.hdf5")
        made.array("t0_fields", "density", "sample time x y")
        made.boundary("walls", "WALL", ["x"], mask, sample_varying=True)
        made.done()
    assert TheWell(paths=f"{tmp_path}/same.hdf5").open().attrs["boundary_x"] == "wall,wall"
    source = TheWell(paths=f"{tmp_path}/other.hdf5")
    with pytest.raises(
        DataError, match=r"other\.hdf5: its boundary_conditions give a side of x several kinds"
    ):
        source.open()
    ds = source.model_validate(source.model_dump() | {"boundary": "wall"}).open()
    np.testing.assert_array_equal(
        ds.walls_mask, np.broadcast_to((whole & [[True], [False]])[:, None], (N, Y, X))
    )


def test_values_that_are_not_one_a_point_are_left_out_with_a_warning(
    well: WellArchive, caplog: pytest.LogCaptureFixture
) -> None:
    well.boundary("walls", "WALL", ["x"], ends(X, 0, -1), np.ones((2, 3)))
    well.boundary("body", "WALL", ["y"], ends(Y, 0, -1), np.ones(3))
    ds = well.done().open()
    assert (list(ds), ds.attrs["boundary_x"]) == (["density"], "wall,wall")
    assert "walls: its values of shape (2, 3) are not one for each of the 2 points marked" in caplog.text
    assert "body: its values of shape (3,) are not one for each of the 2 points marked" in caplog.text


def test_planes_of_values_at_a_boundary_are_read_in_little_memory(tmp_path: Path) -> None:
    frames, points = 40, 32
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.coordinate("time", np.arange(frames) / 4)
    for axis in "xyz":
        made.coordinate(axis, np.arange(points) / 8)
    made.array("t0_fields", "density", "time")
    del made.file["t0_fields/density"]
    made.file["t0_fields/density"] = np.zeros(frames, np.float32)
    made.file["t0_fields/density"].attrs.update(
        sample_varying=False, time_varying=True, dim_varying=[False] * 3
    )
    mask = inside(points, points, points)
    values = 1 + np.repeat(np.arange(frames)[:, None], mask.sum(), axis=1)
    values[:, 0] = 0
    made.boundary("body", "WALL", ["x", "y", "z"], mask[..., ::-1], values, time_varying=True)
    plane = made.done().open().body_values[0, :, 1]
    found, most = peak(lambda: plane.values)
    expected = (1 + np.arange(frames))[:, None, None] * inside(points, points)
    expected[:, 1, 1] = 0
    np.testing.assert_array_equal(found, expected)
    fields = 4 * frames * points**3
    assert most < values.size * 4 + fields / 4


def test_of_moving_masks_few_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, points = 24, 24
    made = WellArchive(tmp_path / "moving.hdf5", dims=("x", "y", "z"))
    for axis in "xyz":
        made.coordinate(axis, np.arange(points) / 8)
    made.coordinate("time", np.arange(frames) / 4)
    made.array("scalars", "clock", "")
    made.file["t0_fields"].attrs["field_names"] = ["density"]
    made.file["t0_fields/density"] = np.zeros(frames, np.float32)
    made.file["t0_fields/density"].attrs.update(
        sample_varying=False, time_varying=True, dim_varying=[False] * 3
    )
    mask = np.zeros((frames, points, points, points), bool)
    mask[:, :, :, 0] = True
    mask[np.arange(frames), 1 + np.arange(frames) % (points - 2), 3:6, 4] = True
    values = np.arange(frames)[:, None] + np.linspace(0, 0.5, points**2 + 3)
    made.boundary("body", "WALL", ["x", "y", "z"], mask, values, time_varying=True)
    source = made.done()
    monkeypatch.setattr(well_boundary, "_SLAB", 4 * points**3)
    expected = np.zeros(mask.shape, np.float32)
    expected[mask] = values.ravel()
    whole, opened = peak(source.open)
    plane, read = peak(lambda: whole.body_values[0, :, 4].values)
    assert whole.level.attrs["boundary"] == "wall,unknown"
    np.testing.assert_array_equal(plane, expected[..., 4].swapaxes(-1, -2))
    np.testing.assert_array_equal(
        whole.body_values[0, 3:9:2, :, 2:], expected[3:9:2, :, 2:].transpose(0, 3, 2, 1)
    )
    assert opened < mask.nbytes / 2
    assert read < expected.nbytes / 4


def peak(run: Callable[[], Any]) -> tuple[Any, int]:
    """What a function gives, and the most memory that it took."""
    tracemalloc.start()
    found = run()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, most


def test_values_that_do_not_fit_a_moving_mask_are_an_error_when_they_are_read(well: WellArchive) -> None:
    mask = np.zeros((N, X, Y), bool)
    mask[0, 2, 1:3] = mask[1, 2, 1] = True
    well.boundary("body", "WALL", ["x", "y"], mask, np.ones((N, 2)), sample_varying=True)
    ds = well.done().open()
    with pytest.raises(DataError, match=r"body/values has 2 values where .*body/mask marks 1 points"):
        ds.body_values[1].load()


def test_a_mask_of_other_points_than_its_axis_has_is_left_out_and_asked_about(
    well: WellArchive, caplog: pytest.LogCaptureFixture
) -> None:
    well.boundary("walls", "WALL", ["x"], ends(X - 1, 0, -1))
    source = well.done()
    with pytest.raises(DataError, match=r"its boundary_conditions give a side of x several kinds, or"):
        source.open()
    assert f"walls: its mask of shape ({X - 1},) does not fit its axes x={X}, and is left out" in caplog.text
    assert (
        source.model_validate(source.model_dump() | {"boundary": "open"}).open().attrs["boundary_x"]
        == "open,open"
    )


def test_a_condition_of_one_file_is_absent_in_the_others(tmp_path: Path) -> None:
    for i in range(2):
        made = WellArchive(tmp_path / f"p{i}.hdf5")
        made.array("t0_fields", "density", "sample time x y")
        if i:
            made.boundary("body", "WALL", ["x", "y"], inside(X, Y), np.full((X - 2) * (Y - 2), 2.0))
        made.done()
    ds = TheWell(paths=f"{tmp_path}/p*.hdf5").open()
    for name, factor in (("body_mask", 1), ("body_values", 2)):
        np.testing.assert_array_equal(ds[name], [np.zeros((Y, X))] * N + [factor * inside(Y, X)] * N)
