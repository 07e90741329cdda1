"""The energy of a layer of fluid is to rounding what it was, whatever network made the step."""

import pytest
import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.models.constraints.shallow_water_energy import ShallowWaterEnergy
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable
from tests.models.constraints.atmospheres import Said
from tests.models.constraints.test_band_limited import LATITUDES, dataset

FIELDS = tuple(
    Variable(name=name, units=units)
    for name, units in (("height", "m"), ("velocity_x", "m s-1"), ("velocity_y", "m s-1"))
)
G = 9.80616


def layer(fields: tuple[Variable, ...] = FIELDS) -> ConstrainedDataset:
    given = dataset(LATITUDES)
    return ConstrainedDataset(Layout("layer", fields, fields, given.layout.grid), given.scales)


def energy(given: ConstrainedDataset, fields: Tensor) -> Tensor:
    height, u, v = (fields[:, n] * scale.std + scale.mean for n, scale in enumerate(given.scales.values()))
    return ((height * (u**2 + v**2) + G * height**2) / 2 * given.area).sum((-2, -1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_step_neither_adds_nor_loses_energy(dtype: torch.dtype, tolerance: float) -> None:
    given = layer()
    before = torch.randn(2, 3, 12, 24, dtype=dtype)
    # The mean height is what conserved_mean settles; here the step leaves it alone.
    other = torch.randn(2, 3, 12, 24, dtype=dtype)
    after = (1.3 * before + 0.1 * other).requires_grad_()
    mean = (given.area * (before - after)[:, :1].detach().double()).sum((-2, -1), keepdim=True)
    shift = torch.cat([mean, torch.zeros(2, 2, 1, 1)], 1).to(dtype)
    made = ConstrainedStep([ShallowWaterEnergy()], given)(before, after + shift, torch.ones(2, dtype=dtype))
    found, wanted = energy(given, made.double()), energy(given, before.double())
    assert (found / wanted - 1).abs().max() < tolerance
    made.square().sum().backward()
    assert after.grad is not None
    assert after.grad.isfinite().all()


def test_other_units_are_converted() -> None:
    known, before = layer(), torch.randn(2, 3, 12, 24, dtype=torch.float64)
    after = 1.3 * before + 0.1
    fields = (
        FIELDS[0].model_copy(update={"units": "km"}),
        FIELDS[1],
        FIELDS[2].model_copy(update={"units": "km h-1"}),
    )
    factors = dict(zip(known.scales, (1e-3, 1.0, 3.6), strict=True))
    scales = {
        name: Said(one.mean * factors[name], one.std * factors[name]) for name, one in known.scales.items()
    }
    other = ConstrainedDataset(layer(fields).layout, scales)
    made, wanted = (
        ConstrainedStep([ShallowWaterEnergy()], given)(before, after, torch.ones(2))
        for given in (other, known)
    )
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-11)
    assert (made - after).abs().max() > 1e-2


def test_units_of_something_else_are_refused() -> None:
    fields = (FIELDS[0].model_copy(update={"units": "Pa"}), *FIELDS[1:])
    with pytest.raises(ConfigError, match=r"height is needed in m: units 'Pa' .* measure different things"):
        ConstrainedStep([ShallowWaterEnergy()], layer(fields))
