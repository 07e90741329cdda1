"""PDEArena's releases: old and new keys give the same fields, per-trajectory coordinates must agree."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.pdearena import PDEArena
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
SHAPE = (3, 4, 8, 6)
FIELDS = {key: RNG.normal(size=SHAPE) for key in ("u", "vx", "vy")}


def save(path: Path, *groups: str, fields: dict[str, Any] = FIELDS) -> str:
    count, frames, width, height = SHAPE
    rows = {"t": np.arange(frames) * 1.5, "x": np.arange(width) * 4.0, "y": np.arange(height) * 4.0}
    with h5py.File(path, "w") as file:
        for name in groups or ("",):
            group = file.create_group(name) if name else file
            for key, value in fields.items():
                group[key] = value
            for key, row in rows.items():
                group[key] = np.tile(row, (count, 1))
            group["buo_y"] = np.linspace(0.2, 0.5, count)
    return str(path)


class TestSmoke(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("arena")
        for seed in (1, 2):
            save(folder / f"NavierStokes2D_train_{seed}.h5", "train")
        return PDEArena(paths=f"{folder}/*.h5")


def water(count: int) -> xr.Dataset:
    rng = np.random.default_rng(count)
    axes = ("b", "time", "lev", "lat", "lon")
    fields = {
        key: (axes, rng.normal(size=(count, 4, 1, 6, 12)).astype("f4")) for key in ("u", "v", "div", "vor")
    }
    pres = (("b", "time", "lat", "lon"), rng.normal(size=(count, 4, 6, 12)).astype("f4"), {"units": "hPa"})
    coords = {
        "time": ("time", np.arange(4) * 6.0, {"units": "hours since 1-1-1 00:00:0.0"}),
        "lev": ("lev", [1]),
        "lat": ("lat", np.linspace(75, -75, 6)),
        "lon": ("lon", np.arange(12) * 30.0),
    }
    return xr.Dataset({**fields, "pres": pres}, coords)


class TestWaterInNetCDF(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("water")
        for run in range(2):
            water(2).isel(b=run).to_netcdf(folder / f"output_{run}.nc", engine="h5netcdf")
        return PDEArena(paths=f"{folder}/*.nc")


class TestWaterInZarr(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("water") / "train.zarr"
        water(2).to_zarr(path, consolidated=False, zarr_format=2)
        return PDEArena(paths=str(path))

    def vital(self, path: Path) -> Path:
        return path / "vor/0.0.0.0.0"


def test_arrays_are_x_before_y_and_parameters_scalars(tmp_path: Path) -> None:
    ds = PDEArena(paths=save(tmp_path / "a.h5", "valid")).open()
    for name, key in (("tracer", "u"), ("velocity_x", "vx"), ("velocity_y", "vy")):
        np.testing.assert_array_equal(ds[name], FIELDS[key].swapaxes(-1, -2))
    assert (ds.sizes["x"], ds.sizes["y"], ds.tracer.dtype) == (8, 6, np.float64)
    np.testing.assert_array_equal(ds.time, [0, 1.5, 3, 4.5])
    np.testing.assert_allclose(ds.buoyancy_y, [0.2, 0.35, 0.5])


def test_older_keys_at_the_root_are_the_same_fields(tmp_path: Path) -> None:
    new = PDEArena(paths=save(tmp_path / "a.h5", "test"), dataset="d").open()
    renamed = {"u": FIELDS["u"], "Vx": FIELDS["vx"], "Vy": FIELDS["vy"]}
    old = PDEArena(paths=save(tmp_path / "b.h5", fields=renamed), dataset="d").open()
    xr.testing.assert_equal(old, new)


def test_a_file_of_several_splits_is_asked_about(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", "train", "test")
    with pytest.raises(ConfigError, match=r"split: .*a\.h5 holds train, test; name one"):
        PDEArena(paths=path).open()
    assert PDEArena(paths=path, split="test").open().sizes["trajectory"] == 3
    with pytest.raises(DataError, match="no 'valid' in '/'; it holds test, train"):
        PDEArena(paths=path, split="valid").open()


def test_trajectories_with_times_of_their_own_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", "train")
    with h5py.File(path, "r+") as file:
        file["train/t"][1, 2] = 3.25
    with pytest.raises(
        DataError, match=r"trajectory 0 and trajectory 1 differ in time: point 2 is 3\.0 and 3\.25"
    ):
        PDEArena(paths=path).open()


def test_late_times_in_single_precision_are_even(tmp_path: Path) -> None:
    late = (1e4 + 0.01 * np.arange(4)).astype(np.float32)
    smoke = save(tmp_path / "smoke.h5", "train")
    with h5py.File(smoke, "r+") as file:
        del file["train/t"]
        file["train/t"] = np.tile(late, (3, 1))
    days = ("time", late, {"units": "days since 2000-01-01"})
    water(1).isel(b=0).assign_coords(time=days).to_netcdf(tmp_path / "water.nc", engine="h5netcdf")
    for path in (smoke, str(tmp_path / "water.nc")):
        time = PDEArena(paths=path).open().time
        np.testing.assert_allclose(np.diff(time), time[1] - time[0], rtol=1e-8)


def test_shallow_water_lies_on_the_sphere_over_hours(tmp_path: Path) -> None:
    given = water(1).isel(b=0)
    given.to_netcdf(tmp_path / "output.nc", engine="h5netcdf")
    ds = PDEArena(paths=str(tmp_path / "output.nc")).open()
    np.testing.assert_array_equal(ds.vorticity[0], given.vor[:, 0])
    np.testing.assert_array_equal(ds.pressure[0], given.pres)
    np.testing.assert_array_equal(ds.time, [0, 6, 12, 18])
    assert (ds.attrs["grid"], ds.attrs["boundary_x"], ds.pressure.attrs["units"]) == (
        "latlon",
        "periodic,periodic",
        "hPa",
    )


def maxwell(path: Path, group: str = "train/", shape: tuple[int, ...] = (2, 4, 6, 4, 3)) -> str:
    """The fields are functions of each axis: z is the shortest."""
    n, t, x, y, z, c = np.indices((*shape, 3))
    with h5py.File(path, "w") as file:
        for number, key in enumerate(("d_field", "h_field")):
            file[f"{group}{key}"] = n + 2 * t + 10.0 * x + 100 * y + 1000 * z + 10000 * c + 1e5 * number
    return str(path)


class TestMaxwell(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = maxwell(tmp_path_factory.mktemp("arena") / "Maxwell3D_train_42_2.h5")
        return PDEArena(paths=path, dt=0.5, length=2.0)


@pytest.mark.parametrize("group", ["", "valid/"])
def test_planes_along_z_are_levels_and_every_axis_keeps_its_direction(tmp_path: Path, group: str) -> None:
    ds = PDEArena(paths=maxwell(tmp_path / "a.h5", group), dt=0.5, length=12).open()
    indices = ds.trajectory + 4 * ds.time + 5 * ds.x + 100 * ds.y / 3 + 1000 * ds.level / 4
    names = [f"{key}_{axis}" for key in ("d_field", "h_field") for axis in "xyz"]
    assert list(ds) == names
    for number, name in enumerate(names):
        assert bool((ds[name] == indices + 10000 * (number % 3) + 1e5 * (number // 3)).all())
    assert ds.level.attrs == {"units": "1", "long_name": "coordinate along z", "boundary": "open,open"}
    assert ds.attrs["boundary_y"] == "open,open"


def test_coordinates_that_maxwells_equations_lack_are_asked_for(tmp_path: Path) -> None:
    path = maxwell(tmp_path / "a.h5")
    for given, missing in (({}, "dt"), ({"dt": 1.0}, "length")):
        with pytest.raises(
            ConfigError, match=rf"{missing}: .*a\.h5 has no coordinates; set dt, .* and length"
        ):
            PDEArena(paths=path, **given).open()
    with pytest.raises(ConfigError, match=r"dt: .*b\.h5 holds its coordinates; leave it out"):
        PDEArena(paths=save(tmp_path / "b.h5"), dt=1.0).open()
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["d_field"], file["h_field"] = np.zeros((1, 2, 4, 4, 3)), np.zeros((1, 2, 4, 4, 3))
    with pytest.raises(DataError, match=r"d_field has shape \(1, 2, 4, 4, 3\); \(sample, time, x, y, z, 3\)"):
        PDEArena(paths=str(tmp_path / "c.h5"), dt=1.0, length=1.0).open()
