"""The Well: whatever an array varies with, and however attributes are spelled, fields come out whole."""

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
import zarr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.formats import the_well, well_boundary
from pelagos.preprocessing.sources.formats.the_well import TheWell, Writer
from pelagos.preprocessing.store.store import open_store, verify
from tests.preprocessing.sources.contracts import SourceContract, WriterContract
from tests.preprocessing.sources.datasets import dataset

RNG = np.random.default_rng(0)
N, T, X, Y, Z = 2, 5, 6, 4, 3
SIZES = {"sample": N, "time": T, "x": X, "y": Y, "z": Z}


class Well:
    """A file under construction, with the specification's groups; two trajectories, x longer than y."""

    def __init__(self, path: Path, dims: tuple[str, ...] = ("x", "y"), **attrs: Any) -> None:
        self.path, self.dims = path, dims
        self.file = h5py.File(path, "w")
        self.file.attrs.update(
            {"n_trajectories": N, "grid_type": "cartesian", "dataset_name": "small"} | attrs
        )
        for group in ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields"):
            self.file.create_group(group)
        self.file["dimensions"].attrs["spatial_dims"] = list(dims)
        self.coordinate("time", np.arange(T) / 4)
        for name, length in zip(dims, (X, Y, Z), strict=False):
            self.coordinate(name, np.arange(length) / 8)

    def coordinate(self, name: str, values: np.ndarray, **attrs: Any) -> None:
        group = self.file["dimensions"]
        if name in group:
            del group[name]
        group[name] = values
        group[name].attrs.update({"sample_varying": False, "time_varying": False} | attrs)

    def array(self, group: str, name: str, varies: str, *components: int, **attrs: Any) -> np.ndarray:
        """An array that varies with the axes named in `varies` (of sample, time, x, y, z)."""
        axes = varies.split()
        values = RNG.normal(size=(*(SIZES[axis] for axis in axes), *components)).astype(np.float32)
        stored = self.file[group].create_dataset(name, data=values)
        stored.attrs.update({"sample_varying": "sample" in axes, "time_varying": "time" in axes} | attrs)
        if group != "scalars":
            stored.attrs["dim_varying"] = [axis in axes for axis in "xyz"[: len(self.dims)]]
        names = list(self.file[group].attrs.get("field_names", []))
        self.file[group].attrs["field_names"] = [*names, name]
        return values

    def boundary(
        self,
        name: str,
        kind: str,
        dims: Any,
        mask: np.ndarray,
        values: np.ndarray | None = None,
        **attrs: Any,
    ) -> None:
        group = self.file["boundary_conditions"].create_group(name)
        group.attrs.update({"bc_type": kind, "associated_dims": dims} | attrs)
        group["mask"] = mask
        if values is not None:
            group["values"] = values.astype(np.float32)

    def done(self, **options: Any) -> TheWell:
        self.file.close()
        return TheWell(paths=str(self.path), **options)


def inside(*lengths: int) -> np.ndarray:
    """A mask of all points but those at the sides."""
    return np.pad(np.ones([n - 2 for n in lengths], bool), 1)


def ends(length: int, *marked: int) -> np.ndarray:
    mask = np.zeros(length, bool)
    mask[list(marked)] = True
    return mask


@pytest.fixture
def well(tmp_path: Path) -> Well:
    made = Well(tmp_path / "small.hdf5")
    made.array("t0_fields", "density", "sample time x y")
    return made


