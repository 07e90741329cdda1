"""How far a forecast drifts in what the equations conserve: mass, momentum, energy, enstrophy.

A quantity is the mean over the domain of a density made of the fields that are there, by the names of
preprocessing.variables. Forced or dissipative systems change it by rights: judge a forecast beside
the truth, not beside zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft

from pelagos.evaluation.forecast_schema import SPACE, grid_of, ordered_fields, variable_names
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.samples.kernel_cache import compiled

Array = NDArray[np.float64]
Values = NDArray[Any]

CONSERVED = {"density": "mass", "water_height": "mass", "energy": "total energy", "tracer": "tracer mass"}
"""Fields that are themselves densities of a conserved quantity -> its name."""


def densities(dataset: xr.Dataset) -> xr.Dataset:
    """The density, (*samples, [lead_time,] y, x), of every quantity that the dataset's variables determine.

    Mass, total energy and tracer mass are fields themselves. Velocity gives momentum and kinetic energy
    (per unit mass where there is no density), and on Cartesian grids enstrophy ½ω². Vorticity without
    velocity gives circulation and enstrophy.
    """
    data = ordered_fields(xr.broadcast(dataset)[0])
    arrays = {name: data[name].values.astype(np.float64) for name in variable_names(data)}
    found = density_arrays(arrays, grid_of(dataset))
    dims = data[variable_names(data)[0]].dims
    return xr.Dataset({name: (dims, values) for name, values in found.items()}, dataset.coords, dataset.attrs)


def density_arrays(fields: Mapping[str, Values], grid: Grid) -> dict[str, Values]:
    """The densities of (..., H, W) fields by name; in double precision unless they are fields themselves."""
    found = {quantity: fields[name] for name, quantity in CONSERVED.items() if name in fields}
    if "velocity_x" in fields and "velocity_y" in fields:
        u, v = (fields[name].astype(np.float64, copy=False) for name in ("velocity_x", "velocity_y"))
        momentum_x, momentum_y, energy = u, v, (u * u + v * v) / 2
        if "density" in fields:
            momentum_x, momentum_y, energy = (fields["density"] * one for one in (u, v, energy))
        found |= {"momentum x": momentum_x, "momentum y": momentum_y, "kinetic energy": energy}
        if grid.kind == "cartesian":
            found["enstrophy"] = (derivative(v, grid, -1) - derivative(u, grid, -2)) ** 2 / 2
    elif "vorticity" in fields:
        vorticity = fields["vorticity"].astype(np.float64, copy=False)
        found |= {"circulation": vorticity, "enstrophy": vorticity**2 / 2}
    return found


def quantity_names(variables: Sequence[str], grid: Grid) -> tuple[str, ...]:
    """The quantities that these variables determine, in the order of `density_arrays`."""
    point = replace(grid, y=grid.y[:1], x=grid.x[:1])
    return tuple(density_arrays({name: np.zeros((1, 1)) for name in variables}, point))


def domain_means(values: Values, weights_HW: Array) -> Array:
    """(...) weighted means of (..., H, W) values over the points that exist; NaN where there are none."""
    means = np.empty(values.shape[:-2])
    _reduce_means(values.reshape(-1, *values.shape[-2:]), weights_HW, means.reshape(-1))
    return means


def _compiled(function: Any) -> Any:
    return compiled(function, reorder_sums=True)


@_compiled
def _reduce_means(values_NHW: Values, weights_HW: Array, means_N: Array) -> None:
    rows, columns = weights_HW.shape
    for n in range(len(means_N)):
        total = summed = 0.0
        for y in range(rows):
            row_total = row_summed = 0.0
            for x in range(columns):
                value, weight = np.float64(values_NHW[n, y, x]), weights_HW[y, x]
                exists = value == value
                row_total += weight if exists else 0.0
                row_summed += weight * value if exists else 0.0
            total += row_total
            summed += row_summed
        means_N[n] = summed / total if total > 0 else np.nan


def quantities(dataset: xr.Dataset) -> xr.Dataset:
    """(*samples, [lead_time]) area-weighted means of all `densities` over the points that exist."""
    return _domain_mean(densities(dataset))


def drift(dataset: xr.Dataset, initial: xr.Dataset) -> xr.Dataset:
    """(Q(t) − Q(0)) / ⟨|q(0)|⟩ of every quantity Q = ⟨q⟩, (*samples, lead_time).

    For a density of one sign that is the change relative to the initial value; the denominator keeps its
    size for momentum and circulation, whose mean may vanish. NaN where the initial density is zero
    everywhere.

    Args:
        dataset: a forecast or the truth.
        initial: (*samples, y, x) the frame at lead time 0.
    """
    start = densities(initial)
    scale = _domain_mean(abs(start).assign_attrs(initial.attrs))
    return (quantities(dataset) - _domain_mean(start)) / scale.where(scale > 0)


def divergence(dataset: xr.Dataset) -> xr.DataArray:
    """√⟨(∇·u)²⟩ / √⟨|∇u|²⟩ of the velocity on a Cartesian grid: 0 for an incompressible flow, at most √2."""
    data, grid = ordered_fields(dataset), grid_of(dataset)
    ux, uy = (_differentiated(data["velocity_x"], grid, axis) for axis in (-1, -2))
    vx, vy = (_differentiated(data["velocity_y"], grid, axis) for axis in (-1, -2))
    # Weights of even cells are left out: a weighted sum rounds otherwise.
    areas = 1.0 if all(grid.even) else xr.DataArray(grid.area_weights(), dims=SPACE)
    square = (areas * (ux**2 + uy**2 + vx**2 + vy**2)).mean(SPACE)
    return ((areas * (ux + vy) ** 2).mean(SPACE) / square.where(square > 0)) ** 0.5


def vorticity(dataset: xr.Dataset) -> xr.DataArray:
    """∂v/∂x − ∂u/∂y on a Cartesian grid."""
    data, grid = ordered_fields(dataset), grid_of(dataset)
    return _differentiated(data["velocity_y"], grid, -1) - _differentiated(data["velocity_x"], grid, -2)


def _domain_mean(dataset: xr.Dataset) -> xr.Dataset:
    weights = xr.DataArray(grid_of(dataset).area_weights(), dims=SPACE)
    return dataset.weighted(weights).mean(SPACE)


def _differentiated(field: xr.DataArray, grid: Grid, axis: int) -> xr.DataArray:
    return field.copy(data=derivative(field.values.astype(np.float64), grid, axis))


def derivative(values: Array, grid: Grid, axis: int) -> Array:
    """∂/∂y (axis −2) or ∂/∂x (axis −1) of (..., H, W) values: spectral where periodic, else second-order differences.

    Between two rows there is one difference, of first order; along an axis of one row nothing changes.
    """
    positions = (grid.y, grid.x)[axis]
    if len(positions) == 1:
        # A single row stands for a field that is the same all along the axis.
        return np.zeros_like(values)
    if grid.periodic[axis]:
        if not grid.even[axis]:
            raise DataError(
                f"a derivative along {'yx'[axis]} takes Fourier modes, but the points of this periodic axis are not"
                " evenly spaced; build the store with regrid"
            )
        return _spectral_derivative(values, float(positions[1] - positions[0]), axis)
    # One-sided differences of second order need a third point.
    order: Literal[1, 2] = 2 if len(positions) > 2 else 1
    return np.asarray(np.gradient(values, positions, axis=axis, edge_order=order))


def _spectral_derivative(values: Array, step: float, axis: int) -> Array:
    size = values.shape[axis]
    k = 2 * np.pi * fft.rfftfreq(size, step)
    shape = [1] * values.ndim
    shape[axis] = len(k)
    # Of an even number of points the last mode has no derivative at them; what is imaginary there irfft leaves out.
    modes = 1j * k.reshape(shape) * fft.rfft(values, axis=axis)
    return np.asarray(fft.irfft(modes, n=size, axis=axis), dtype=np.float64)
