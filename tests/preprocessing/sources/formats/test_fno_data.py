"""FNO's files: both versions of MATLAB and torch give the same fields, with time last and x before y."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.fno_data import FNOData
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
A, U = RNG.normal(size=(3, 8, 6)).astype("f4"), RNG.normal(size=(3, 8, 6, 4)).astype("f4")
FLOW = {"a": A, "u": U, "t": np.arange(1.0, 5.0)}


def save(path: Path, version: str, **arrays: Any) -> str:
    if version == "5":
        scipy.io.savemat(path, arrays)
    elif version == "pt":
        path = path.with_suffix(".pt")
        torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, path)
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            for key, value in arrays.items():
                file[key] = np.atleast_2d(value).T
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    return str(path)


class _Contract(SourceContract):
    version: str

    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("fno") / "ns_V1e-3_N3_T4.mat"
        return FNOData(paths=save(path, self.version, **FLOW))


class TestMatlab5(_Contract):
    version = "5"


class TestMatlab73(_Contract):
    version = "7.3"


class TestTorch(_Contract):
    version = "pt"


class TestDarcy(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("fno") / "piececonst_r8.mat"
        return FNOData(paths=save(path, "5", coeff=A, sol=A + 1))


class TestBurgers(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("fno") / "burgers_data_R10.mat"
        return FNOData(paths=save(path, "7.3", a=A[:, :, 0], u=A[:, :, 1]))


@pytest.mark.parametrize("version", ["5", "7.3", "pt"])
def test_time_is_last_and_x_before_y_in_every_version(tmp_path: Path, version: str) -> None:
    ds = FNOData(paths=save(tmp_path / "ns_V1e-5_N3_T4.mat", version, **FLOW)).open()
    np.testing.assert_array_equal(ds.vorticity[:, 1:], U.transpose(0, 3, 2, 1))
    np.testing.assert_array_equal(ds.vorticity[:, 0], A.transpose(0, 2, 1))
    np.testing.assert_array_equal(ds.time, [0, 1, 2, 3, 4])
    assert (ds.sizes["x"], ds.sizes["y"], float(ds.viscosity)) == (8, 6, 1e-5)


def test_initial_values_that_are_no_step_before_the_frames_are_left_out(tmp_path: Path) -> None:
    ds = FNOData(paths=save(tmp_path / "a.mat", "5", **FLOW | {"t": np.arange(11.0, 15.0)})).open()
    np.testing.assert_array_equal(ds.time, [11, 12, 13, 14])


def test_times_are_asked_for_where_there_are_none(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mat", "5", u=U)
    with pytest.raises(ConfigError, match=r"dt: .*a\.mat holds no times; give the time between its 4 frames"):
        FNOData(paths=path).open()
    np.testing.assert_array_equal(FNOData(paths=path, dt=0.5).open().time, [0.5, 1, 1.5, 2])
    wrong = save(tmp_path / "b.mat", "5", u=U, t=np.arange(3.0))
    with pytest.raises(DataError, match=r"b\.mat: t has 3 values for 4 frames"):
        FNOData(paths=wrong).open()


def test_initial_and_final_values_of_burgers_are_two_frames(tmp_path: Path) -> None:
    ds = FNOData(paths=save(tmp_path / "a.mat", "5", a=A[:, :, 0], u=A[:, :, 1])).open()
    np.testing.assert_array_equal(ds.u[:, 0, 0], A[:, :, 0])
    np.testing.assert_array_equal(ds.u[:, 1, 0], A[:, :, 1])


@pytest.mark.parametrize(("name", "key", "time"), [("burgers_shock", "usol", "t"), ("pinns_KdV", "uu", "tt")])
def test_the_real_reference_solutions_are_read_as_scipy_reads_them(
    shared: Path, name: str, key: str, time: str
) -> None:
    path = str(shared / f"data/pde/mat/{name}.mat")
    with pytest.raises(ConfigError, match=rf"boundary: .*{name}\.mat does not say"):
        FNOData(paths=path).open()
    ds = FNOData.model_validate({"paths": path, "boundary": "wall"}).open()
    expected = scipy.io.loadmat(path)
    np.testing.assert_array_equal(ds.u[0, :, 0], expected[key].T)
    np.testing.assert_array_equal(ds.time, expected[time].ravel())
    np.testing.assert_array_equal(ds.x, expected["x"].ravel())


def test_other_arrays_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mat", "5", w=U)
    with pytest.raises(DataError, match=r"a\.mat holds w \(3, 8, 6, 4\); u \(sample, x, y, time\)"):
        FNOData(paths=path).open()


def save_of_python(path: Path, **arrays: Any) -> str:
    """HDF5 that is called .mat, as h5py writes it: no header of MATLAB, axes as they are."""
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return str(path)


def test_files_of_python_are_read_in_the_order_that_their_shapes_prove(tmp_path: Path) -> None:
    for name, arrays in (("both", FLOW), ("initial", {"a": A, "u": U}), ("times", {"u": U, "t": FLOW["t"]})):
        path = save_of_python(tmp_path / f"{name}.mat", **arrays)
        with collect() as found:
            ds = FNOData(paths=path, dt=None if "t" in arrays else 1.0).open()
        np.testing.assert_array_equal(ds.vorticity.isel(time=slice(-4, None)), U.transpose(0, 3, 2, 1))
        assert [one.code for one in found.all] == ["axis_order"]


def test_reversed_files_without_a_header_are_told_by_their_shapes_too(tmp_path: Path) -> None:
    path = save_of_python(tmp_path / "a.mat", **{key: np.atleast_2d(one).T for key, one in FLOW.items()})
    np.testing.assert_array_equal(FNOData(paths=path).open().vorticity[:, 1:], U.transpose(0, 3, 2, 1))


def test_an_order_that_shapes_do_not_prove_is_asked_for(tmp_path: Path) -> None:
    path = save_of_python(tmp_path / "a.mat", u=U)
    with pytest.raises(
        ConfigError,
        match=r"axes: .*a\.mat was not written by MATLAB; say python if u \(3, 8, 6, 4\) is \(sample",
    ):
        FNOData(paths=path, dt=1).open()
    asked = propose(path)
    assert "likely fno" in asked
    assert "source.axes: python if u (3, 8, 6, 4) is (sample, x, y, time), matlab if it is" in asked
    for axes, expected in (("python", U.transpose(0, 3, 2, 1)), ("matlab", U.transpose(3, 0, 1, 2))):
        source = FNOData.model_validate({"paths": path, "dt": 1, "axes": axes})
        np.testing.assert_array_equal(source.open().vorticity, expected)


def test_square_fields_of_python_are_asked_about(tmp_path: Path) -> None:
    for name, arrays in (
        ("darcy", {"coeff": A, "sol": A}),
        ("burgers", {"a": A[:, :, 0], "u": A[:, :, 1]}),
        ("cube", {"a": np.zeros((4, 4, 4)), "u": np.zeros((4, 4, 4, 4)), "t": np.arange(4.0)}),
    ):
        path = save_of_python(tmp_path / f"{name}.mat", **arrays)
        with pytest.raises(ConfigError, match=f"axes: .*{name}.mat was not written by MATLAB"):
            FNOData(paths=path).open()


def test_classes_of_matlab_show_that_it_wrote_a_file(tmp_path: Path) -> None:
    path = save_of_python(tmp_path / "a.mat", u=U.T)
    with h5py.File(path, "r+") as file:
        file["u"].attrs["MATLAB_class"] = np.bytes_("double")
    assert FNOData(paths=path, dt=1).open().sizes["trajectory"] == 3


def test_a_reference_solution_of_numpy_is_read(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "Burgers.npz", x=np.arange(6.0)[:, None], t=np.arange(4.0)[:, None], usol=U[0, :6, :, 0]
    )
    path = str(tmp_path / "Burgers.npz")
    assert "certain fno" in propose(path)
    with pytest.raises(DataError, match=r"usol has shape \(6, 6\); \(x, time\) of \(6, 4\)"):
        FNOData.model_validate({"paths": path, "boundary": "wall"}).open()
    np.savez(path, x=np.arange(8.0), t=np.arange(6.0), usol=U[0, :, :, 0])
    ds = FNOData.model_validate({"paths": path, "boundary": "wall"}).open()
    np.testing.assert_array_equal(ds.u[0, :, 0], U[0, :, :, 0].T)


@pytest.mark.parametrize("version", ["5", "7.3", "pt"])
def test_axes_that_fit_only_in_reverse_are_refused(tmp_path: Path, version: str) -> None:
    turned = {key: np.ascontiguousarray(value.T) for key, value in FLOW.items()}
    with pytest.raises(DataError, match=r"u \(4, 6, 8, 3\).*: these fit with all axes reversed only"):
        FNOData(paths=save(tmp_path / "a.mat", version, **turned)).open()


def test_the_order_of_what_scipy_wrote_is_checked_or_said(tmp_path: Path) -> None:
    for number, (arrays, codes) in enumerate(
        [
            (FLOW, []),
            ({"a": A[:, :, 0], "u": A[:, :, 0]}, ["axis_order"]),
            ({"coeff": A, "sol": A}, ["axis_order"]),
        ]
    ):
        with collect() as found:
            FNOData(paths=save(tmp_path / f"{number}.mat", "5", **arrays)).open()
        assert [one.code for one in found.all] == codes
