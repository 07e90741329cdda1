"""Radiation as the share of the sun's that comes through: none by night, and the same clouds under another sun."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pelagos.models.constraints.band_limited import BandLimited
from pelagos.models.constraints.clearness import Clearness
from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep, check_order
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.transform import Log1p
from pelagos.preprocessing.variables import Variable
from tests.models.constraints.atmospheres import Said

FLUX = Variable(name="flux", units="J m-2")
SUN, HEAT = Variable(name="sun", units="W m-2", role="forcing"), Variable(name="heat")
SCALES = {"flux": Said(3600 * 40.0, 3600 * 70.0), "sun": Said(120.0, 200.0), "heat": Said(280.0, 9.0)}
SHAPE = (2, 6, 5)
RULE = Clearness(variables=("flux",), insolation="sun")


def dataset(flux: Variable = FLUX, *, ahead: bool = True) -> ConstrainedDataset:
    inputs = (HEAT, flux, SUN) if flux.role == "prognostic" else (HEAT, SUN)
    grid = Grid("cartesian", np.arange(6.0), np.arange(5.0))
    layout = Layout("box", inputs, (HEAT, flux), grid, sees_valid_forcing=ahead)
    return ConstrainedDataset(layout, SCALES)


def normalized(name: str, physical: Tensor) -> Tensor:
    return (physical - SCALES[name].mean) / SCALES[name].std


def flux_of(y_BCHW: Tensor) -> Tensor:
    return y_BCHW[:, 1] * SCALES["flux"].std + SCALES["flux"].mean


def suns(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Insolation before and after a step: night in the first column after it, and in the last before it."""
    sun, ahead = (50 + 900 * torch.rand(SHAPE, dtype=dtype) for _ in range(2))
    sun[..., -1], ahead[..., 0] = 0, 0
    return sun, ahead


def stepped(data: ConstrainedDataset, fields: list[Tensor], after: Tensor, ahead: Tensor) -> Tensor:
    step = ConstrainedStep([RULE], data)
    assert step.sees_valid_forcing
    valid = normalized("sun", ahead)[:, None]
    return step(torch.stack(fields, 1), after, torch.ones(2), valid_BFHW=valid)


def test_a_network_that_changes_nothing_keeps_the_clearness_and_the_mean_one_where_it_was_night(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    (sun, ahead), heat = suns(dtype), torch.randn(SHAPE, dtype=dtype)
    clear = 0.1 + 0.7 * torch.rand(SHAPE, dtype=dtype)
    flux = normalized("flux", 3600 * clear * sun)
    made = stepped(dataset(), [heat, flux, normalized("sun", sun)], torch.stack([heat, flux], 1), ahead)
    clear[..., -1] = 40 / 120  # the mean flux over the mean sun
    rtol, atol = (1e-12, 1e-6) if dtype == torch.float64 else (2e-5, 1.0)
    torch.testing.assert_close(flux_of(made), 3600 * clear * ahead, rtol=rtol, atol=atol)
    assert torch.equal(made[:, 0], heat)


def test_by_night_there_is_none_whatever_the_network_says_and_by_day_it_says_what_it_likes(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    (sun, ahead), wanted = suns(dtype), 3600 * 300 * torch.rand(SHAPE, dtype=dtype)
    fields = [torch.zeros(SHAPE, dtype=dtype), torch.randn(SHAPE, dtype=dtype), normalized("sun", sun)]
    after = torch.randn(2, 2, 6, 5, dtype=dtype)
    made = stepped(dataset(), fields, after, ahead)
    digits = 1e-12 if dtype == torch.float64 else 1e-6
    assert flux_of(made)[..., 0].abs().max() < 3600 * 40 * digits
    # Another output that differs by the change of the flux that is still wanted, over the sun's: the inverse.
    day = ahead > 0
    more = (wanted - flux_of(made)) * 120 / ahead.where(day, 1.0)
    again = torch.stack([after[:, 0], normalized("flux", flux_of(after) + more)], 1)
    reached = flux_of(stepped(dataset(), fields, again, ahead))
    torch.testing.assert_close(reached[day], wanted[day], rtol=0, atol=3600 * 5000 * digits)


def test_a_flux_that_is_no_input_is_the_networks_times_the_sun_over_its_mean() -> None:
    torch.manual_seed(0)
    sun, ahead = suns(torch.float64)
    after = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    made = stepped(
        dataset(FLUX.model_copy(update={"role": "diagnostic"})),
        [after[:, 0], normalized("sun", sun)],
        after,
        ahead,
    )
    torch.testing.assert_close(flux_of(made), flux_of(after) * ahead / 120)


def test_gradients_are_finite_and_none_by_night() -> None:
    sun, ahead = suns(torch.float32)
    after = torch.randn(2, 2, 6, 5, requires_grad=True)
    before = torch.randn(2, 3, 6, 5, requires_grad=True)
    fields = [before[:, 0], before[:, 1], normalized("sun", sun)]
    stepped(dataset(), fields, after, ahead).sum().backward()
    for one in (before, after):
        assert one.grad is not None
        assert one.grad.isfinite().all()
    assert after.grad is not None
    assert ((after.grad[:, 1] != 0) == (ahead > 0)).all()


def test_what_it_needs_is_said() -> None:
    with pytest.raises(ConfigError, match="needs sun at the time that is forecast: valid_forcing: true"):
        ConstrainedStep([RULE], dataset(ahead=False))
    with pytest.raises(ConfigError, match="needs mean_insolation among the forcings of box, which are sun"):
        ConstrainedStep([Clearness(variables=("flux",))], dataset())
    dark = replace(dataset(), scales={**SCALES, "sun": Said(0.0, 1.0)})
    with pytest.raises(ConfigError, match="the mean of sun in box is 0"):
        ConstrainedStep([RULE], dark)
    with pytest.raises(
        ConfigError, match="flux of box is stored as a function of it: clearness takes the place"
    ):
        ConstrainedStep([RULE], dataset(FLUX.model_copy(update={"transform": Log1p()})))
    for units in ("K", "1", "W m-2 s-1"):
        with pytest.raises(ConfigError, match=f"flux is in {units} and sun in W m-2: both as radiation"):
            ConstrainedStep([RULE], dataset(FLUX.model_copy(update={"units": units})))
    with pytest.raises(ConfigError, match=r"clearness: flux, sun: units 'Wm-2': 'Wm' is not a known unit"):
        ConstrainedStep([RULE], dataset(FLUX.model_copy(update={"units": "Wm-2"})))
    ConstrainedStep([RULE], dataset(FLUX.model_copy(update={"units": "kW m-2"})))
    with pytest.raises(ValueError, match="flux cannot be band_limited and end where the sun sets"):
        check_order([BandLimited(variables=("flux",)), RULE])
