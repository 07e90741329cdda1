"""An atmosphere of random numbers on a global grid, on levels of pressure and on hybrid ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep, Constraint
from pelagos.models.constraints.physical_fields import Channel
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable, with_role

GRAVITY, HEIGHT, WIDTH = 9.80665, 6, 12
PRESSURES = (200.0, 500.0, 850.0, 1000.0)  # hPa
HALF_A, HALF_B = (1000.0, 15000.0, 20000.0, 8000.0, 0.0), (0.0, 0.05, 0.3, 0.7, 1.0)
HYBRID = {"kind": "hybrid", "a": HALF_A, "b": HALF_B}
VERTICALS: dict[str, Any] = {"pressure": {}, "hybrid": {"vertical": HYBRID}}


@dataclass(frozen=True)
class Said:
    """A variable's scale."""

    mean: float
    std: float


def profiles(levels: tuple[float, ...]) -> list[tuple[Variable, Said]]:
    rows = (
        ("temperature", "K", 250.0, 15.0),
        ("specific_humidity", "g kg-1", 5.0, 2.0),
        ("u_component_of_wind", "m s-1", 3.0, 12.0),
        ("v_component_of_wind", "m s-1", 0.1, 9.0),
    )
    return [
        (Variable(name=name, units=units, level=level), Said(mean, std))
        for name, units, mean, std in rows
        for level in reversed(levels)  # as archives may have them: order must not matter
    ]


SINGLE = [
    (Variable(name="surface_pressure", units="hPa"), Said(985.0, 10.0)),
    (Variable(name="geopotential_at_surface", units="m2 s-2", role="static"), Said(3000.0, 2000.0)),
    (Variable(name="total_precipitation", units="mm", role="diagnostic"), Said(1.0, 0.1)),
    (Variable(name="evaporation", units="m", role="diagnostic"), Said(-1e-3, 1e-4)),
    (Variable(name="top_net_radiation", units="W m-2", role="diagnostic"), Said(3.0, 50.0)),
    (Variable(name="surface_net_flux", units="J m-2", role="diagnostic"), Said(2e4, 5e4)),
]


def atmosphere(vertical: str) -> ConstrainedDataset:
    levels = PRESSURES if vertical == "pressure" else (1.0, 2.0, 3.0, 4.0)
    pairs = [*profiles(levels), *SINGLE]
    variables = [variable for variable, _ in pairs]
    prognostic = with_role(variables, "prognostic")
    grid = Grid(
        kind="latlon",
        y=np.linspace(75, -75, HEIGHT),
        x=np.arange(WIDTH) * 360 / WIDTH,
        boundary_y=("pole", "pole"),
        boundary_x=("periodic", "periodic"),
        units="degrees",
    )
    layout = Layout(
        "weather",
        (*prognostic, *with_role(variables, "static")),
        (*prognostic, *with_role(variables, "diagnostic")),
        grid,
        time_scale=6.0,
    )
    scales = {variable.key: said for variable, said in pairs}
    return ConstrainedDataset(layout, scales, "h", "hPa" if vertical == "pressure" else "1")


def fields(dataset: ConstrainedDataset, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normalised inputs and outputs of two samples."""
    made = torch.Generator().manual_seed(seed)
    shapes = (2, len(dataset.layout.inputs), HEIGHT, WIDTH), (2, len(dataset.layout.outputs), HEIGHT, WIDTH)
    before, after = (torch.randn(shape, generator=made, dtype=torch.float64).to(dtype) for shape in shapes)
    return before, after


def step(dataset: ConstrainedDataset, *constraints: Constraint) -> ConstrainedStep:
    return ConstrainedStep(constraints, dataset)


def physical(x_BCHW: Tensor, channels: Any, name: str) -> Tensor:
    """(B, L, H, W) values of a field, from the top."""
    found: list[Channel] = sorted(
        (one for one in channels.values() if one.variable.name == name), key=lambda c: c.variable.level or 0
    )
    return torch.stack([x_BCHW[:, c.position].double() * c.std + c.mean for c in found], 1)


def global_mean(values_BHW: Tensor) -> Tensor:
    """(B,) by the areas of the cells, whose edges lie half-way."""
    edges = np.deg2rad(np.linspace(90, -90, HEIGHT + 1))
    area = torch.from_numpy(-np.diff(np.sin(edges)) / 2 / WIDTH)[:, None]
    return (values_BHW * area).sum((-2, -1))


def layer_masses(x_BCHW: Tensor, channels: Any, vertical: str) -> Tensor:
    """(B, L, H, W) [kg m-2]."""
    if vertical == "pressure":
        p = 100 * np.array(PRESSURES)
        weights = np.array([p[1] - p[0], p[2] - p[0], p[3] - p[1], p[3] - p[2]]) / 2
        return torch.from_numpy(weights)[None, :, None, None] / GRAVITY
    surface = 100 * physical(x_BCHW, channels, "surface_pressure")
    half = (torch.tensor(part, dtype=torch.float64)[None, :, None, None] for part in (HALF_A, HALF_B))
    a, b = half
    return (a + b * surface).diff(dim=1) / GRAVITY


TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
