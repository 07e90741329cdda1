from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation import spectra
from pelagos.preprocessing.errors import DataError

Make = Callable[..., xr.Dataset]


FRAME = ("trajectory", "lead_time", "y", "x")


def single_mode(make: Make, ky: int, kx: int, size: int = 32, amplitude: float = 3.0) -> xr.Dataset:
    x = np.arange(size) / size
    field = amplitude * np.cos(2 * np.pi * (ky * x[:, None] + kx * x[None, :]) + 0.7)
    return make({"u": field[None, None]})


@pytest.mark.parametrize(
    ("ky", "kx", "shell"), [(0, 3, 3), (5, 0, 5), (3, 4, 5), (-3, 4, 5), (1, 1, 1), (2, 3, 4)]
)
def test_a_single_mode_is_all_in_its_shell(make: Make, ky: int, kx: int, shell: int) -> None:
    found = spectra.spectrum(single_mode(make, ky, kx))
    expected = np.zeros(found.sizes["wavenumber"])
    expected[shell] = 0.5 * 3.0**2 / 2  # ½⟨u²⟩
    np.testing.assert_allclose(found.values[0, 0], expected, atol=1e-12)
    assert found["wavenumber"].values[shell] == pytest.approx(2 * np.pi * shell)


@pytest.mark.parametrize("boundary", ["periodic,periodic", "wall,wall", "unknown,unknown"])
@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 3, 15, 24)])
def test_parseval_holds_for_every_boundary(
    make: Make, rng: np.random.Generator, boundary: str, shape: tuple[int, ...]
) -> None:
    data = make({"u": rng.normal(2, 1, shape), "v": rng.normal(0, 3, shape)}, boundary=boundary)
    energy = 0.5 * (data["u"] ** 2 + data["v"] ** 2).mean(("y", "x"))
    found = spectra.spectrum(data, ["u", "v"])
    xr.testing.assert_allclose(found.sum("wavenumber"), energy)
    assert found.dims == ("trajectory", "lead_time", "wavenumber")


def test_parseval_holds_between_walls_on_one_axis(make: Make, rng: np.random.Generator) -> None:
    data = make({"u": rng.normal(size=(1, 1, 12, 16))})
    data.attrs["boundary_y"] = "wall,wall"
    energy = 0.5 * (data["u"] ** 2).mean(("y", "x"))
    xr.testing.assert_allclose(spectra.spectrum(data).sum("wavenumber"), energy)


def test_a_cosine_between_walls_is_one_mode_and_a_jump_is_not_smeared(make: Make) -> None:
    x = (np.arange(32) + 0.5) / 32
    field = np.broadcast_to(np.cos(3 * np.pi * x), (1, 1, 32, 32))
    found = spectra.spectrum(make({"u": field}, boundary="wall,wall")).values[0, 0]
    assert found[2] == pytest.approx(0.25)  # wavenumber 3π is 1.5 shells of 2π: half-way goes up
    np.testing.assert_allclose(np.delete(found, 2), 0, atol=1e-12)


def test_taylor_green_has_its_energy_in_one_shell(make: Make) -> None:
    x = 2 * np.pi * np.arange(24) / 24
    u = np.cos(2 * x)[None, :] * np.sin(2 * x)[:, None]
    v = -np.sin(2 * x)[None, :] * np.cos(2 * x)[:, None]
    data = make({"velocity_x": u[None, None], "velocity_y": v[None, None]}, y=x, x=x)
    found = spectra.spectrum(data).values[0, 0]
    assert found[3] == pytest.approx(0.25)  # |k| = 2√2, in units of k: round(2.83)
    assert found.sum() == pytest.approx(0.25)


def test_wavenumbers_are_physical_on_a_long_domain(make: Make) -> None:
    x, y = np.arange(64) * 0.1, np.arange(16) * 0.1
    field = np.sin(2 * np.pi * 4 * x / 6.4)[None, :] * np.ones((16, 1))
    found = spectra.spectrum(make({"u": field[None, None]}, x=x, y=y))
    peak = found.isel(trajectory=0, lead_time=0).idxmax("wavenumber")
    assert float(peak) == pytest.approx(2 * np.pi * 4 / 6.4)


def sphere(make: Make, values: NDArray[np.float64], **options: Any) -> xr.Dataset:
    rows, columns = values.shape[-2:]
    latitude = (np.arange(rows) + 0.5) * 180 / rows - 90
    return make({"t": values}, grid="latlon", y=latitude, x=np.arange(columns) * 360 / columns, **options)


@pytest.mark.parametrize("columns", [24, 25])
def test_a_zonal_spectrum_sums_to_the_mean_square_times_the_circle(
    make: Make, rng: np.random.Generator, columns: int
) -> None:
    data = sphere(make, rng.normal(size=(1, 1, 8, columns)))
    found = spectra.zonal_spectrum(data, ["t"])
    circle = 2 * np.pi * spectra.EARTH_RADIUS * np.cos(np.deg2rad(data["y"]))
    xr.testing.assert_allclose(found.sum("wavenumber"), (data["t"] ** 2).mean("x") * circle)


