"""Small datasets in the convention, of random values that tell every axis and element apart."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.sources import convention


def dataset(
    fields: Sequence[str],
    static: Sequence[str] = (),
    scalars: Mapping[str, ArrayLike] = {},
    *,
    trajectories: int = 3,
    times: int = 5,
    shape: tuple[int, int] = (6, 4),
    boundary_y: Sides = ("periodic", "periodic"),
    boundary_x: Sides = ("periodic", "periodic"),
    name: str = "made",
) -> xr.Dataset:
    """Coordinates are multiples of powers of two, so that single precision holds them exactly."""
    rng = np.random.default_rng(7)
    y, x = (np.arange(n) / 8 for n in shape)

    def variable(key: str, role: convention.FieldRole, *sizes: int) -> xr.Variable:
        dims = convention.TIME_DIMS if len(sizes) == 4 else ("trajectory", "y", "x")
        return xr.Variable(dims, rng.normal(size=sizes).astype(np.float32), convention.attrs(key, role))

    variables = {key: variable(key, "prognostic", trajectories, times, *shape) for key in fields}
    variables |= {key: variable(key, "static", trajectories, *shape) for key in static}
    for key, value in scalars.items():
        dims = ("trajectory",) if np.ndim(value) else ()
        variables[key] = xr.Variable(dims, np.asarray(value, float), convention.attrs(key, "scalar"))
    return convention.assemble(
        variables,
        grid=Grid("cartesian", y, x, boundary_y, boundary_x),
        time=np.arange(times) / 4,
        dataset=name,
        source_format="simulation",
        sources=(),
        num_trajectories=trajectories,
    )