class TestTheWell(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Files:
        folder = tmp_path_factory.mktemp("well")
        for i in range(2):
            made = Well(folder / f"part_{i}.hdf5")
            made.array("t1_fields", "velocity", "sample time x y", 2)
            made.array("t0_fields", "profile", "y")
            made.array("scalars", "clock", "time")
            made.array("scalars", "viscosity", "sample")
            mask = RNG.random((X, Y)) < 0.2 * (i + 1)
            made.boundary(
                "body",
                "WALL",
                ["x", "y"],
                mask & inside(X, Y),
                RNG.normal(size=(N, (mask & inside(X, Y)).sum())),
                sample_varying=True,
            )
            made.done()
        return TheWell(paths=f"{folder}/part_*.hdf5")


def test_the_packages_own_example_is_read_as_h5py_reads_it(shared: Path) -> None:
    path = shared / "data/pde/the_well_dummy_schema.hdf5"
    ds = TheWell(paths=str(path)).open()
    with h5py.File(path) as file:
        field = file["t1_fields/field"][()]
        np.testing.assert_array_equal(ds.field_x, field[..., 0].swapaxes(-1, -2))
        np.testing.assert_array_equal(ds.field_y, field[..., 1].swapaxes(-1, -2))
        np.testing.assert_array_equal(
            ds.constant_field, file["t0_fields/constant_field"][()].swapaxes(-1, -2)
        )
        clock = file["scalars/time_varying_scalar"][()]
        np.testing.assert_array_equal(
            ds.time_varying_scalar, np.broadcast_to(clock[:, None, None], (2, 10, 32, 32))
        )
        np.testing.assert_array_equal(ds.time, file["dimensions/time"])
    roles = {name: ds[name].attrs["role"] for name in ds}
    assert roles == {
        "a": "scalar",
        "b": "scalar",
        "time_varying_scalar": "forcing",
        "constant_field": "static",
        "field_x": "prognostic",
        "field_y": "prognostic",
    }
    assert (float(ds.a), float(ds.b)) == (0.25, 0.75)
    assert (ds.attrs["dataset"], ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == (
        "dummy_dataset",
        "periodic,periodic",
        "periodic,periodic",
    )


@pytest.mark.parametrize("sample", ["", "sample"])
@pytest.mark.parametrize("time", ["", "time"])
@pytest.mark.parametrize("space", ["", "x", "y", "x y"])
def test_axes_that_a_field_lacks_are_filled_in(well: Well, sample: str, time: str, space: str) -> None:
    values = well.array("t0_fields", "field", f"{sample} {time} {space}")
    field = well.done().open().field
    axes = f"{sample} {time} {space}".split()
    whole = values.reshape([SIZES[axis] if axis in axes else 1 for axis in ("sample", "time", "x", "y")])
    whole = np.broadcast_to(whole, (N, T, X, Y)).transpose(0, 1, 3, 2)
    if not time:
        whole = whole[:, 0] if sample else whole[0, 0]
    assert field.attrs["role"] == ("prognostic" if time else "static")
    np.testing.assert_array_equal(field, whole)
    np.testing.assert_array_equal(field.isel(x=slice(1, None, 2)), whole[..., 1::2])


@pytest.mark.parametrize("sample", ["", "sample"])
@pytest.mark.parametrize("time", ["", "time"])
def test_scalars_of_every_variation_are_read(well: Well, sample: str, time: str) -> None:
    values = well.array("scalars", "rate", f"{sample} {time}")
    rate = well.done().open().rate
    if time:
        assert (rate.dims, rate.attrs["role"]) == (("trajectory", "time", "y", "x"), "forcing")
        np.testing.assert_array_equal(rate[..., 1, 2], np.broadcast_to(values, (N, T)))
        np.testing.assert_array_equal(rate.min(("y", "x")), rate.max(("y", "x")))
    else:
        assert (rate.dims, rate.attrs["role"]) == (("trajectory",) if sample else (), "scalar")
        np.testing.assert_array_equal(rate, values)


def test_components_of_vectors_and_tensors_follow_the_axes_of_the_file(well: Well) -> None:
    vector = well.array("t1_fields", "velocity", "sample time x y", 2)
    tensor = well.array("t2_fields", "stress", "sample time x y", 2, 2)
    flat = well.array("t2_fields", "strain", "sample time x y", 4)
    ds = well.done().open()
    np.testing.assert_array_equal(ds.velocity_y, vector[..., 1].swapaxes(-1, -2))
    for i, (a, b) in enumerate(("xx", "xy", "yx", "yy")):
        np.testing.assert_array_equal(ds[f"stress_{a}{b}"], tensor[..., i // 2, i % 2].swapaxes(-1, -2))
        np.testing.assert_array_equal(ds[f"strain_{a}{b}"], flat[..., i].swapaxes(-1, -2))
    assert ds.velocity_x.attrs["group"] == "velocity"


def test_a_vector_of_three_components_in_the_plane_is_an_error(well: Well) -> None:
    well.array("t1_fields", "field", "sample time x y", 3)
    with pytest.raises(
        DataError, match=r"/t1_fields/field of t1_fields has shape .* 2 components for each of 1"
    ):
        well.done().open()


def test_attributes_spelled_as_text_mean_the_same(well: Well) -> None:
    well.array("t0_fields", "static", "x y", sample_varying="False", time_varying="False")
    well.file["t0_fields"].attrs["field_names"] = "['density' 'static']"
    well.file["dimensions"].attrs["spatial_dims"] = np.bytes_("['x', 'y']")
    well.boundary("walls", "wall", "['x']", ends(X, 0, -1), sample_varying="False")
    ds = well.done().open()
    assert set(ds) == {"density", "static"}
    assert (ds.static.dims, ds.attrs["boundary_x"]) == (("y", "x"), "wall,wall")


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
    well: Well, conditions: Any, y: str, x: str
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
def test_an_ambiguous_side_is_asked_about(well: Well, conditions: Any) -> None:
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
def test_values_at_a_boundary_lie_where_the_mask_marks_them(well: Well, dims: tuple[str, str]) -> None:
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


def test_values_at_the_ends_of_one_axis_are_repeated_along_the_other(well: Well) -> None:
    well.boundary("x_walls", "WALL", ["x"], ends(X, 0, -1), np.array([2.0, 3.0]))
    ds = well.done().open()
    assert ds.attrs["boundary_x"] == "wall,wall"
    np.testing.assert_array_equal(ds.x_walls_values, np.tile([2, 0, 0, 0, 0, 3], (Y, 1)))


@pytest.mark.parametrize("axes", ["sample", "time", "sample time"])
@pytest.mark.parametrize("moves", ["mask", "values", "both"])
def test_conditions_that_vary_are_fields_of_each_trajectory_and_time(
    well: Well, axes: str, moves: str
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
        made = Well(tmp_path / f"{name}.hdf5")
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
    well: Well, caplog: pytest.LogCaptureFixture
) -> None:
    well.boundary("walls", "WALL", ["x"], ends(X, 0, -1), np.ones((2, 3)))
    well.boundary("body", "WALL", ["y"], ends(Y, 0, -1), np.ones(3))
    ds = well.done().open()
    assert (list(ds), ds.attrs["boundary_x"]) == (["density"], "wall,wall")
    assert "walls: its values of shape (2, 3) are not one for each of the 2 points marked" in caplog.text
    assert "body: its values of shape (3,) are not one for each of the 2 points marked" in caplog.text


def test_planes_of_values_at_a_boundary_are_read_in_little_memory(tmp_path: Path) -> None:
    frames, points = 40, 32
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
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
    made = Well(tmp_path / "moving.hdf5", dims=("x", "y", "z"))
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


def test_values_that_do_not_fit_a_moving_mask_are_an_error_when_they_are_read(well: Well) -> None:
    mask = np.zeros((N, X, Y), bool)
    mask[0, 2, 1:3] = mask[1, 2, 1] = True
    well.boundary("body", "WALL", ["x", "y"], mask, np.ones((N, 2)), sample_varying=True)
    ds = well.done().open()
    with pytest.raises(DataError, match=r"body/values has 2 values where .*body/mask marks 1 points"):
        ds.body_values[1].load()


def test_a_mask_of_other_points_than_its_axis_has_is_left_out_and_asked_about(
    well: Well, caplog: pytest.LogCaptureFixture
) -> None:
    well.boundary("walls", "WALL", ["x"], ends(X - 1, 0, -1))
    source = well.done()
    with pytest.raises(DataError, match=r"its boundary_conditions give a side of x several kinds, or"):
        source.open()
    assert (
        f"walls: its mask of shape ({X - 1},) is not understood, and left out; its axes are x={X}"
        in caplog.text
    )
    assert (
        source.model_validate(source.model_dump() | {"boundary": "open"}).open().attrs["boundary_x"]
        == "open,open"
    )


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
def test_what_contradicts_itself_is_named(well: Well, change: Any, message: str) -> None:
    change(well)
    with pytest.raises(DataError, match=message):
        well.done().open()


def test_a_condition_of_one_file_is_absent_in_the_others(tmp_path: Path) -> None:
    for i in range(2):
        made = Well(tmp_path / f"p{i}.hdf5")
        made.array("t0_fields", "density", "sample time x y")
        if i:
            made.boundary("body", "WALL", ["x", "y"], inside(X, Y), np.full((X - 2) * (Y - 2), 2.0))
        made.done()
    ds = TheWell(paths=f"{tmp_path}/p*.hdf5").open()
    for name, factor in (("body_mask", 1), ("body_values", 2)):
        np.testing.assert_array_equal(ds[name], [np.zeros((Y, X))] * N + [factor * inside(Y, X)] * N)


def test_axes_are_recognised_or_asked_for(tmp_path: Path) -> None:
    for dims, y in ((("x", "z"), "z"), (("y", "x"), "y")):
        made = Well(tmp_path / f"{dims[0]}.hdf5", dims)
        made.file["t0_fields"].attrs["field_names"] = ["density"]
        made.file["t0_fields/density"] = values = RNG.normal(size=(N, T, X, Y))
        made.file["t0_fields/density"].attrs.update(
            dim_varying=[True, True], sample_varying=True, time_varying=True
        )
        found = made.done().open().density
        np.testing.assert_array_equal(found, values.swapaxes(-1, -2) if dims.index(y) else values)
    made = Well(tmp_path / "rz.hdf5", ("r", "z"))
    made.array("t0_fields", "density", "sample time x y")
    source = made.done()
    with pytest.raises(
        DataError, match=r"which of its axes r, z is y and which is x\? Say axes: {y: z, x: r}"
    ):
        source.open()
    assert source.model_copy(update={"axes": {"y": "r", "x": "z"}}).open().sizes["y"] == X


def test_a_sphere_becomes_latitudes_and_longitudes(tmp_path: Path) -> None:
    made = Well(tmp_path / "a.hdf5", ("theta", "phi"), grid_type="equiangular")
    made.array("t0_fields", "height", "sample time x y")
    made.coordinate("theta", (np.arange(X) + 0.5) * np.pi / X)
    made.coordinate("phi", np.arange(Y) * 2 * np.pi / Y)
    ds = made.done().open()
    np.testing.assert_allclose(ds.y, [75, 45, 15, -15, -45, -75], atol=1e-12)
    np.testing.assert_allclose(ds.x, [0, 90, 180, 270])
    assert (ds.attrs["grid"], ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == (
        "latlon",
        "pole,pole",
        "periodic,periodic",
    )
    odd = Well(tmp_path / "b.hdf5", ("x", "y"), grid_type="spherical")
    odd.array("t0_fields", "height", "sample time x y")
    with pytest.raises(DataError, match=r"b\.hdf5: a spherical grid over y, x; theta, phi can be read"):
        odd.done().open()


class TestTheWellIn3D(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Files:
        made = Well(tmp_path_factory.mktemp("well") / "flow.hdf5", ("x", "y", "z"))
        made.array("t1_fields", "velocity", "sample time x y z", 3)
        made.array("t0_fields", "density", "sample time x y z")
        made.array("t0_fields", "porosity", "x y z")
        made.array("t0_fields", "lid", "time x y")
        made.boundary(
            "body", "WALL", ["x", "y", "z"], inside(X, Y, Z), RNG.normal(size=inside(X, Y, Z).sum())
        )
        return made.done()


def test_planes_along_z_are_levels_and_every_axis_keeps_its_direction(tmp_path: Path) -> None:
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
    for name in ("t0_fields/density", "t1_fields/velocity", "t2_fields/stress"):
        group, field = name.split("/")
        components = (3,) * int(group[1])
        made.array(group, field, "sample time x y z", *components)
        n, t, x, y, z, *c = np.indices((N, T, X, Y, Z, *components))
        number = sum(3**i * index for i, index in enumerate(c[::-1]))
        made.file[name][...] = n + 2 * t + 10 * (x / 8) + 100 * (y / 8) + 1000 * (z / 8) + 10000 * number
    made.boundary("x", "PERIODIC", ["x"], ends(X))
    made.boundary("below", "WALL", ["z"], ends(Z, 0))
    made.boundary("above", "OPEN", ["z"], ends(Z, -1))
    ds = made.done().open()
    tensor = [f"stress_{a}{b}" for a in "xyz" for b in "xyz"]
    names = ["density", "velocity_x", "velocity_y", "velocity_z", *tensor]
    assert list(ds) == names
    time = np.arange(T)
    for name in names:
        number = {"d": 0, "v": "xyz".find(name[-1])}.get(name[0], tensor.index(name) if name in tensor else 0)
        plane = ds.trajectory + 2 * xr.DataArray(time, dims="time") + 10 * ds.x + 100 * ds.y + 1000 * ds.level
        assert ds[name].dims == ("trajectory", "time", "level", "y", "x")
        assert bool((ds[name] == plane + 10000 * number).all())
    assert ds.level.attrs == {"units": "1", "long_name": "coordinate along z", "boundary": "wall,open"}
    assert (ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == ("unknown,unknown", "periodic,periodic")
    assert ds.velocity_z.attrs["group"] == "velocity"


@pytest.mark.parametrize("space", ["x y z", "x y", "z", "y z"])
@pytest.mark.parametrize("sample", ["", "sample"])
def test_a_field_that_does_not_vary_along_z_has_one_plane(tmp_path: Path, sample: str, space: str) -> None:
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.array("t0_fields", "density", "sample time x y z")
    values = made.array("t0_fields", "field", f"{sample} {space}")
    field = made.done().open().field
    axes = f"{sample} {space}".split()
    assert ("level" in field.dims) == ("z" in axes)
    own = xr.DataArray(values, dims=[{"sample": "trajectory", "z": "level"}.get(axis, axis) for axis in axes])
    assert bool((field == own).all())
    assert set(field.sizes) >= {"y", "x"}


def test_stores_of_3d_fields_hold_chosen_planes_and_say_what_they_are(tmp_path: Path) -> None:
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
    velocity = made.array("t1_fields", "velocity", "sample time x y z", 3)
    porosity = made.array("t0_fields", "porosity", "x y z")
    made.coordinate("z", np.array([0.1, 0.2, 0.3], np.float32))
    made.boundary("z", "PERIODIC", ["z"], ends(Z))
    config = {"dataset": "flow", "root": tmp_path, "levels": [0.3, 0.1], "bits": {"velocity_z": 22}}
    path = build(BuildConfig.model_validate(config | {"source": made.done().model_dump()}))
    assert verify(path) == []
    store = open_store(path)
    keys = [variable.key for variable in store.variables]
    assert keys == [f"velocity_{axis}@{level}" for axis in "xyz" for level in (0.3, 0.1)]
    assert [variable.key for variable in store.static_variables] == ["porosity@0.3", "porosity@0.1"]
    expected = velocity[1][..., [2, 0], :].transpose(0, 4, 3, 2, 1).reshape(T, 6, Y, X)
    np.testing.assert_array_equal(store.read(1, 0, T)[:, :4], expected[:, :4])
    np.testing.assert_allclose(store.read(1, 0, T)[:, 4:], expected[:, 4:], rtol=2**-22)
    np.testing.assert_array_equal(store.static(0), porosity[..., [2, 0]].transpose(2, 1, 0))
    ds = store.to_xarray()
    np.testing.assert_allclose(ds.level, [0.3, 0.1])
    assert ds.level.attrs["boundary"] == "periodic,periodic"
    assert ds.porosity.dims == ("level", "y", "x")
    np.testing.assert_array_equal(ds.velocity_y[0, 1, 0], velocity[0, 1, :, :, 2, 1].T)
    assert "levels      2 from 0.1 to 0.3, coordinate along z; beyond: periodic, periodic" in inspect(path)


def test_inspect_says_what_becomes_of_planes(tmp_path: Path) -> None:
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.array("t0_fields", "density", "sample time x y z")
    made.boundary("z", "WALL", ["z"], ends(Z, 0, -1))
    text = propose(made.done().paths[0])
    assert "3 levels from 0 to 0.25 (coordinate along z; beyond its ends: wall,wall)" in text
    assert "each a channel such as density@0;" in text


def test_the_third_axis_may_be_another_one(tmp_path: Path) -> None:
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
    values = made.array("t1_fields", "velocity", "sample time x y z", 3)
    options = {
        "axes": {"level": "x", "y": "z", "x": "y"},
        "boundary": {"y": "wall", "x": "open", "level": "periodic"},
    }
    ds = made.done(**options).open()
    np.testing.assert_array_equal(ds.velocity_z, values[..., 2].transpose(0, 1, 2, 4, 3))
    assert ds.level.attrs["long_name"] == "coordinate along x"
    assert (ds.level.attrs["boundary"], ds.attrs["boundary_y"]) == ("periodic,periodic", "wall,wall")
    other = Well(tmp_path / "b.hdf5", ("r", "s", "z"))
    with pytest.raises(DataError, match=r"which of its axes r, s, z is level and which is y and which is x\? Say"
                                        r" axes: {level: z, y: s, x: r} or another way round"):  # fmt: skip
        other.done().open()


@pytest.mark.parametrize(
    ("boundary", "third"), [("wall", "wall,wall"), ({"y": "wall", "x": "open"}, "unknown,unknown")]
)
def test_one_word_for_all_sides_stands_for_those_of_the_third_axis_too(
    tmp_path: Path, boundary: Any, third: str
) -> None:
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.array("t0_fields", "density", "sample time x y z")
    assert made.done(boundary=boundary).open().level.attrs["boundary"] == third


def test_sides_of_a_third_axis_are_for_fields_that_have_one(tmp_path: Path) -> None:
    sides = {"y": "wall", "x": "wall", "level": "open"}
    for dims in (("x", "y"), ("x", "y", "z")):
        made = Well(tmp_path / f"{len(dims)}d.hdf5", dims)
        made.array("t0_fields", "density", f"sample time {' '.join(dims)}")
        source = made.done(boundary=sides).model_dump()
        config = BuildConfig.model_validate({"dataset": "flow", "source": source, "root": tmp_path})
        if "z" in dims:
            assert make_plan(config).fields.dataset["level"].attrs["boundary"] == "open,open"
        else:
            with pytest.raises(
                ConfigError, match=r"source\.boundary\.level: small has no third axis; say y and x"
            ):
                make_plan(config)


def test_a_part_of_a_sphere_has_shells_and_the_sides_of_its_masks(tmp_path: Path) -> None:
    made = Well(tmp_path / "a.hdf5", ("r", "theta", "phi"), grid_type="spherical")
    values = made.array("t0_fields", "density", "sample time x y z")
    made.coordinate("r", np.geomspace(300, 6700, X))
    made.coordinate("theta", np.pi / 4 + (np.arange(Y) + 0.5) * np.pi / 8)
    made.coordinate("phi", (np.arange(Z) + 0.5) * np.pi / 3)
    made.boundary("wedge", "PERIODIC", ["theta"], ends(Y))
    made.boundary("inner", "WALL", ["r"], ends(X, 0))
    ds = made.done().open()
    np.testing.assert_array_equal(ds.density, values)
    np.testing.assert_allclose(ds.y, [33.75, 11.25, -11.25, -33.75])
    assert ds.level.attrs["boundary"] == "wall,unknown"
    assert (ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == ("periodic,periodic", "unknown,unknown")


def test_four_dimensions_are_refused(tmp_path: Path) -> None:
    made = Well(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.file["dimensions"].attrs["spatial_dims"] = ["x", "y", "z", "w"]
    made.coordinate("w", np.arange(2.0))
    with pytest.raises(
        DataError, match=r"a\.hdf5 has 4 spatial axes \(x, y, z, w\); 2-D and 3-D files are read"
    ):
        made.done().open()


def timed(path: Path, *rows: np.ndarray, dtype: type = np.float32) -> TheWell:
    """A file whose trajectories have times of their own, in single precision as the specification has them."""
    made = Well(path, n_trajectories=len(rows))
    made.file["t0_fields"].attrs["field_names"] = ["density"]
    made.file["t0_fields/density"] = RNG.normal(size=(len(rows), len(rows[0]), X, Y)).astype(np.float32)
    made.file["t0_fields/density"].attrs.update(
        dim_varying=[True, True], sample_varying=True, time_varying=True
    )
    made.coordinate("time", np.stack(rows).astype(dtype), sample_varying=True)
    return made.done()


def test_times_that_all_trajectories_share_are_kept(tmp_path: Path) -> None:
    ds = timed(tmp_path / "a.hdf5", *[3 + np.arange(T) / 4] * 3).open()
    np.testing.assert_array_equal(ds.time, 3 + np.arange(T) / 4)
    assert list(ds) == ["density"]


@pytest.mark.parametrize("step", [0.25, 0.01])
def test_trajectories_that_start_at_different_times_count_from_their_start(
    tmp_path: Path, step: float
) -> None:
    starts = [500.0, 0.0, 7.5]
    source = timed(tmp_path / "a.hdf5", *[start + np.arange(T) * step for start in starts])
    ds = source.open()
    np.testing.assert_allclose(ds.time, np.arange(T) * step, rtol=1e-6)
    np.testing.assert_array_equal(ds.start_time, starts)
    assert (ds.start_time.dims, ds.start_time.attrs["role"]) == (("trajectory",), "scalar")
    config = {"dataset": "well", "source": source.model_dump() | {"kind": "the_well"}, "root": tmp_path}
    dataset = DatasetConfig(path=build(BuildConfig.model_validate(config)), time_scale=1.0).open()
    batch = dataset.batch(np.arange(dataset.num_samples))
    np.testing.assert_allclose(batch.lead_time, step * (batch.index[:, 2] - batch.index[:, 1]), rtol=1e-6)
    np.testing.assert_array_equal(batch.scalars[:, 0], np.array(starts)[batch.index[:, 0]])


@pytest.mark.parametrize("starts", [[1e4, 1e4], [1e4, 0.0], [0.0, 1e4], [1e4, 2e4]])
def test_late_times_are_as_even_as_single_precision_can_say(tmp_path: Path, starts: list[float]) -> None:
    rows = [(start + 0.01 * np.arange(T)).astype(np.float32) for start in starts]
    single, double = (
        timed(tmp_path / f"{t.__name__}.hdf5", *rows, dtype=t) for t in (np.float32, np.float64)
    )
    axis = select_fields(single.open(), FieldOptions()).axis
    np.testing.assert_allclose(np.diff(axis), 0.01, rtol=0.05)
    with pytest.raises(DataError, match=r"times are not evenly spaced|a dataset has one step in time"):
        select_fields(double.open(), FieldOptions())


def test_trajectories_of_different_steps_are_refused_until_one_step_is_chosen(tmp_path: Path) -> None:
    rows = [np.arange(T) * step for step in (0.25, 0.5, 0.25)]
    source = timed(tmp_path / "a.hdf5", *rows)
    with pytest.raises(
        DataError,
        match=r"a\.hdf5, trajectory 1: frames 0 and 1 are 0\.5 apart, and 0\.25 in .*a\.hdf5, trajectory 0: a"
        r" dataset has one step.* Steps are 0\.25, 0\.5: make a dataset of each, as in dt: 0\.25",
    ):
        source.open()
    with h5py.File(tmp_path / "a.hdf5") as file:
        density = file["t0_fields/density"][()]
    for step, taken in ((0.25, [0, 2]), (0.5, [1])):
        ds = source.model_copy(update={"dt": step}).open()
        np.testing.assert_array_equal(ds.time, rows[taken[0]])
        np.testing.assert_array_equal(ds.trajectory, taken)
        np.testing.assert_array_equal(ds.density, density[taken].swapaxes(-1, -2))
    with pytest.raises(
        ConfigError, match=r"dt: no trajectory of .*a\.hdf5 has steps of 1; there are 0\.25, 0\.5"
    ):
        source.model_copy(update={"dt": 1.0}).open()


def test_times_of_uneven_steps_that_differ_are_refused(tmp_path: Path) -> None:
    late = np.array([0, 0.25, 0.5, 0.875, 1.125])
    with pytest.raises(DataError, match=r"trajectory 1: frames 2 and 3 are 0\.375 apart, and 0\.25 in"):
        timed(tmp_path / "a.hdf5", np.arange(T) / 4, late).open()


def test_files_of_different_starts_and_steps_are_told_apart(tmp_path: Path) -> None:
    for i, (start, step) in enumerate([(0, 0.25), (2, 0.25), (0, 0.5)]):
        timed(tmp_path / f"p{i}.hdf5", start + np.arange(T) * step)
    ds = TheWell(paths=[f"{tmp_path}/p0.hdf5", f"{tmp_path}/p1.hdf5"]).open()
    np.testing.assert_array_equal(ds.start_time, [0, 2])
    source = TheWell(paths=f"{tmp_path}/p*.hdf5")
    with pytest.raises(
        DataError, match=r"p2\.hdf5, trajectory 0: frames 0 and 1 are 0\.5 apart, and 0\.25 in"
    ):
        source.open()
    assert source.model_copy(update={"dt": 0.25}).open().sizes["trajectory"] == 2


class TestTheWellOfSeveralLengths(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Files:
        return lasting(tmp_path_factory.mktemp("lasting"))


def lasting(folder: Path, *lengths: int) -> TheWell:
    """A file of two trajectories for each number of frames, whose density counts frames, with a moving body."""
    for number, frames in enumerate(lengths or (3, 5, 1)):
        made = Well(folder / f"p{number}.hdf5")
        made.coordinate("time", np.arange(frames) / 4)
        values = (
            10 * number + np.arange(frames, dtype=np.float32)[:, None, None] + RNG.random((N, 1, X, Y)) / 2
        )
        made.file["t0_fields"].attrs["field_names"] = ["density"]
        made.file["t0_fields/density"] = values.astype(np.float32)
        made.file["t0_fields/density"].attrs.update(
            sample_varying=True, time_varying=True, dim_varying=[True, True]
        )
        mask = np.stack([np.outer(ends(X, 1 + frame % 3), ends(Y, 1)) for frame in range(frames)])
        made.boundary("body", "WALL", ["x", "y"], mask, time_varying=True)
        made.array("t0_fields", "profile", "y")
        made.done()
    return TheWell(paths=f"{folder}/p*.hdf5")


def test_files_that_last_longer_leave_frames_of_others_absent(tmp_path: Path) -> None:
    ds = lasting(tmp_path, 3, 5).open()
    np.testing.assert_array_equal(ds.time, np.arange(5) / 4)
    np.testing.assert_array_equal(ds.present, np.arange(5) < np.repeat([3, 5], N)[:, None])
    whole = ds.density.values
    np.testing.assert_array_equal(np.floor(whole[N:, :, 0, 0]), [10 + np.arange(5)] * N)
    np.testing.assert_array_equal(np.floor(whole[:N, :3, 0, 0]), [np.arange(3)] * N)
    assert np.isnan(whole[:N, 3:]).all()
    np.testing.assert_array_equal(np.isnan(ds.body_mask), np.isnan(whole))
    assert not np.isnan(ds.profile).any()
    for times in ([4], [1, 4], [0, 3], slice(1, None, 2), slice(3, 3), 2, 4):
        np.testing.assert_array_equal(ds.density.isel(time=times), whole[:, times])


def test_only_frames_that_are_there_count(tmp_path: Path) -> None:
    source = lasting(tmp_path, 3, 5)
    config = {"dataset": "well", "source": source.model_dump() | {"kind": "the_well"}, "root": tmp_path}
    path = build(BuildConfig.model_validate(config | {"splits": {"kind": "trajectories", "test": 1}}))
    store, fields = open_store(path), source.open()
    split = zarr.open_group(path)["split"]
    np.testing.assert_array_equal(split[:], [[0, 0, 0, -2, -2]] * 2 + [[0] * 5] + [[2] * 5])
    assert split.attrs["flag_meanings"] == "absent unused train valid test"
    assert split.attrs["flag_values"] == [-2, -1, 0, 1, 2]
    trained = fields.density[:-1].values
    assert (store.num_missing, store.stats.count[0]) == (0, 11 * X * Y)
    np.testing.assert_allclose(store.stats.mean[0], np.nanmean(trained), rtol=1e-6)
    np.testing.assert_allclose(store.stats.tendency_mean[0], np.nanmean(np.diff(trained, axis=1)), rtol=1e-6)
    np.testing.assert_array_equal(store.to_xarray().present, fields.present)
    dataset = DatasetConfig(path=path, time_scale=1.0).open()
    batch = dataset.batch(np.arange(dataset.num_samples))
    assert dataset.num_samples == 2 * 3 + 10
    assert batch.index[batch.index[:, 0] < 2, 2].max() == 2
    assert torch.isfinite(batch.targets).all()
    assert "well 1: 4 trajectories of 3 to 5 frames" in inspect(path)


def test_a_value_missing_in_a_frame_that_is_there_is_an_error(tmp_path: Path) -> None:
    source = lasting(tmp_path, 3, 5)
    with h5py.File(tmp_path / "p0.hdf5", "r+") as file:
        file["t0_fields/density"][1, 2, 4, 3] = np.nan
    config = {"dataset": "well", "source": source.model_dump() | {"kind": "the_well"}, "root": tmp_path}
    with pytest.raises(
        DataError, match=r"density, trajectory 1, time 2 \(0\.5\), y 3, x 4: the value is missing"
    ):
        build(BuildConfig.model_validate(config))
    path = build(BuildConfig.model_validate(config | {"missing": "keep", "version": "2"}))
    assert open_store(path).num_missing == 1
    (path / "mask/c/0/0/0").unlink()
    (path / "split/c/0/0").unlink()
    assert repair(path) == ["mask/c/0/0/0", "split/c/0/0"]


def test_of_files_that_last_longer_the_step_asked_for_decides(tmp_path: Path) -> None:
    timed(tmp_path / "p0.hdf5", 7 + 0.25 * np.arange(3), 0.25 * np.arange(3))
    timed(tmp_path / "p1.hdf5", 0.5 * np.arange(T))
    source = TheWell(paths=f"{tmp_path}/p*.hdf5")
    with pytest.raises(
        DataError, match=r"p0\.hdf5, trajectory 0: frames 0 and 1 are 0\.25 apart, and 0\.5 in .*p1"
    ):
        source.open()
    quick, slow = (source.model_copy(update={"dt": dt}).open() for dt in (0.25, 0.5))
    np.testing.assert_array_equal(quick.time, 0.25 * np.arange(3))
    np.testing.assert_array_equal(quick.start_time, [7, 0])
    np.testing.assert_array_equal(slow.time, 0.5 * np.arange(T))
    assert (quick.sizes["trajectory"], slow.sizes["trajectory"]) == (2, 1)
    assert np.isfinite(quick.density).all()


def test_trajectories_of_several_lengths_are_not_written(tmp_path: Path) -> None:
    ds = lasting(tmp_path, 3, 5).open()
    with pytest.raises(
        DataError, match=r"w\.hdf5: trajectories of a file are equally long; write those of each"
    ):
        the_well.write(ds, tmp_path / "w.hdf5")


def test_a_moving_grid_is_refused(well: Well) -> None:
    well.coordinate("x", np.tile(np.arange(X) / 8, (N, 1)), sample_varying=True)
    with pytest.raises(DataError, match=r"small\.hdf5: coordinate x is not the same for all trajectories"):
        well.done().open()


def test_an_attribute_that_the_specification_wants_is_named(well: Well) -> None:
    del well.file["t0_fields/density"].attrs["dim_varying"]
    with pytest.raises(DataError, match=r"'/t0_fields/density' lacks the attribute dim_varying"):
        well.done().open()


def test_files_are_joined_and_what_is_constant_in_each_is_repeated(tmp_path: Path) -> None:
    parts = []
    for i in range(2):
        made = Well(tmp_path / f"p{i}.hdf5")
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
        made = Well(tmp_path / f"p{i}.hdf5")
        made.array("t0_fields", "density", "sample time x y")
        if i:
            change(made)
        made.done()
    with pytest.raises(DataError, match=message):
        TheWell(paths=str(tmp_path / "p*.hdf5")).open()


def test_fields_can_be_renamed_and_selected(well: Well) -> None:
    well.array("t0_fields", "A", "sample time x y")
    source = well.done(rename={"A": "activator"}, variables=("activator",))
    ds = source.open()
    assert set(ds) == {"activator"}
    assert ds.activator.attrs["long_name"] == "concentration of the activator"
    with pytest.raises(DataError, match=r"rename: nothing becomes inhibitor; .*small\.hdf5 has density, A"):
        source.model_copy(update={"rename": {"B": "inhibitor"}}).open()


def test_two_arrays_of_one_name_are_an_error_until_one_is_renamed(well: Well) -> None:
    rates = well.array("scalars", "density", "sample")
    well.coordinate("time", np.arange(N)[:, None] + np.arange(T) / 4, sample_varying=True)
    own = well.array("scalars", "start_time", "")
    source = well.done(rename={"dimensions/start_time": "first"})
    with pytest.raises(
        DataError,
        match=r"small\.hdf5: two arrays would be density; rename one of them, as in"
        r" rename: {t0_fields/density: density_2}",
    ):
        source.open()
    ds = source.model_copy(update={"rename": source.rename | {"scalars/density": "rate"}}).open()
    np.testing.assert_array_equal(ds.rate, rates)
    np.testing.assert_array_equal(ds["first"], [0, 1])
    assert (ds.density.dims, float(ds.start_time)) == (("trajectory", "time", "y", "x"), float(own))


def test_integer_masks_are_read_as_numbers(well: Well) -> None:
    well.array("t0_fields", "mask", "x y")
    del well.file["t0_fields/mask"]
    well.file["t0_fields/mask"] = values = RNG.integers(0, 2, size=(X, Y))
    well.file["t0_fields/mask"].attrs.update(
        dim_varying=[True, True], sample_varying=False, time_varying=False
    )
    np.testing.assert_array_equal(well.done().open().mask, values.T)


class TestWriter(WriterContract):
    writer = Writer
    filename = "made.hdf5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        ds = dataset(
            ("velocity_x", "velocity_y", "tracer", "stress_xx", "stress_xy", "stress_yx", "stress_yy"),
            ("force_x", "wave_speed"),
            {"viscosity": [1, 2, 3], "drag": 0.1},
            boundary_y=("wall", "open"),
        )
        return ds.assign(force_x=ds.force_x[0])

    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        return TheWell(paths=str(path)).open()


class TestWriterOfUnknownSides(TestWriter):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(("phase",), boundary_y=("unknown", "wall"), boundary_x=("unknown", "unknown"))


def test_written_files_have_the_layout_of_the_specification(tmp_path: Path) -> None:
    ds = dataset(("velocity_x", "velocity_y", "tracer"), ("wave_speed",), {"nu": [1, 2, 3], "drag": 0.1})
    the_well.write(ds, tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert {
            key: file.attrs[key] for key in ("n_trajectories", "n_spatial_dims", "grid_type", "drag")
        } == {
            "n_trajectories": 3,
            "n_spatial_dims": 2,
            "grid_type": "cartesian",
            "drag": 0.1,
        }
        assert list(file.attrs["simulation_parameters"]) == ["drag"]
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        assert {key: file["dimensions"][key].dtype for key in ("time", "x", "y")} == dict.fromkeys(
            ("time", "x", "y"), np.float32
        )
        velocity = file["t1_fields/velocity"]
        assert velocity.shape == (3, 5, 4, 6, 2)
        np.testing.assert_array_equal(velocity[..., 1], ds.velocity_y.transpose(..., "x", "y"))
        assert (bool(velocity.attrs["sample_varying"]), bool(velocity.attrs["time_varying"])) == (True, True)
        assert list(file["t0_fields"].attrs["field_names"]) == ["tracer", "wave_speed"]
        assert not file["t0_fields/wave_speed"].attrs["time_varying"]
        assert file["scalars/nu"].shape == (3,)
        condition = file["boundary_conditions/x_periodic"]
        assert condition.attrs["bc_type"] == "PERIODIC"
        np.testing.assert_array_equal(condition["mask"], [True, False, False, True])
        assert len(file["t2_fields"].attrs["field_names"]) == 0


def test_a_scalar_beside_a_vector_of_its_name_stays_apart(tmp_path: Path) -> None:
    ds = dataset(("velocity", "velocity_x", "velocity_y", "force_x"))
    the_well.write(ds, tmp_path / "a.hdf5")
    found = TheWell(paths=str(tmp_path / "a.hdf5")).open()
    xr.testing.assert_equal(found, ds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ds: ds.assign_coords(time=np.datetime64("2020", "ns") + np.arange(5)),
            "not dates or latitudes",
        ),
        (lambda ds: ds.assign_attrs(grid="latlon"), "not dates or latitudes"),
        (lambda ds: ds.expand_dims(level=[1.0], axis=2), "has no levels"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        the_well.write(change(dataset(("phase",))), tmp_path / "a.hdf5")
    assert list(tmp_path.iterdir()) == []
