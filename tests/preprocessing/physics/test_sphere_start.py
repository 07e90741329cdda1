"""Initial states of shallow water: the jet of the literature, and random flows that no grid decides."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pelagos.preprocessing.physics.shallow_water import ShallowWaterConfig
from pelagos.preprocessing.physics.sphere_start import GalewskyJet, RandomFlow
from pelagos.preprocessing.physics.spherical_modes import SphericalModes


def test_the_jet_has_the_speed_and_the_edges_of_its_paper() -> None:
    jet = GalewskyJet()
    south, north = np.pi / 7, np.pi / 2 - np.pi / 7
    assert jet.wind(np.array([np.pi / 4]))[0] == pytest.approx(80.0)  # m s-1 at 45 N
    assert (jet.wind(np.array([south, north, 0.0, -np.pi / 4])) == 0).all()


def test_the_jets_height_is_in_balance_and_ten_kilometres_in_the_mean() -> None:
    """Galewsky et al. (2004), equation 3: g h falls across the jet by the integral of a u (f + u tan(y) / a)."""
    equation = ShallowWaterConfig(start=GalewskyJet(hump=0.0)).build()
    state = equation.initial(0, [0], (96, 192))
    height = state.fields[0, 0]
    latitude = np.deg2rad(equation.grid((96, 192)).y)
    y = np.linspace(0.3, 1.3, 20001)
    wind = GalewskyJet().wind(y)
    slope = wind * (6.37122e6 * 2 * 7.292e-5 * np.sin(y) + wind * np.tan(y)) / 9.80616
    fall = float(((slope[1:] + slope[:-1]) / 2 * np.diff(y)).sum())
    tropics, pole = height[np.argmin(abs(latitude - 0.2))].mean(), height[0].mean()
    assert float(tropics - pole) == pytest.approx(
        fall, rel=3e-3
    )  # 1148 m; degree 32 does not see all of the jet
    mean = equation.conserved(state.fields, state.static, state.scalars)["height"]
    assert float(mean) == pytest.approx(1e4, rel=1e-12)


def test_the_jets_hump_is_the_papers() -> None:
    flat, humped = (
        ShallowWaterConfig(start=GalewskyJet(hump=hump)).build().initial(0, [0], (96, 192)).fields[0, 0]
        for hump in (0.0, 120.0)
    )
    hump = humped - flat
    assert int(hump.argmax()) % 192 == 96  # 180 E
    # 120 m cos(y) exp(-15 (pi/4 - y)^2) is largest at 43 N, 85.9 m.
    assert float(hump.max()) == pytest.approx(85.9, rel=0.02)


def test_random_flows_have_the_speed_that_was_drawn_on_every_grid() -> None:
    equation = ShallowWaterConfig(start=RandomFlow(largest=6, speed=20.0)).build()
    coarse, fine = (equation.initial(3, [5], shape).fields for shape in ((48, 96), (60, 128)))
    speeds = [float(equation.conserved(one, one, one)["energy"]) for one in (coarse, fine)]
    assert speeds[0] == pytest.approx(speeds[1], rel=1e-12)
    assert_close(equation.coarsen(fine, (48, 96)), coarse, rtol=1e-9, atol=1e-7)
    wind = SphericalModes.of(fine, equation.config.radius).mean(fine[:, 1:].square().sum(1)).sqrt()
    assert float(wind) == pytest.approx(20.0, rel=1e-9)


def test_flows_differ_from_one_trajectory_to_the_next() -> None:
    fields = ShallowWaterConfig().build().initial(0, [0, 1], (48, 96)).fields
    assert (fields[0] - fields[1]).abs().amax() > 1
    assert torch.isfinite(fields).all()
