"""PDEBench: each layout is told by its content, its axes and times are put right, and it is written again."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from tests.preprocessing.sources.contracts import SourceContract
from tests.preprocessing.sources.formats.pdebench_archive import (
    cube,
    flow,
    incompressible,
    seeds,
)


class TestFlow(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("flow")
        for part in (1, 2):
            flow(folder / f"2D_CFD_Rand_periodic_{part}_Train.hdf5", M=0.1)
        return PDEBench(paths=f"{folder}/*.hdf5")


class TestFlowIn3D(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("flow")
        cube(folder / "3D_CFD_Rand_M1.0_Eta1e-08_Zeta1e-08_periodic_Train.hdf5")
        return PDEBench(paths=f"{folder}/*.hdf5")


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


def test_seeds_on_different_grids_are_an_error(tmp_path: Path) -> None:
    seeds(tmp_path / "a.h5", (3, 4, 6, 2), "yx", "2d_diff-react")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["0007/grid/y"][2] = 7
    with pytest.raises(DataError, match=r"/0000 and .*/0007 differ in y: point 2 is 0\.25 and 7\.0"):
        PDEBench(paths=str(tmp_path / "a.h5")).open()


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


class TestIncompressible(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("ns")
        for seed in range(2):
            incompressible(folder / f"ns_incom_inhom_2d_8-{seed}.h5")
        return PDEBench(paths=f"{folder}/*.h5")
