"""Fields keep their large waves to rounding and lose their small ones, whatever network made them."""

import numpy as np
import pytest
import torch

from pelagos.models.constraints.band_limited import BandLimited
from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.physics.shallow_water import ShallowWaterConfig
from pelagos.preprocessing.physics.spherical_modes import cached_modes
from pelagos.preprocessing.variables import Variable
from tests.models.constraints.atmospheres import Said

pytest.importorskip("torch_harmonics")
ROWS = 12
LATITUDES = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(ROWS)[0]))
FIELDS = tuple(Variable(name=name) for name in ("height", "velocity_x", "velocity_y"))
LIMIT = BandLimited(variables=("height",), winds=(("velocity_x", "velocity_y"),))
DAMPED = LIMIT.model_copy(update={"damping": 2.0})  # steps of 1


def dataset(latitudes: np.ndarray) -> ConstrainedDataset:
    x = np.arange(2 * ROWS) * 360 / (2 * ROWS)
    grid = Grid("latlon", latitudes, x, ("pole", "pole"), ("periodic", "periodic"), "degrees")
    scales = {"height": Said(1e4, 300.0), "velocity_x": Said(3.0, 12.0), "velocity_y": Said(0.0, 8.0)}
    return ConstrainedDataset(Layout("sphere", FIELDS, FIELDS, grid), scales)


def step(given: ConstrainedDataset, fields: torch.Tensor, limit: BandLimited = LIMIT) -> torch.Tensor:
    return ConstrainedStep([limit], given)(fields, fields, torch.ones(len(fields)))


@pytest.mark.parametrize("latitudes", [LATITUDES, LATITUDES[::-1].copy()], ids=["northward", "southward"])
def test_large_waves_stay_and_small_ones_go(latitudes: np.ndarray) -> None:
    given = dataset(latitudes)
    noise = torch.randn(2, 3, ROWS, 2 * ROWS, dtype=torch.float64, requires_grad=True)
    once = step(given, noise)
    assert 0.01 < once.var() < 0.5, "sixteen waves are left of noise on 288 points"
    torch.testing.assert_close(step(given, once), once, rtol=0, atol=1e-12)
    once.square().sum().backward()
    assert noise.grad is not None
    assert noise.grad.isfinite().all()
    modes = cached_modes((ROWS, 2 * ROWS), 1.0, torch.float64, torch.device("cpu"), ROWS)
    south = once.detach() if latitudes[0] > 0 else once.detach().flip(-2)
    spectrum = modes.forward(south[:, 0]).abs()
    assert spectrum[:, 1:4].max() > 1e-2
    assert spectrum[:, 4:].max() < 1e-12


def test_a_wind_without_small_waves_stays_as_it_is() -> None:
    modes = cached_modes((ROWS, 2 * ROWS), 1.0, torch.float64, torch.device("cpu"), 4)
    coefficients = torch.zeros(2, 4, 4, dtype=torch.complex128)
    coefficients[0, 1, 0], coefficients[0, 3, 2], coefficients[1, 2, 1] = torch.tensor([40.0, 20 + 10j, 15j])
    wind = modes.wind(coefficients[0], coefficients[1])
    given = dataset(LATITUDES[::-1].copy())
    physical = torch.cat([torch.full_like(wind[:1], 1e4), wind])[None]
    mean, std = torch.tensor([1e4, 3.0, 0.0]), torch.tensor([300.0, 12.0, 8.0])
    fields = (physical - mean.double()[:, None, None]) / std.double()[:, None, None]
    torch.testing.assert_close(step(given, fields), fields, rtol=0, atol=1e-12)


def test_waves_decay_as_under_the_hyperdiffusion_of_the_simulation() -> None:
    given = dataset(LATITUDES[::-1].copy())
    fields = step(given, torch.randn(2, 3, ROWS, 2 * ROWS, dtype=torch.float64))
    modes = cached_modes((ROWS, 2 * ROWS), 1.0, torch.float64, torch.device("cpu"), 4)
    decay = ShallowWaterConfig(damping=2.0).build()._decay(modes, 3600.0)[1]
    height, damped = (modes.forward(one[:, 0]) for one in (fields, step(given, fields, DAMPED)))
    torch.testing.assert_close(damped, height * decay, rtol=0, atol=1e-12)
    mean, std = torch.tensor([3.0, 0.0]).double(), torch.tensor([12.0, 8.0]).double()
    curl, damped_curl = (
        modes.curl_and_divergence(one[:, 1:] * std[:, None, None] + mean[:, None, None])[0]
        for one in (fields, step(given, fields, DAMPED))
    )
    torch.testing.assert_close(damped_curl, curl * decay, rtol=0, atol=1e-10)


def test_latitudes_without_exact_harmonics_are_refused() -> None:
    with pytest.raises(ConfigError, match="the latitudes of sphere are not Gaussian"):
        ConstrainedStep([LIMIT], dataset(np.linspace(-90, 90, ROWS)))


def box(sides: Sides = ("periodic", "periodic"), rows: int = 9) -> ConstrainedDataset:
    grid = Grid("cartesian", np.arange(float(rows)), np.arange(12.0), sides, ("periodic", "periodic"))
    return ConstrainedDataset(Layout("box", FIELDS, FIELDS, grid), dataset(LATITUDES).scales)


def test_a_periodic_box_keeps_the_lower_third_of_its_waves() -> None:
    noise = torch.randn(2, 3, 9, 12, dtype=torch.float64)
    once = step(box(), noise)
    wanted = torch.fft.rfft2(noise)
    wanted[..., 3:7, :] = wanted[..., 4:] = 0
    torch.testing.assert_close(torch.fft.rfft2(once), wanted, rtol=0, atol=1e-10)


def test_the_smallest_waves_of_a_box_are_damped() -> None:
    noise = step(box(), torch.randn(2, 3, 9, 12, dtype=torch.float64))
    damped, plain = (torch.fft.rfft2(one) for one in (step(box(), noise, DAMPED), noise))
    torch.testing.assert_close(damped[..., 0, 3], plain[..., 0, 3] * np.exp(-0.5))
    torch.testing.assert_close(damped[..., 1, 0], plain[..., 1, 0] * np.exp(-0.5 / 2**8))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_keep_their_mean_alone(rows: int) -> None:
    noise = torch.randn(2, 3, rows, 12, dtype=torch.float64)
    wanted = torch.fft.rfft2(noise)
    wanted[..., 1:, :] = wanted[..., 4:] = 0
    torch.testing.assert_close(torch.fft.rfft2(step(box(rows=rows), noise)), wanted, rtol=0, atol=1e-10)
    damped = torch.fft.rfft2(step(box(rows=rows), noise, DAMPED))
    torch.testing.assert_close(damped[..., 0, 3], wanted[..., 0, 3] * np.exp(-0.5))
    torch.testing.assert_close(damped[..., 0, 0], wanted[..., 0, 0])


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="name variables or winds"):
        BandLimited(degrees=3)


def test_a_box_with_walls_is_refused() -> None:
    with pytest.raises(ConfigError, match="band_limited needs an even Cartesian grid that goes round"):
        step(box(("wall", "wall")), torch.zeros(1, 3, 9, 12))
