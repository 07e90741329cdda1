"""Spherical spectra of fields whose degrees are known, on every kind of latitudes that has a quadrature."""

import importlib.util

import numpy as np
import pytest

from pelagos.evaluation.streaming.sphere_spectra import SphereSpectra
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Grid

INSTALLED = importlib.util.find_spec("torch_harmonics") is not None
needs_harmonics = pytest.mark.skipif(
    not INSTALLED, reason="torch-harmonics, the extra sphere, is not installed"
)
LATITUDES: dict[str, Floats] = {
    "Gaussian": np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(12)[0])),
    "poles": np.linspace(-90.0, 90.0, 17),
    "centres, from the north": np.linspace(84.375, -84.375, 16),
}


def sphere(latitudes: Floats, columns: int = 24) -> Grid:
    longitudes = np.arange(columns) * 360.0 / columns
    return Grid("latlon", latitudes, longitudes, boundary_x=("periodic", "periodic"))


@needs_harmonics
@pytest.mark.parametrize("latitudes", LATITUDES.values(), ids=LATITUDES)
def test_each_harmonic_is_energy_of_its_degree(latitudes: Floats) -> None:
    grid = sphere(latitudes)
    sine, longitude = np.sin(np.deg2rad(grid.y))[:, None], np.deg2rad(grid.x)[None]
    cosine = np.sqrt(1 - sine**2)
    # Degree and mean square over the sphere of each.
    known = [
        (0 * longitude + 0 * sine + 3.0, 0, 9.0),
        (sine + 0 * longitude, 1, 1 / 3),
        (3 * sine**2 - 1 + 0 * longitude, 2, 4 / 5),
        (cosine**2 * sine * np.cos(2 * longitude + 0.3), 3, 4 / 105),
        (cosine**4 * np.sin(4 * longitude), 4, 64 / 315),
    ]
    spectra = SphereSpectra.on(grid)
    fields = np.stack([field for field, _, _ in known])
    energy = spectra.energy(spectra.modes(fields))
    for row, (_, degree, square) in zip(energy, known, strict=True):
        expected = np.zeros(len(spectra.wavenumbers))
        expected[degree] = square / 2
        np.testing.assert_allclose(row, expected, atol=1e-13)
    # Degrees of a sum add up, and those of a difference are of the difference.
    both = spectra.energy(spectra.modes(fields[1:2] - fields[4:5]))
    np.testing.assert_allclose(both, energy[1:2] + energy[4:5], atol=1e-13)
    apart = spectra.energy(spectra.modes(fields[1:2]), spectra.modes(fields[4:5]))
    np.testing.assert_allclose(apart, both, atol=1e-13)


@needs_harmonics
def test_a_missing_value_leaves_no_spectrum() -> None:
    grid = sphere(LATITUDES["Gaussian"])
    field = np.ones((1, *grid.shape))
    field[0, 3, 4] = np.nan
    spectra = SphereSpectra.on(grid)
    assert np.isnan(spectra.energy(spectra.modes(field))).all()


@needs_harmonics
@pytest.mark.parametrize("latitudes", [np.linspace(-90.0, 80.0, 18), np.linspace(20.0, 60.0, 9)])
def test_latitudes_without_a_quadrature_are_refused(latitudes: Floats) -> None:
    with pytest.raises(DataError, match="Gaussian, or evenly spaced with both poles"):
        SphereSpectra.on(sphere(latitudes))


@pytest.mark.skipif(INSTALLED, reason="torch-harmonics is installed")
def test_without_the_package_its_extra_is_named() -> None:
    with pytest.raises(ConfigError, match=r"pelagos\[sphere\]"):
        SphereSpectra.on(sphere(LATITUDES["Gaussian"]))