def test_a_zonal_wave_is_at_its_wavenumber_by_the_formula_of_weatherbench(make: Make) -> None:
    longitude = np.deg2rad(np.arange(36) * 10)
    data = sphere(make, np.broadcast_to(2 * np.cos(5 * longitude), (1, 1, 6, 36)))
    found = spectra.zonal_spectrum(data, ["t"]).isel(trajectory=0, lead_time=0)
    circle = 2 * np.pi * spectra.EARTH_RADIUS * np.cos(np.deg2rad(data["y"].values))
    np.testing.assert_allclose(found.sel(wavenumber=5), 2 * circle)  # 2 C |F|², F = 1
    assert float(spectra.spectrum(data).isel(trajectory=0, lead_time=0).idxmax("wavenumber")) == 5


def test_a_zonal_spectrum_of_part_of_a_circle_is_refused(make: Make, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="whole circles of latitude"):
        spectra.spectrum(sphere(make, rng.normal(size=(1, 1, 4, 8)), boundary="open,open"))


def test_a_frame_with_missing_values_has_no_spectrum(make: Make, rng: np.random.Generator) -> None:
    values = rng.normal(size=(2, 1, 8, 8))
    values[0, 0, 3, 3] = np.nan
    found = spectra.spectrum(make({"u": values}))
    assert found.isel(trajectory=0).isnull().all()
    assert found.isel(trajectory=1).notnull().all()


def test_twice_the_amplitude_is_ln_four_off_everywhere(make: Make, rng: np.random.Generator) -> None:
    data = make({"u": rng.normal(size=(1, 2, 16, 16))})
    found = spectra.log_ratio_error(spectra.spectrum(2 * data), spectra.spectrum(data))
    np.testing.assert_allclose(found, np.log(4))
    same = spectra.spectrum(data)
    assert spectra.log_ratio_error(same, same).max() == 0


def test_shells_without_energy_in_the_truth_do_not_count(make: Make) -> None:
    truth, both = single_mode(make, 0, 3), single_mode(make, 0, 3) + single_mode(make, 0, 7, amplitude=1e-9)
    assert spectra.log_ratio_error(spectra.spectrum(both), spectra.spectrum(truth)).item() == pytest.approx(
        0, abs=1e-6
    )
    empty = spectra.log_ratio_error(spectra.spectrum(0 * truth), spectra.spectrum(truth))
    assert np.isinf(empty).all()


def test_band_errors_add_up_to_the_mean_square_error(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = (make({"u": rng.normal(size=(2, 2, 32, 32))}) for _ in range(2))
    bands = spectra.band_rmse(forecast, truth)
    assert bands["band"].values.tolist() == ["0–3", "4–11", "12–23"]
    np.testing.assert_allclose((bands**2).sum("band"), ((forecast - truth)["u"] ** 2).mean(("y", "x")))


def test_coordinates_that_went_through_single_precision_change_nothing(
    make: Make, rng: np.random.Generator
) -> None:
    forecast, truth = (make({"u": rng.normal(size=(1, 2, 16, 16))}) for _ in range(2))
    rounded = forecast.assign_coords({axis: forecast[axis].astype(np.float32) for axis in ("x", "y")})
    xr.testing.assert_identical(spectra.band_rmse(rounded, truth), spectra.band_rmse(forecast, truth))
    found, expected = (
        spectra.log_ratio_error(spectra.spectrum(data), spectra.spectrum(truth))
        for data in (rounded, forecast)
    )
    xr.testing.assert_identical(found, expected)


def test_an_error_in_one_band_stays_there(make: Make) -> None:
    truth = single_mode(make, 0, 2)
    bands = spectra.band_rmse(truth + single_mode(make, 4, 4, amplitude=np.sqrt(2)), truth)
    np.testing.assert_allclose(bands.values[0, 0], [0, 1, 0], atol=1e-12)
    relative = spectra.band_rmse(2 * truth, truth, relative=True).values[0, 0]
    assert relative[0] == pytest.approx(1)


def test_a_small_grid_has_no_empty_band(make: Make, rng: np.random.Generator) -> None:
    data = make({"u": rng.normal(size=(1, 1, 16, 16))})
    assert spectra.band_rmse(2 * data, data)["band"].values.tolist() == ["0–3", "4–11"]


def test_spectra_refuse_uneven_points_and_say_what_helps(make: Make) -> None:
    y = 0.5 - 0.5 * np.cos(np.pi * (np.arange(16) + 0.5) / 16)
    data = make({"u": np.ones((1, 1, 16, 8))}, y=y, boundary="wall,wall")
    with pytest.raises(DataError, match=r"steps along y lie between 0\.019.*regrid: \{shape: \[16, 8\]\}"):
        spectra.spectrum(data)
