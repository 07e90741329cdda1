"""PDEBench: each layout is told by its content, its axes and times are put right, and it is written again."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml
from numpy.typing import ArrayLike

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Sides
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats import pdebench_writer
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from pelagos.preprocessing.sources.formats.pdebench_writer import DiffusionReactionWriter, FlowWriter
from tests.preprocessing.sources.contracts import SourceContract, WriterContract
from tests.preprocessing.sources.datasets import dataset

RNG = np.random.default_rng(0)
FLOW = ("density", "pressure", "velocity_x", "velocity_y")
RATES: dict[str, ArrayLike] = {
    "diffusivity_activator": [1, 2, 3],
    "diffusivity_inhibitor": 0.5,
    "reaction_rate": [4, 5, 6],
}


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def flow(path: Path, *, times: int = 5, extra: int = 1, **attrs: float) -> dict[str, np.ndarray]:
    """Compressible flow as the generator writes it, (N, t, x, y) with x longer than y."""
    fields = {key: values(2, times, 6, 4) for key in ("density", "pressure", "Vx", "Vy")}
    with h5py.File(path, "w") as file:
        file.update(fields)
        file.attrs.update(attrs)
        file["t-coordinate"] = np.arange(times + extra, dtype=np.float32) / 4
        file["x-coordinate"], file["y-coordinate"] = np.arange(6) / 8, np.arange(4) / 8
    return fields


def seeds(path: Path, shape: tuple[int, ...], axes: str, name: str = "", **sim: Any) -> np.ndarray:
    """Twelve groups, 0000 to 0011, of `shape` (t, axes, v)."""
    data = values(12, *shape)
    with h5py.File(path, "w") as file:
        for i, one in enumerate(data):
            group = file.create_group(f"{i:04d}")
            group["data"], group["grid/t"] = one, np.arange(shape[0]) / 4
            for axis, length in zip(axes, shape[1:], strict=False):
                group[f"grid/{axis}"] = np.arange(length) / 8
            if name:
                group.attrs["config"] = yaml.safe_dump({"name": name, "sim": sim | {"seed": i}})
    return data


def test_late_times_in_single_precision_are_even(tmp_path: Path) -> None:
    path = tmp_path / "2D_CFD_periodic.hdf5"
    flow(path)
    with h5py.File(path, "r+") as file:
        del file["t-coordinate"]
        file["t-coordinate"] = (1e4 + 0.01 * np.arange(6)).astype(np.float32)
    time = PDEBench(paths=str(path)).open().time
    np.testing.assert_allclose(np.diff(time), time[1] - time[0], rtol=1e-8)


class TestFlow(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("flow")
        for part in (1, 2):
            flow(folder / f"2D_CFD_Rand_periodic_{part}_Train.hdf5", M=0.1)
        return PDEBench(paths=f"{folder}/*.hdf5")


def cube(path: Path, axes: str = "xyz") -> None:
    """Compressible flow in 3-D as the generator writes it, a function of each axis: x is longest, z shortest."""
    lengths = {"x": 6, "y": 4, "z": 3}
    coordinates = np.meshgrid(*[np.arange(lengths[axis]) / 8 for axis in axes], indexing="ij")
    x, y, z = (coordinates[axes.index(axis)] for axis in "xyz")
    with h5py.File(path, "w") as file:
        for number, key in enumerate(("density", "pressure", "Vx", "Vy", "Vz")):
            n, t = np.indices((2, 5))[..., None, None, None]
            file[key] = (n + 2 * t + 10 * x + 100 * y + 1000 * z + 10000 * number).astype(np.float32)
        file["t-coordinate"] = np.arange(6, dtype=np.float32) / 4
        file.update({f"{axis}-coordinate": np.arange(length) / 8 for axis, length in lengths.items()})


class TestFlowIn3D(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("flow")
        cube(folder / "3D_CFD_Rand_M1.0_Eta1e-08_Zeta1e-08_periodic_Train.hdf5")
        return PDEBench(paths=f"{folder}/*.hdf5")


@pytest.mark.parametrize("axes", ["xyz", "zyx"])
def test_planes_along_z_are_levels_and_every_axis_keeps_its_direction(tmp_path: Path, axes: str) -> None:
    cube(tmp_path / "3D_CFD_Turb_M1.0_trans_Train.hdf5", axes)
    ds = PDEBench(paths=f"{tmp_path}/*.hdf5", axes=axes).open()
    assert list(ds) == ["density", "pressure", "velocity_x", "velocity_y", "velocity_z", "mach_number"]
    plane = ds.trajectory + 8 * ds.time + 10 * ds.x + 100 * ds.y + 1000 * ds.level
    for number, name in enumerate(list(ds)[:5]):
        assert ds[name].dims == ("trajectory", "time", "level", "y", "x")
        assert bool((ds[name] == plane + 10000 * number).all())
    assert ds.level.attrs == {"units": "1", "long_name": "coordinate along z", "boundary": "open,open"}
    assert ds.attrs["boundary_x"] == "open,open"
    told = PDEBench.model_validate(
        {
            "paths": f"{tmp_path}/*.hdf5",
            "axes": axes,
            "boundary": {"y": "wall", "x": "wall", "level": "periodic"},
        }
    )
    assert told.open().level.attrs["boundary"] == "periodic,periodic"


def test_axes_of_3d_flow_the_other_way_round_are_asked_about(tmp_path: Path) -> None:
    cube(tmp_path / "a.hdf5", "zyx")
    with pytest.raises(DataError, match=r"not \(\.\., x, y, z, \.\.\) = \(6, 4, 3\): .* set axes: zyx"):
        PDEBench(paths=str(tmp_path / "a.hdf5")).open()
    with pytest.raises(
        ConfigError, match=r"axes: .*a\.hdf5: /density of shape .* has the axes xyz or zyx, not xy"
    ):
        PDEBench(paths=str(tmp_path / "a.hdf5"), axes="xy").open()


class TestDiffusionReaction(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("seeds") / "2D_diff-react.h5"
        seeds(path, (5, 4, 6, 2), "yx", "2d_diff-react", Du=1e-3)
        return PDEBench(paths=str(path))


def test_the_real_diffusion_reaction_file_is_read_as_h5py_reads_it(shared: Path) -> None:
    path = shared / "data/pde/pdebench_2D_diff-react_48x48_T26_N12.h5"
    ds = PDEBench(paths=str(path)).open()
    with h5py.File(path) as file:
        for i in range(12):
            group = file[f"{i:04d}"]
            np.testing.assert_array_equal(ds.activator[i], group["data"][..., 0])
            np.testing.assert_array_equal(ds.inhibitor[i], group["data"][..., 1])
        np.testing.assert_array_equal(ds.time, group["grid/t"])
        np.testing.assert_array_equal(ds.x, group["grid/x"])
    assert ds.sizes == {"trajectory": 12, "time": 26, "y": 48, "x": 48}
    assert {name: set(ds[name].values) for name in ("diffusivity_activator", "reaction_rate")} == {
        "diffusivity_activator": {0.001},
        "reaction_rate": {0.005},
    }
    assert ds.attrs["boundary_y"] == ds.attrs["boundary_x"] == "wall,wall"


def test_the_real_diffusion_reaction_obeys_its_equation_with_the_parameters_read(shared: Path) -> None:
    """v_t = D_v Lap v + u - v with zero flux: the mean of v changes by the mean of u - v alone."""
    ds = PDEBench(paths=str(shared / "data/pde/pdebench_2D_diff-react_48x48_T26_N12.h5")).open().load()
    u, v = (ds[name].astype("f8").mean(("y", "x")) for name in ("activator", "inhibitor"))
    change = v.diff("time").values
    # The trapezoidal rule errs by dt^3 / 12 times a second derivative, which is of order 1 here.
    expected = 0.5 * ((u - v).values[:, 1:] + (u - v).values[:, :-1]) * np.diff(ds.time)
    np.testing.assert_allclose(change, expected, atol=0.2**3 / 12)
    assert np.abs(expected).max() > 10 * 0.2**3 / 12


def test_axes_of_each_family_come_out_as_y_and_x(tmp_path: Path) -> None:
    react = seeds(tmp_path / "a.h5", (5, 4, 6, 2), "yx", "2d_diff-react")
    water = seeds(tmp_path / "b.h5", (5, 6, 4, 1), "xy", "2d_rdb")
    gas = flow(tmp_path / "c.hdf5")
    ds = {
        key: PDEBench(paths=str(path)).open()
        for key, path in {
            "react": tmp_path / "a.h5",
            "water": tmp_path / "b.h5",
            "gas": tmp_path / "c.hdf5",
        }.items()
    }
    np.testing.assert_array_equal(ds["react"].inhibitor, react[..., 1])
    np.testing.assert_array_equal(ds["water"].water_height, water[..., 0].swapaxes(-1, -2))
    np.testing.assert_array_equal(ds["gas"].velocity_y, gas["Vy"].swapaxes(-1, -2))
    assert {(len(one.y), len(one.x)) for one in ds.values()} == {(4, 6)}


def test_axes_the_other_way_round_are_asked_for_and_accepted(tmp_path: Path) -> None:
    data = seeds(tmp_path / "a.h5", (5, 6, 4, 2), "xy", "2d_diff-react")
    with pytest.raises(DataError, match=r"not \(\.\., y, x, \.\.\) = \(4, 6\): .* set axes: xy"):
        PDEBench(paths=str(tmp_path / "a.h5")).open()
    ds = PDEBench(paths=str(tmp_path / "a.h5"), axes="xy").open()
    np.testing.assert_array_equal(ds.activator, data[..., 0].swapaxes(-1, -2))


@pytest.mark.parametrize("extra", [0, 1])
def test_one_time_too_many_is_dropped(tmp_path: Path, extra: int) -> None:
    flow(tmp_path / "a.hdf5", extra=extra)
    np.testing.assert_array_equal(PDEBench(paths=str(tmp_path / "a.hdf5")).open().time, np.arange(5) / 4)


def test_two_times_too_many_are_an_error(tmp_path: Path) -> None:
    flow(tmp_path / "a.hdf5", extra=2)
    with pytest.raises(DataError, match=r"a\.hdf5: 't-coordinate' has 7 values for 5 frames"):
        PDEBench(paths=str(tmp_path / "a.hdf5")).open()


@pytest.mark.parametrize("suffix", ["h5", "hdf5"])
def test_the_layout_is_told_by_content_not_by_extension(tmp_path: Path, suffix: str) -> None:
    seeds(tmp_path / f"a.{suffix}", (3, 4, 6, 2), "yx", "2d_diff-react")
    flow(tmp_path / f"b.{suffix}")
    assert "activator" in PDEBench(paths=str(tmp_path / f"a.{suffix}")).open()
    assert "density" in PDEBench(paths=str(tmp_path / f"b.{suffix}")).open()


def test_what_seeds_hold_is_in_the_settings_the_name_or_asked_for(tmp_path: Path) -> None:
    seeds(tmp_path / "a.h5", (3, 6, 4, 1), "xy", "2d_rdb", gravity=1.0, dam_radius="5E-1")
    seeds(tmp_path / "2D_rdb_NA_NA.h5", (3, 6, 4, 1), "xy")
    seeds(tmp_path / "b.h5", (3, 6, 4, 1), "xy")
    ds = PDEBench(paths=str(tmp_path / "a.h5")).open()
    assert set(ds.dam_radius.values) == {0.5}
    assert ds.attrs["boundary_x"] == "open,open"
    assert "water_height" in PDEBench(paths=str(tmp_path / "2D_rdb_NA_NA.h5")).open()
    with pytest.raises(
        ConfigError, match=r"b\.h5 does not say what it holds; set problem: to one of diff-react, rdb"
    ):
        PDEBench(paths=str(tmp_path / "b.h5")).open()
    assert "water_height" in PDEBench(paths=str(tmp_path / "b.h5"), problem="rdb").open()
    with pytest.raises(DataError, match=r"diff-react has \(time, y, x, activator/inhibitor\)"):
        PDEBench(paths=str(tmp_path / "b.h5"), problem="diff-react").open()


def test_seeds_on_different_grids_are_an_error(tmp_path: Path) -> None:
    seeds(tmp_path / "a.h5", (3, 4, 6, 2), "yx", "2d_diff-react")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["0007/grid/y"][2] = 7
    with pytest.raises(DataError, match=r"/0000 and .*/0007 differ in y: point 2 is 0\.25 and 7\.0"):
        PDEBench(paths=str(tmp_path / "a.h5")).open()


def test_parameters_come_from_attributes_or_the_name(tmp_path: Path) -> None:
    name = "2D_CFD_Rand_M0.1_Eta1e-08_Zeta1.e-8_periodic_512_Train.hdf5"
    flow(tmp_path / name)
    ds = PDEBench(paths=str(tmp_path / name)).open()
    found = {key: float(ds[key]) for key in ("mach_number", "shear_viscosity", "bulk_viscosity")}
    assert found == {"mach_number": 0.1, "shear_viscosity": 1e-8, "bulk_viscosity": 1e-8}
    flow(tmp_path / "plain.hdf5", M=1.0, eta=0.5)
    ds = PDEBench(paths=str(tmp_path / "plain.hdf5")).open()
    assert (float(ds.mach_number), float(ds.shear_viscosity), "bulk_viscosity" in ds) == (1.0, 0.5, False)
    flow(tmp_path / "2D_CFD_M0.1.hdf5", M=1.0)
    with pytest.raises(DataError, match=r"M is 1 in the attributes and 0\.1 in the name"):
        PDEBench(paths=str(tmp_path / "2D_CFD_M0.1.hdf5")).open()


def test_parameters_of_several_files_belong_to_their_trajectories(tmp_path: Path) -> None:
    flow(tmp_path / "a_1.hdf5", M=0.5)
    flow(tmp_path / "a_2.hdf5", M=1.5, eta=2.0)
    ds = PDEBench(paths=str(tmp_path / "a_*.hdf5"), parameters={"gamma": 1.4}).open()
    np.testing.assert_array_equal(ds.mach_number, [0.5, 0.5, 1.5, 1.5])
    np.testing.assert_array_equal(ds.shear_viscosity, [np.nan, np.nan, 2, 2])
    assert float(ds.gamma) == 1.4


@pytest.mark.parametrize(
    ("name", "kind"), [("periodic", "periodic"), ("trans", "open"), ("transport", "unknown")]
)
def test_boundary_kinds_come_from_the_name_unless_given(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"2D_CFD_{name}_128.hdf5"
    flow(path)
    assert PDEBench(paths=str(path)).open().attrs["boundary_y"] == f"{kind},{kind}"
    given = PDEBench.model_validate({"paths": str(path), "boundary": {"y": "wall", "x": "periodic"}}).open()
    assert (given.attrs["boundary_y"], given.attrs["boundary_x"]) == ("wall,wall", "periodic,periodic")


def test_darcy_flow_has_a_static_coefficient_and_no_times(tmp_path: Path) -> None:
    solution, coefficient = values(3, 1, 6, 4), values(3, 6, 4)
    with h5py.File(tmp_path / "2D_DarcyFlow_beta0.1_Train.hdf5", "w") as file:
        file["tensor"], file["nu"], file.attrs["beta"] = solution, coefficient, 0.1
        file["x-coordinate"], file["y-coordinate"] = np.arange(6) / 8, np.arange(4) / 8
    ds = PDEBench(paths=str(tmp_path / "2D_DarcyFlow_beta0.1_Train.hdf5")).open()
    np.testing.assert_array_equal(ds.solution, solution.swapaxes(-1, -2))
    np.testing.assert_array_equal(ds.permeability, coefficient.swapaxes(-1, -2))
    assert (ds.solution.attrs["role"], ds.permeability.attrs["role"]) == ("diagnostic", "static")
    assert (len(ds.time), float(ds.source_strength)) == (1, 0.1)


def test_one_dimensional_fields_have_one_row(tmp_path: Path) -> None:
    tensor = values(3, 5, 8)
    with h5py.File(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5", "w") as file:
        file["tensor"], file["x-coordinate"], file["t-coordinate"] = (
            tensor,
            np.arange(8) / 8,
            np.arange(6) / 4,
        )
    ds = PDEBench(paths=str(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5")).open()
    np.testing.assert_array_equal(ds.u[:, :, 0], tensor)
    assert (float(ds.viscosity), ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == (
        0.01,
        "periodic,periodic",
        "unknown,unknown",
    )
    data = seeds(tmp_path / "1D_diff-sorp_NA_NA.h5", (5, 8, 1), "x", "1d_diff-sorp", D=5e-4)
    ds = PDEBench(paths=str(tmp_path / "1D_diff-sorp_NA_NA.h5")).open()
    np.testing.assert_array_equal(ds.concentration[:, :, 0], data[..., 0])
    assert float(ds.diffusivity[0]) == 5e-4


def test_layouts_that_are_not_read_are_refused_with_the_reason(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "4d.hdf5", "w") as file:
        file.update({key: values(1, 2, 3, 3, 3, 3) for key in ("density", "pressure", "Vx", "Vy", "Vz")})
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["flux"] = 1
    for name, message in (
        ("4d.hdf5", r"4d\.hdf5: /density has shape \(1, 2, 3, 3, 3, 3\); \(sample, time, x, y, z\) would be"),
        ("other.h5", r"other\.h5 holds flux; PDEBench's files hold groups 0000"),
    ):
        with pytest.raises(DataError, match=message):
            PDEBench(paths=str(tmp_path / name)).open()


def test_files_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    flow(tmp_path / "a.hdf5")
    flow(tmp_path / "b.hdf5", times=7)
    flow(tmp_path / "c_periodic.hdf5")
    seeds(tmp_path / "d.h5", (5, 4, 6, 2), "yx", "2d_diff-react")
    for other, message in (
        ("b.hdf5", r"a\.hdf5 and .*b\.hdf5 differ in time: 5 and 7 points"),
        ("c_periodic.hdf5", r"a\.hdf5 and .*c_periodic\.hdf5 have different boundary kinds"),
        ("d.h5", r"a\.hdf5 holds density, .* but .*d\.h5/0000 activator, inhibitor"),
    ):
        with pytest.raises(DataError, match=message):
            PDEBench(paths=[str(tmp_path / "a.hdf5"), str(tmp_path / other)]).open()


class _WriterContract(WriterContract):
    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        return PDEBench(paths=str(path)).open()


class TestFlowWriter(_WriterContract):
    writer = FlowWriter
    filename = "2D_CFD_made_M0.5_periodic_Train.hdf5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(FLOW, scalars={"mach_number": 0.5, "shear_viscosity": 0.0})


class TestFlowWriterWithOpenSides(TestFlowWriter):
    filename = "2D_CFD_made_trans_Train.hdf5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        return dataset(FLOW, boundary_y=("open", "open"), boundary_x=("open", "open"))


class TestDiffusionReactionWriter(_WriterContract):
    writer = DiffusionReactionWriter
    filename = "made.h5"

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        rates = {name: np.broadcast_to(value, 3) for name, value in RATES.items()}
        walls: Sides = ("wall", "wall")
        return dataset(("activator", "inhibitor"), scalars=rates, boundary_y=walls, boundary_x=walls)


def test_written_flow_has_the_layout_of_the_archive(tmp_path: Path) -> None:
    ds = dataset(FLOW, scalars={"mach_number": [0.5] * 3, "gamma": 1.4})
    pdebench_writer.write(ds, tmp_path / "made_periodic_.hdf5")
    with h5py.File(tmp_path / "made_periodic_.hdf5") as file:
        assert set(file) == {
            "density",
            "pressure",
            "Vx",
            "Vy",
            "t-coordinate",
            "x-coordinate",
            "y-coordinate",
        }
        assert file["Vx"].shape == (3, 5, 4, 6)
        assert file["Vx"].dtype == np.float32
        np.testing.assert_array_equal(file["Vx"], ds.velocity_x.transpose(..., "x", "y"))
        np.testing.assert_array_equal(file["t-coordinate"], np.arange(6) / 4)
        assert dict(file.attrs) == {"M": 0.5}


def test_the_real_file_is_written_as_it_was(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/pde/pdebench_2D_diff-react_48x48_T26_N12.h5"
    pdebench_writer.write(PDEBench(paths=str(path)).open().isel(trajectory=slice(0, 2)), tmp_path / "a.h5")
    with h5py.File(path) as original, h5py.File(tmp_path / "a.h5") as written:
        assert list(written) == ["0000", "0001"]
        for key in ("data", "grid/t", "grid/x", "grid/y"):
            one, two = original[f"0001/{key}"], written[f"0001/{key}"]
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
        settings = [yaml.safe_load(file["0001"].attrs["config"]) for file in (original, written)]
        assert settings[0] == settings[1]


@pytest.mark.parametrize(
    ("ds", "name", "message"),
    [
        (
            dataset(FLOW),
            "a.hdf5",
            "this one says unknown on all sides, the data are periodic,periodic along y",
        ),
        (dataset(FLOW[:3]), "a_periodic.hdf5", "holds density, pressure, velocity_x, velocity_y"),
        (dataset(FLOW, ("force_x",)), "a_periodic.hdf5", "the data have density, pressure"),
        (
            dataset(FLOW, scalars={"mach_number": [1, 2, 3]}),
            "a_periodic.hdf5",
            "mach_number must be the same throughout a file",
        ),
        (dataset(("activator", "inhibitor"), scalars=RATES), "a.h5", "walls on all sides"),
        (dataset(("activator", "inhibitor")), "a.h5", "holds activator, diffusivity_activator"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    ds: xr.Dataset, name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        pdebench_writer.write(ds, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def incompressible(path: Path, latest: int = 4) -> dict[str, np.ndarray]:
    """As PDEBench's data_io.py lays it out; `t` and settings included."""
    shapes = {"velocity": (2, 5, 8, 6, 2), "particles": (2, 5, 8, 6, 1), "force": (2, 8, 6, 2)}
    fields = {key: values(*shape) for key, shape in shapes.items()}
    with h5py.File(path, "w") as file:
        for key, value in fields.items():
            file.create_dataset(key, data=value, compression="lzf", shuffle=True)
        file["t"] = np.tile(np.arange(5, dtype="f4") / 4, (2, 1))
        file.attrs["config"] = "sim_name: ns_incom_inhom_2d_8\nNU: 0.01\nvelocity_extrapolation: ZERO\n"
        file.attrs["latestIndex"] = latest
    return fields


