"""PDEGym: every set's layout is read as the table says, and what is written is read again."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats import pdegym_writer
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from pelagos.preprocessing.sources.formats.pdegym_sets import SETS
from pelagos.preprocessing.sources.formats.pdegym_writer import PDEGymWriter
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.sources.contracts import SourceContract, WriterContract
from tests.preprocessing.sources.datasets import dataset

RNG = np.random.default_rng(0)


def store(path: Path, **arrays: Any) -> Path:
    """A file as the hub has it: named arrays, nothing else."""
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values
    return path


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class TestPDEGym(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("hub")
        for i, count in enumerate((2, 1, 3)):
            store(folder / f"velocity_{i}.nc", velocity=values(count, 21, 3, 6, 4))
        return PDEGym(paths=f"{folder}/velocity_*.nc", dataset="NS-PwC")


@pytest.mark.parametrize(
    "name", [name for name in SETS if name not in ("SE-AF", "Poisson-Gauss", "Helmholtz")]
)
def test_channels_of_every_set_are_where_the_table_says(name: str, tmp_path: Path) -> None:
    layout = SETS[name]
    channels = (len(layout.channels),) if len(layout.channels) > 1 else ()
    array = values(3, 5, *channels, 4, 6)
    static = {key: values(3, 4, 6) for key in layout.static}
    ds = PDEGym(paths=str(store(tmp_path / "a.nc", **{layout.key: array}, **static)), dataset=name).open()
    if layout.axes == "xy":
        array = array.swapaxes(-1, -2)
    for i, variable in enumerate(layout.channels):
        np.testing.assert_array_equal(ds[variable], array[:, :, i] if channels else array)
        assert ds[variable].attrs["role"] == "prognostic"
    for key, variable in layout.static.items():
        np.testing.assert_array_equal(ds[variable], static[key])
        assert ds[variable].attrs["role"] == "static"
    np.testing.assert_allclose(ds.time, np.arange(5) * layout.dt, rtol=1e-14)
    assert ds.attrs["boundary_x"] == ds.attrs["boundary_y"] == f"{layout.boundary},{layout.boundary}"
    assert ds.attrs["license"] == "CC BY-NC 4.0"


@pytest.mark.parametrize(
    ("name", "frames", "end"), [("NS-BB", 21, 1), ("Wave-Gauss", 16, 1), ("GCE-RT", 11, 5)]
)
def test_the_last_frame_of_a_set_is_at_its_final_time(
    name: str, frames: int, end: float, tmp_path: Path
) -> None:
    layout = SETS[name]
    shape = (1, frames, len(layout.channels), 4, 4) if len(layout.channels) > 1 else (1, frames, 4, 4)
    static = {key: values(1, 4, 4) for key in layout.static}
    path = store(tmp_path / "a.nc", **{layout.key: values(*shape)}, **static)
    assert PDEGym(paths=str(path), dataset=name).open().time[-1] == pytest.approx(end)


def test_the_transposed_set_comes_out_like_the_others(tmp_path: Path) -> None:
    y_x = values(1, 2, 2, 6, 4)
    plain = PDEGym(paths=str(store(tmp_path / "bb.nc", velocity=y_x)), dataset="NS-BB").open()
    turned = PDEGym(
        paths=str(store(tmp_path / "sl.nc", velocity=y_x.swapaxes(-1, -2))), dataset="NS-SL"
    ).open()
    for name in ("velocity_x", "velocity_y"):
        np.testing.assert_array_equal(plain[name], turned[name])


def test_sets_released_without_their_last_channel_are_read(tmp_path: Path) -> None:
    gas = values(2, 3, 4, 4, 4)
    ds = PDEGym(paths=str(store(tmp_path / "a.nc", data=gas)), dataset="CE-RP").open()
    assert list(ds) == ["density", "velocity_x", "velocity_y", "pressure"]
    assert ds.pressure.attrs["poseidon_offset"] == "0.215"


def test_what_poseidon_subtracts_from_the_pressure_is_kept_in_the_store(tmp_path: Path) -> None:
    gas = values(2, 3, 4, 4, 4)
    path = store(tmp_path / "a.nc", data=gas)
    source = {"kind": "pdegym", "paths": str(path), "dataset": "CE-KH"}
    config = {"dataset": "gas", "source": source, "root": tmp_path}
    shifted = {"version": "2", "convert": {"pressure": {"units": "1", "offset": -1.0}}}
    for changes, kept, expected in (({}, "1.0", gas[:, :, 3]), (shifted, None, gas[:, :, 3] - 1)):
        built = open_store(build(BuildConfig.model_validate(config | changes)))
        channels = zarr.open_array(built.path / "state", mode="r").attrs["channels"]
        assert isinstance(channels, list)
        assert channels[3].get("poseidon_offset") == kept
        np.testing.assert_allclose(built.read(1, 0, 3)[:, 3], expected[1], rtol=1e-6)


def test_a_number_of_channels_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", data=values(2, 3, 6, 4, 4))
    with pytest.raises(
        DataError, match=r"a\.nc: /data of shape .* has 6 channels; density, .*energy were exp"
    ):
        PDEGym(paths=str(path), dataset="CE-RP").open()


def test_the_forcing_that_kolmogorov_flow_does_not_store_is_made(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", solution=values(1, 3, 2, 8, 8))
    ds = PDEGym(paths=str(path), dataset="FNS-KF").open()
    # f(x, y) = 0.1 sin(2π(x + y)) has mean square 0.005 and one wave along each axis
    assert float((ds.source.astype("f8") ** 2).mean()) == pytest.approx(0.005)
    np.testing.assert_allclose(ds.source.sel(x=0.25, y=0), 0.1, rtol=1e-6)
    np.testing.assert_allclose(ds.source.sel(x=0.25, y=0.25), 0, atol=1e-7)


def test_density_inside_the_airfoil_is_missing(tmp_path: Path) -> None:
    solution = values(3, 2, 4, 6)
    solution[:, 0] = RNG.integers(0, 2, size=(3, 4, 6))
    ds = PDEGym(paths=str(store(tmp_path / "a.nc", solution=solution)), dataset="SE-AF").open()
    np.testing.assert_array_equal(ds.geometry, solution[:, 0])
    np.testing.assert_array_equal(
        ds.density[:, 0], np.where(solution[:, 0] == 1, np.nan, solution[:, 1]).astype("f4")
    )
    assert ds.density.attrs["role"] == "diagnostic"
    assert ds.density.dtype == np.float32
    assert np.array_equal(ds.density[1:, :, [2]].values, ds.density.values[1:, :, [2]], equal_nan=True)


def test_a_steady_solution_is_diagnostic_and_its_source_static(tmp_path: Path) -> None:
    source, solution = values(3, 4, 6), values(3, 4, 6)
    path = store(tmp_path / "a.nc", source=source, solution=solution)
    ds = PDEGym(paths=str(path), dataset="Poisson-Gauss").open()
    np.testing.assert_array_equal(ds.solution[:, 0], solution)
    np.testing.assert_array_equal(ds.source, source)
    assert (ds.solution.attrs["role"], ds.source.attrs["role"]) == ("diagnostic", "static")


def test_helmholtz_samples_come_in_numerical_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "Helmholtz.h5", "w") as file:
        for i in range(12):
            group = file.create_group(f"Sample_{i}")
            group["a"], group["u"], group["bc"] = np.full((4, 6), i / 2), np.full((4, 6), 10.0 * i), 0.5 * i
    ds = PDEGym(paths=str(tmp_path / "Helmholtz.h5"), dataset="Helmholtz").open()
    np.testing.assert_array_equal(ds.solution[:, 0, 3, 2], 10.0 * np.arange(12))
    np.testing.assert_array_equal(ds.boundary_value, 0.5 * np.arange(12))
    np.testing.assert_array_equal(ds.coefficient[:, 1, 1], np.arange(12) / 2)
    assert ds.solution.dtype == np.float64


def test_helmholtz_without_samples_says_what_there_is(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", u=values(2, 4, 4))
    with pytest.raises(DataError, match=r"a\.h5: no 'Sample_0' in '/'; it holds u"):
        PDEGym(paths=str(path), dataset="Helmholtz").open()


def test_fields_and_coefficients_in_files_of_their_own_are_joined(tmp_path: Path) -> None:
    solution, speed = values(5, 3, 4, 4), values(5, 4, 4)
    store(tmp_path / "c_0.nc", c=speed)
    for i, rows in enumerate((slice(0, 2), slice(2, 5))):
        store(tmp_path / f"solution_{i}.nc", solution=solution[rows])
    ds = PDEGym(paths=str(tmp_path / "*.nc"), dataset="Wave-Layer").open()
    np.testing.assert_array_equal(ds.displacement, solution)
    np.testing.assert_array_equal(ds.wave_speed, speed)
    (tmp_path / "solution_1.nc").unlink()
    with pytest.raises(DataError, match="2 of solution, 5 of c"):
        PDEGym(paths=str(tmp_path / "*.nc"), dataset="Wave-Layer").open()


def test_ten_parts_come_in_numerical_order(tmp_path: Path) -> None:
    for i in range(11):
        store(tmp_path / f"velocity_{i}.nc", velocity=np.full((1, 2, 2, 4, 4), i, np.float32))
    ds = PDEGym(paths=str(tmp_path / "velocity_*.nc"), dataset="NS-BB").open()
    np.testing.assert_array_equal(ds.velocity_x[:, 0, 0, 0], np.arange(11))


def test_a_release_with_another_key_is_read_when_told(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", solution=values(1, 2, 2, 4, 4))
    with pytest.raises(DataError, match=r"a\.nc: no 'velocity' in '/'; it holds solution"):
        PDEGym(paths=str(path), dataset="NS-BB").open()
    assert "velocity_y" in PDEGym(paths=str(path), dataset="NS-BB", key="solution").open()


def test_a_set_that_is_not_in_the_table_is_described(tmp_path: Path) -> None:
    array, drag = values(2, 3, 2, 4, 4), values(2, 4, 4)
    path = store(tmp_path / "a.nc", state=array, d=drag)
    source = PDEGym.model_validate(
        {
            "paths": str(path),
            "dataset": "mine",
            "key": "state",
            "variables": ["activator", "inhibitor"],
            "static": {"d": "drag"},
            "dt": 0.5,
            "boundary": {"y": "wall", "x": ["open", "wall"]},
            "length": 2.0,
        }
    )
    ds = source.open()
    np.testing.assert_array_equal(ds.inhibitor, array[:, :, 1])
    np.testing.assert_array_equal(ds.drag, drag)
    np.testing.assert_array_equal(ds.time, [0, 0.5, 1])
    np.testing.assert_array_equal(ds.x, [0, 0.5, 1, 1.5])
    assert (ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == ("wall,wall", "open,wall")


def test_an_unknown_set_asks_for_what_is_missing(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", velocity=values(1, 2, 2, 4, 4))
    with pytest.raises(
        ConfigError, match=r"'NS-Sine' .*did you mean NS-Sines\?.*key, variables, boundary missing"
    ):
        PDEGym(paths=str(path), dataset="NS-Sine").open()
    described = {"key": "velocity", "variables": ("velocity_x", "velocity_y"), "boundary": "periodic"}
    with pytest.raises(ConfigError, match=r"dt: .*no times"):
        PDEGym(paths=str(path), dataset="mine", **described).open()


def test_variables_select_fields_of_a_known_set(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", velocity=values(1, 2, 3, 4, 4))
    ds = PDEGym(paths=str(path), dataset="NS-PwC", variables=("velocity_y", "tracer")).open()
    assert set(ds) == {"velocity_y", "tracer"}
    with pytest.raises(DataError, match="no pressure; it has velocity_x, velocity_y, tracer"):
        PDEGym(paths=str(path), dataset="NS-PwC", variables=("pressure",)).open()


class _WriterContract(WriterContract):
    writer = PDEGymWriter
    filename = "made.nc"

    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        made = PDEGymWriter(path.with_name("again.nc"), ds, 0)
        made.close()
        return made.source().model_copy(update={"paths": (str(path),)}).open()


class TestWriter(_WriterContract):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(
            ("velocity_x", "velocity_y", "tracer"), ("force_x",), shape=(6, 6), boundary_y=("wall", "open")
        )


class TestWriterOfWaves(_WriterContract):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(("displacement",), ("wave_speed",), shape=(6, 6))


class TestWriterOfKnownSet(_WriterContract):
    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(("velocity_x", "velocity_y"), shape=(6, 6), name="NS-SL")


def test_written_files_have_the_layout_of_the_hub(tmp_path: Path) -> None:
    ds = dataset(("velocity_x", "velocity_y"), shape=(4, 4))
    pdegym_writer.write(ds, tmp_path / "v.nc")
    pdegym_writer.write(dataset(("displacement",), ("wave_speed",), shape=(4, 4)), tmp_path / "w.nc")
    pdegym_writer.write(dataset(("activator", "inhibitor"), shape=(4, 4)), tmp_path / "g.nc")
    with h5py.File(tmp_path / "v.nc") as file:
        assert file["velocity"].shape == (3, 5, 2, 4, 4)
        assert file["velocity"].dtype == np.float32
        np.testing.assert_array_equal(file["velocity"][:, :, 1], ds.velocity_y)
    with h5py.File(tmp_path / "w.nc") as file:
        assert (file["solution"].shape, file["c"].shape) == ((3, 5, 4, 4), (3, 4, 4))
    with h5py.File(tmp_path / "g.nc") as file:
        assert file["solution"].shape == (3, 5, 2, 4, 4)
    with xr.open_dataset(tmp_path / "v.nc", engine="h5netcdf") as written:
        assert written.velocity.dims == ("sample", "time", "channel", "y", "x")


def test_the_transposed_set_is_written_as_the_hub_has_it(tmp_path: Path) -> None:
    ds = dataset(("velocity_x", "velocity_y"), shape=(4, 4), name="NS-SL")
    pdegym_writer.write(ds, tmp_path / "v.nc")
    with h5py.File(tmp_path / "v.nc") as file:
        np.testing.assert_array_equal(file["velocity"][:, :, 0], ds.velocity_x.transpose(..., "x", "y"))


def test_a_static_field_of_all_trajectories_is_repeated_for_each(tmp_path: Path) -> None:
    ds = dataset(("displacement",), ("wave_speed",), shape=(4, 4))
    pdegym_writer.write(ds.assign(wave_speed=ds.wave_speed[0]), tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        np.testing.assert_array_equal(file["c"], np.repeat(ds.wave_speed[:1], 3, axis=0))


def test_a_steady_solution_is_written_without_times(tmp_path: Path) -> None:
    ds = dataset(("solution",), ("source",), times=1, shape=(4, 4), name="Poisson-Gauss")
    ds.solution.attrs["role"] = "diagnostic"
    pdegym_writer.write(ds, tmp_path / "a.nc")
    found = PDEGym(paths=str(tmp_path / "a.nc"), dataset="Poisson-Gauss").open()
    np.testing.assert_array_equal(found.solution, ds.solution)
    with h5py.File(tmp_path / "a.nc") as file:
        assert file["solution"].shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("ds", "message"),
    [
        (dataset(("velocity_x",), shape=(4, 6)), "square, not 0.5 by 0.75"),
        (dataset(("velocity_x",), shape=(4, 4)).isel(time=[0, 1, 3]), "time, which must be evenly spaced"),
        (
            dataset(("vorticity",), shape=(4, 4), name="NS-BB"),
            "vorticity cannot be written as PDEGym's set NS-BB",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused(ds: xr.Dataset, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        pdegym_writer.write(ds, tmp_path / "a.nc")
    assert list(tmp_path.iterdir()) == []
