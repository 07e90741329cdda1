from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import spectra
from pelagos.evaluation.forecast_schema import grid_of
from pelagos.evaluation.streaming.frame_spectra import FrameSpectra

Make = Callable[..., xr.Dataset]
SIDES = ["periodic,periodic", "wall,wall"]


def transform(dataset: xr.Dataset) -> FrameSpectra:
    found = FrameSpectra.of(grid_of(dataset))
    assert found is not None
    return found


@pytest.mark.parametrize("boundary_x", SIDES)
@pytest.mark.parametrize("boundary_y", SIDES)
@pytest.mark.parametrize("shape", [(8, 12), (9, 7)])
def test_shells_are_those_of_labelled_spectra(
    make: Make, rng: np.random.Generator, shape: tuple[int, int], boundary_y: str, boundary_x: str
) -> None:
    dataset = make({"u": rng.normal(size=(2, 3, *shape))})
    dataset = dataset.assign_attrs(boundary_y=boundary_y, boundary_x=boundary_x)
    expected = spectra.spectrum(dataset)
    ours = transform(dataset)
    found = ours.energy(ours.modes(dataset["u"].values.reshape(-1, *shape)))
    np.testing.assert_allclose(found.reshape(2, 3, -1), expected.values, rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(ours.wavenumbers, expected["wavenumber"])


@pytest.mark.parametrize("columns", [12, 9])
def test_circles_of_latitude_are_averaged_as_labelled_ones(
    make: Make, rng: np.random.Generator, columns: int
) -> None:
    latitude, longitude = np.arange(-60.0, 61, 30), np.arange(columns) * 360 / columns
    dataset = make({"u": rng.normal(size=(2, 3, 5, columns))}, grid="latlon", y=latitude, x=longitude)
    ours = transform(dataset)
    found = ours.energy(ours.modes(dataset["u"].values.reshape(-1, 5, columns)))
    np.testing.assert_allclose(found.reshape(2, 3, -1), spectra.spectrum(dataset).values, rtol=1e-12)


def test_uneven_points_have_no_spectra_and_missing_values_no_energy(
    make: Make, rng: np.random.Generator
) -> None:
    values = rng.normal(size=(1, 1, 4, 5))
    assert FrameSpectra.of(grid_of(make({"u": values}, y=np.array([0.0, 1, 2, 4])))) is None
    assert FrameSpectra.of(grid_of(make({"u": values}, grid="latlon", boundary="open,open"))) is None
    values[0, 0, 0, 0] = np.nan
    ours = transform(make({"u": values}))
    assert np.isnan(ours.energy(ours.modes(values[0]))).all()