class TestIncompressible(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("ns")
        for seed in range(2):
            incompressible(folder / f"ns_incom_inhom_2d_8-{seed}.h5")
        return PDEBench(paths=f"{folder}/*.h5")


def test_incompressible_flow_is_split_into_components_with_a_steady_force(tmp_path: Path) -> None:
    fields = incompressible(tmp_path / "ns.h5")
    ds = PDEBench(paths=str(tmp_path / "ns.h5")).open()
    np.testing.assert_array_equal(ds.velocity_y, fields["velocity"][..., 1].swapaxes(-1, -2))
    np.testing.assert_array_equal(ds.tracer, fields["particles"][..., 0].swapaxes(-1, -2))
    np.testing.assert_array_equal(ds.force_x, fields["force"][..., 0].swapaxes(-1, -2))
    np.testing.assert_array_equal(ds.time, [0, 0.25, 0.5, 0.75, 1])
    assert (float(ds.x[-1]), float(ds.viscosity), ds.attrs["boundary_x"]) == (7.5, 0.01, "wall,wall")


def test_incompressible_flow_that_was_not_completed_is_refused(tmp_path: Path) -> None:
    incompressible(tmp_path / "ns.h5", latest=2)
    with pytest.raises(DataError, match=r"ns\.h5: its generator stopped after frame 2 of 5"):
        PDEBench(paths=str(tmp_path / "ns.h5")).open()
