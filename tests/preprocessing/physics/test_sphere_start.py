"""Initial states of shallow water: the jet of the literature, and random flows that no grid decides."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pelagos.preprocessing.physics.shallow_water import ShallowWaterConfig
from pelagos.preprocessing.physics.sphere_start import GalewskyJet, RandomWinds
from pelagos.preprocessing.physics.spherical_modes import SphericalModes, cached_modes


def test_the_jet_has_the_speed_and_the_edges_of_its_paper() -> None:
    jet = GalewskyJet()
    south, north = np.pi / 7, np.pi / 2 - np.pi / 7
    assert jet.wind(np.array([np.pi / 4]))[0] == pytest.approx(80.0)  # m s-1 at 45 N
    assert (jet.wind(np.array([south, north, 0.0, -np.pi / 4])) == 0).all()


def test_the_jets_height_is_in_balance_and_ten_kilometres_in_the_mean() -> None:
    """Galewsky et al. (2004), equation 3: g h falls across the jet by the integral of a u (f + u tan(y) / a)."""
    jet = GalewskyJet(hump=0.0)
    equation = ShallowWaterConfig(start=jet).build()
    config, degrees = equation.config, jet.degrees()
    fine = cached_modes(
        (2 * degrees, 4 * degrees), config.radius, torch.float64, torch.device("cpu"), degrees
    )
    height = equation._balanced(fine, jet.draw(np.random.default_rng(0), fine)[0])
    y = np.linspace(0.3, 1.3, 20001)
    wind = jet.wind(y)
    slope = wind * (config.radius * 2 * config.rotation * np.sin(y) + wind * np.tan(y)) / config.gravity
    fall = float(((slope[1:] + slope[:-1]) / 2 * np.diff(y)).sum())
    tropics, pole = height[np.argmin(abs(fine.latitude - 0.2))].mean(), height[0].mean()
    assert float(tropics - pole) == pytest.approx(fall, rel=5e-4)  # 1087 m
    state = equation.initial(0, [0], (48, 96))
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
    equation = ShallowWaterConfig(start=RandomWinds(largest=6, speed=20.0)).build()
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
