"""Files of PDEGym: channels, samples and coefficients come out in order, and what does not fit is named."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from tests.preprocessing.sources.formats.pdegym_archive import RNG, store, values


def test_a_number_of_channels_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", data=values(2, 3, 6, 4, 4))
    with pytest.raises(
        DataError, match=r"a\.nc: /data of shape .* has 6 channels; density, .*energy were exp"
    ):
        PDEGym(paths=str(path), dataset="CE-RP").open()


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
