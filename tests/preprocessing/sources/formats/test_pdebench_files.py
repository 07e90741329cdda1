"""Layouts of PDEBench: axes, times, parameters and boundaries are found wherever each layout keeps them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from tests.preprocessing.sources.formats.pdebench_archive import (
    cube,
    flow,
    incompressible,
    seeds,
    values,
)


def test_late_times_in_single_precision_are_even(tmp_path: Path) -> None:
    path = tmp_path / "2D_CFD_periodic.hdf5"
    flow(path)
    with h5py.File(path, "r+") as file:
        del file["t-coordinate"]
        file["t-coordinate"] = (1e4 + 0.01 * np.arange(6)).astype(np.float32)
    time = PDEBench(paths=str(path)).open().time
    np.testing.assert_allclose(np.diff(time), time[1] - time[0], rtol=1e-8)


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
