"""The Well: whatever an array varies with, and whatever its axes are, fields come out whole."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.the_well import TheWell
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.xarray_view import xarray_view
from tests.preprocessing.sources.contracts import SourceContract
from tests.preprocessing.sources.formats.well_archive import (
    RNG,
    SIZES,
    N,
    T,
    WellArchive,
    X,
    Y,
    Z,
    ends,
    inside,
)


class TestTheWell(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("well")
        for i in range(2):
            made = WellArchive(folder / f"part_{i}.hdf5")
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
def test_axes_that_a_field_lacks_are_filled_in(well: WellArchive, sample: str, time: str, space: str) -> None:
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
def test_scalars_of_every_variation_are_read(well: WellArchive, sample: str, time: str) -> None:
    values = well.array("scalars", "rate", f"{sample} {time}")
    rate = well.done().open().rate
    if time:
        assert (rate.dims, rate.attrs["role"]) == (("trajectory", "time", "y", "x"), "forcing")
        np.testing.assert_array_equal(rate[..., 1, 2], np.broadcast_to(values, (N, T)))
        np.testing.assert_array_equal(rate.min(("y", "x")), rate.max(("y", "x")))
    else:
        assert (rate.dims, rate.attrs["role"]) == (("trajectory",) if sample else (), "scalar")
        np.testing.assert_array_equal(rate, values)


def test_axes_are_recognised_or_asked_for(tmp_path: Path) -> None:
    for dims, y in ((("x", "z"), "z"), (("y", "x"), "y")):
        made = WellArchive(tmp_path / f"{dims[0]}.hdf5", dims)
        made.file["t0_fields"].attrs["field_names"] = ["density"]
        made.file["t0_fields/density"] = values = RNG.normal(size=(N, T, X, Y))
        made.file["t0_fields/density"].attrs.update(
            dim_varying=[True, True], sample_varying=True, time_varying=True
        )
        found = made.done().open().density
        np.testing.assert_array_equal(found, values.swapaxes(-1, -2) if dims.index(y) else values)
    made = WellArchive(tmp_path / "rz.hdf5", ("r", "z"))
    made.array("t0_fields", "density", "sample time x y")
    source = made.done()
    with pytest.raises(
        DataError, match=r"which of its axes r, z is y and which is x\? Set axes: {y: z, x: r}"
    ):
        source.open()
    assert source.model_copy(update={"axes": {"y": "r", "x": "z"}}).open().sizes["y"] == X


def test_a_sphere_becomes_latitudes_and_longitudes(tmp_path: Path) -> None:
    made = WellArchive(tmp_path / "a.hdf5", ("theta", "phi"), grid_type="equiangular")
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
    odd = WellArchive(tmp_path / "b.hdf5", ("x", "y"), grid_type="spherical")
    odd.array("t0_fields", "height", "sample time x y")
    with pytest.raises(DataError, match=r"b\.hdf5: a spherical grid over y, x; theta, phi can be read"):
        odd.done().open()


class TestTheWellIn3D(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        made = WellArchive(tmp_path_factory.mktemp("well") / "flow.hdf5", ("x", "y", "z"))
        made.array("t1_fields", "velocity", "sample time x y z", 3)
        made.array("t0_fields", "density", "sample time x y z")
        made.array("t0_fields", "porosity", "x y z")
        made.array("t0_fields", "lid", "time x y")
        made.boundary(
            "body", "WALL", ["x", "y", "z"], inside(X, Y, Z), RNG.normal(size=inside(X, Y, Z).sum())
        )
        return made.done()


def test_planes_along_z_are_levels_and_every_axis_keeps_its_direction(tmp_path: Path) -> None:
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
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
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.array("t0_fields", "density", "sample time x y z")
    values = made.array("t0_fields", "field", f"{sample} {space}")
    field = made.done().open().field
    axes = f"{sample} {space}".split()
    assert ("level" in field.dims) == ("z" in axes)
    own = xr.DataArray(values, dims=[{"sample": "trajectory", "z": "level"}.get(axis, axis) for axis in axes])
    assert bool((field == own).all())
    assert set(field.sizes) >= {"y", "x"}


def test_stores_of_3d_fields_hold_chosen_planes_and_say_what_they_are(tmp_path: Path) -> None:
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
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
    ds = xarray_view(store)
    np.testing.assert_allclose(ds.level, [0.3, 0.1])
    assert ds.level.attrs["boundary"] == "periodic,periodic"
    assert ds.porosity.dims == ("level", "y", "x")
    np.testing.assert_array_equal(ds.velocity_y[0, 1, 0], velocity[0, 1, :, :, 2, 1].T)
    assert "levels      2 from 0.1 to 0.3, coordinate along z; beyond: periodic, periodic" in inspect(path)


def test_inspect_says_what_becomes_of_planes(tmp_path: Path) -> None:
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.array("t0_fields", "density", "sample time x y z")
    made.boundary("z", "WALL", ["z"], ends(Z, 0, -1))
    text = propose(made.done().paths[0])
    assert "3 levels from 0 to 0.25 (coordinate along z; beyond its ends: wall,wall)" in text
    assert "each a channel such as density@0;" in text


def test_the_third_axis_may_be_another_one(tmp_path: Path) -> None:
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
    values = made.array("t1_fields", "velocity", "sample time x y z", 3)
    options = {
        "axes": {"level": "x", "y": "z", "x": "y"},
        "boundary": {"y": "wall", "x": "open", "level": "periodic"},
    }
    ds = made.done(**options).open()
    np.testing.assert_array_equal(ds.velocity_z, values[..., 2].transpose(0, 1, 2, 4, 3))
    assert ds.level.attrs["long_name"] == "coordinate along x"
    assert (ds.level.attrs["boundary"], ds.attrs["boundary_y"]) == ("periodic,periodic", "wall,wall")
    other = WellArchive(tmp_path / "b.hdf5", ("r", "s", "z"))
    with pytest.raises(DataError, match=r"which of its axes r, s, z is level and which is y and which is x\? Set"
                                        r" axes: {level: z, y: s, x: r} or another way round"):  # fmt: skip
        other.done().open()


@pytest.mark.parametrize(
    ("boundary", "third"), [("wall", "wall,wall"), ({"y": "wall", "x": "open"}, "unknown,unknown")]
)
def test_one_word_for_all_sides_stands_for_those_of_the_third_axis_too(
    tmp_path: Path, boundary: Any, third: str
) -> None:
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.array("t0_fields", "density", "sample time x y z")
    assert made.done(boundary=boundary).open().level.attrs["boundary"] == third


def test_sides_of_a_third_axis_are_for_fields_that_have_one(tmp_path: Path) -> None:
    sides = {"y": "wall", "x": "wall", "level": "open"}
    for dims in (("x", "y"), ("x", "y", "z")):
        made = WellArchive(tmp_path / f"{len(dims)}d.hdf5", dims)
        made.array("t0_fields", "density", f"sample time {' '.join(dims)}")
        source = made.done(boundary=sides).model_dump()
        config = BuildConfig.model_validate({"dataset": "flow", "source": source, "root": tmp_path})
        if "z" in dims:
            assert make_plan(config).fields.dataset["level"].attrs["boundary"] == "open,open"
        else:
            with pytest.raises(
                ConfigError, match=r"source\.boundary\.level: small has no third axis; give y and x only"
            ):
                make_plan(config)


def test_a_part_of_a_sphere_has_shells_and_the_sides_of_its_masks(tmp_path: Path) -> None:
    made = WellArchive(tmp_path / "a.hdf5", ("r", "theta", "phi"), grid_type="spherical")
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
    made = WellArchive(tmp_path / "a.hdf5", ("x", "y", "z"))
    made.file["dimensions"].attrs["spatial_dims"] = ["x", "y", "z", "w"]
    made.coordinate("w", np.arange(2.0))
    with pytest.raises(
        DataError, match=r"a\.hdf5 has 4 spatial axes \(x, y, z, w\); only 2-D and 3-D files are read"
    ):
        made.done().open()


def test_fields_can_be_renamed_and_selected(well: WellArchive) -> None:
    well.array("t0_fields", "A", "sample time x y")
    source = well.done(rename={"A": "activator"}, variables=("activator",))
    ds = source.open()
    assert set(ds) == {"activator"}
    assert ds.activator.attrs["long_name"] == "concentration of the activator"
    with pytest.raises(DataError, match=r"rename: nothing becomes inhibitor; .*small\.hdf5 has density, A"):
        source.model_copy(update={"rename": {"B": "inhibitor"}}).open()


def test_two_arrays_of_one_name_are_an_error_until_one_is_renamed(well: WellArchive) -> None:
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


def test_integer_masks_are_read_as_numbers(well: WellArchive) -> None:
    well.array("t0_fields", "mask", "x y")
    del well.file["t0_fields/mask"]
    well.file["t0_fields/mask"] = values = RNG.integers(0, 2, size=(X, Y))
    well.file["t0_fields/mask"].attrs.update(
        dim_varying=[True, True], sample_varying=False, time_varying=False
    )
    np.testing.assert_array_equal(well.done().open().mask, values.T)
