"""Energy spectra of fields and the errors read off them.

Arrays end in (y, x). E(k) is the sum over a shell of wave vectors of ½ Σ_components |û|², so that
Σ_k E(k) = ½ ⟨|u|²⟩ (Parseval), corners of the spectral square included.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft

from pelagos.evaluation.forecast_schema import check_pair, grid_of, ordered_fields, variable_names
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid

Array = NDArray[np.float64]
EARTH_RADIUS = 6.371e6
"""Metres."""


def spectrum(dataset: xr.Dataset, variables: Sequence[str] | None = None) -> xr.DataArray:
    """(*samples, [lead_time,] wavenumber) energy spectrum of a scalar or of a vector's components.

    Over shells of wave vectors on Cartesian grids, over zonal wavenumbers, averaged over the latitudes
    by area, on latitude-longitude grids. All NaN for a frame with missing values.
    """
    variables = variable_names(dataset) if variables is None else tuple(variables)
    if grid_of(dataset).kind == "cartesian":
        return shell_spectrum(dataset, variables)
    rows = xr.DataArray(grid_of(dataset).area_weights()[:, 0], dims="y")
    zonal: xr.DataArray = zonal_spectrum(dataset, variables).weighted(rows).mean("y", skipna=False)
    return zonal


def shell_spectrum(dataset: xr.Dataset, variables: Sequence[str]) -> xr.DataArray:
    """Energy in shells of width Δk = 2π / longest side, at wavenumbers 0, Δk, 2Δk, ... [rad / unit of x].

    Periodic axes are expanded in Fourier modes, others in cosines (DCT-II: an even continuation without
    a jump at the edges; centres half a cell from the wall). Raises DataError unless points are evenly spaced.
    """
    grid, data = grid_of(dataset), ordered_fields(dataset)
    _require_even(grid)
    power = sum(_power(data[name].values.astype(np.float64), grid) for name in variables)
    shells, width = shell_numbers(grid)
    energy = 0.5 * _shell_sums(np.asarray(power), shells)
    return _labelled(data[variables[0]].isel(y=0, x=0, drop=True), energy, width)


def _require_even(grid: Grid) -> None:
    """Raise DataError unless rows and columns are evenly spaced, as the points of a discrete transform are."""
    for axis, even, values in zip("yx", grid.even, (grid.y, grid.x), strict=True):
        if not even:
            steps = np.abs(np.diff(values))
            raise DataError(
                f"a spectrum needs evenly spaced points, but the steps along {axis} lie between {steps.min():g}"
                f" and {steps.max():g}; a store built with"
                f" regrid: {{shape: [{len(grid.y)}, {len(grid.x)}]}} has such points"
            )


def zonal_spectrum(dataset: xr.Dataset, variables: Sequence[str]) -> xr.DataArray:
    """(..., y, wavenumber): S_0 = C |F_0|², S_k = 2 C |F_k|², C the circle of latitude [m] (WeatherBench 2).

    WeatherBench 2 also doubles the Nyquist mode of an even number of columns; here it counts once, so
    that Σ_k S_k = C ⟨f²⟩. The wavenumber is that around the circle, a whole number. Raises DataError
    unless the columns go all the way round.
    """
    grid, data = grid_of(dataset), ordered_fields(dataset)
    if grid.kind != "latlon" or not grid.periodic[1]:
        raise DataError(f"a zonal spectrum needs whole circles of latitude; boundary_x is {grid.boundary_x}")
    circle = 2 * np.pi * EARTH_RADIUS * np.cos(np.deg2rad(grid.y))
    power = sum(_fourier_power(data[name].values.astype(np.float64), axis=-1) for name in variables)
    return _labelled(data[variables[0]].isel(x=0, drop=True), circle[:, None] * np.asarray(power), 1.0)


def error_spectrum(
    forecast: xr.Dataset, truth: xr.Dataset, variables: Sequence[str] | None = None
) -> xr.DataArray:
    """The spectrum of forecast − truth."""
    check_pair(forecast, truth)
    # xarray aligns coordinates by exact equality, and these may differ by rounding.
    forecast = forecast.assign_coords({dim: truth[dim] for dim in truth.dims})
    return spectrum((forecast - truth).assign_attrs(truth.attrs), variables)


def log_ratio_error(forecast: xr.DataArray, truth: xr.DataArray, floor: float = 1e-8) -> xr.DataArray:
    """Mean over wavenumbers of |ln E_forecast − ln E_truth|, of two spectra.

    Counted are wavenumbers k > 0 at which the truth has more than `floor` of its energy in k > 0:
    below lies rounding. (jax-cfd sums instead of averaging, with an absolute floor of 0.01.)
    """
    forecast, truth = forecast.isel(wavenumber=slice(1, None)), truth.isel(wavenumber=slice(1, None))
    forecast = forecast.assign_coords({dim: truth[dim] for dim in truth.dims})
    resolved = truth > floor * truth.sum("wavenumber", skipna=False)
    ratio = (forecast / truth.where(resolved)).transpose(..., "wavenumber")
    with np.errstate(divide="ignore"):  # a forecast without energy in a shell is infinitely wrong there
        return abs(ratio.copy(data=np.log(ratio.values))).mean("wavenumber")


def band_rmse(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    variables: Sequence[str] | None = None,
    edges: Sequence[int] = (4, 12),
    *,
    relative: bool = False,
) -> xr.DataArray:
    """(..., band) root mean square error that the wavenumbers of each band carry.

    PDEBench's fRMSE with its bands of shells [0, 4), [4, 12), [12, ∞), over the whole spectral plane and
    in the field's units: the bands' squares add up to the mean square error. A band beyond the grid's
    last shell is left out. With relative=True, divided by the truth's root mean square in the band.

    Only on Cartesian grids, where spectra obey Parseval's identity.
    """
    if grid_of(truth).kind != "cartesian":
        raise DataError("band errors are defined on Cartesian grids; use zonal_spectrum on latitudes")
    error = _bands(error_spectrum(forecast, truth, variables), edges)
    if not relative:
        return (2 * error) ** 0.5
    reference = _bands(spectrum(truth, variables), edges)
    return (error / reference.where(reference > 0)) ** 0.5


def _bands(energy: xr.DataArray, edges: Sequence[int]) -> xr.DataArray:
    shells = energy.sizes["wavenumber"]
    bounds = [0, *(edge for edge in edges if edge < shells), shells]
    parts = [energy.isel(wavenumber=slice(a, b)).sum("wavenumber", skipna=False) for a, b in pairwise(bounds)]
    labels = [f"{a}–{b - 1}" for a, b in pairwise(bounds)]
    return xr.concat(parts, dim=xr.Variable("band", labels)).transpose(..., "band")


def _power(field: Array, grid: Grid) -> Array:
    """|û|² over (y, x) modes, the sum of which is ⟨u²⟩."""
    cosine = [axis for axis in (-2, -1) if not grid.periodic[axis]]
    fourier = [axis for axis in (-2, -1) if grid.periodic[axis]]
    for axis in cosine:
        field = fft.dct(field, type=2, norm="ortho", axis=axis) / np.sqrt(field.shape[axis])
    return np.asarray(np.abs(fft.fftn(field, axes=fourier, norm="forward")) ** 2, dtype=np.float64)


def _fourier_power(field: Array, axis: int) -> Array:
    """|F_k|² for k >= 0, with the power of −k added."""
    size = field.shape[axis]
    twins = np.full(size // 2 + 1, 2.0)
    twins[0] = 1.0
    if size % 2 == 0:
        twins[-1] = 1.0
    return np.asarray(np.abs(fft.rfft(field, norm="forward", axis=axis)) ** 2 * twins, dtype=np.float64)


def shell_numbers(grid: Grid) -> tuple[NDArray[np.intp], float]:
    """(H, W) the shell of each mode, and the shells' width."""
    sides = [size * step for size, step in zip(grid.shape, grid.spacing, strict=True)]
    width = 2 * np.pi / max(sides)
    ky, kx = (
        2 * np.pi * fft.fftfreq(size, side / size) if periodic else np.pi * np.arange(size) / side
        for size, side, periodic in zip(grid.shape, sides, grid.periodic, strict=True)
    )
    radius = np.hypot(ky[:, None], kx[None, :])
    # Cosines have modes half-way between shells; the small number sends all of them up, whatever their rounding.
    return np.floor(radius / width + 0.5 + 1e-9).astype(np.intp), width


def _shell_sums(power: Array, shells: NDArray[np.intp]) -> Array:
    frames = power.reshape(-1, shells.size)
    count = int(shells.max()) + 1
    sums = [np.bincount(shells.ravel(), weights=frame, minlength=count) for frame in frames]
    return np.array(sums, dtype=np.float64).reshape(*power.shape[:-2], count)


def _labelled(like: xr.DataArray, energy: Array, width: float) -> xr.DataArray:
    """The spectrum with the coordinates of the field it was made of."""
    coords = {name: value for name, value in like.coords.items() if name in like.dims}
    wavenumber = width * np.arange(energy.shape[-1])
    return xr.DataArray(energy, {**coords, "wavenumber": wavenumber}, (*like.dims, "wavenumber"))
