import math

import numpy as np
import pytest
import torch

from pelagos.preprocessing.physics.korteweg_de_vries import KortewegDeVriesConfig

NO_STATIC = torch.empty(1, 0, 1, 1)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_soliton_travels_at_a_third_of_its_height(rows: int) -> None:
    pde = KortewegDeVriesConfig().build()
    dispersion, height, time = 1e-4, 0.6, 0.5
    x = torch.from_numpy(np.arange(96) / 96)

    def soliton(centre: float) -> torch.Tensor:
        distance = (x - centre + 0.5) % 1 - 0.5
        profile = height / torch.cosh(distance * math.sqrt(height / (12 * dispersion))) ** 2
        return profile.expand(1, 1, rows, -1)

    scalars = torch.tensor([[dispersion]], dtype=torch.float64)
    end = pde.propagate(soliton(0.3), NO_STATIC, scalars, time)
    torch.testing.assert_close(end, soliton(0.3 + height / 3 * time), rtol=0, atol=1e-5)


def test_mass_and_momentum_are_conserved() -> None:
    pde = KortewegDeVriesConfig().build()
    state = pde.initial(0, range(3), (32, 32))
    end = pde.propagate(state.fields, state.static, state.scalars, 0.3)
    before, after = (pde.conserved(fields, state.static, state.scalars) for fields in (state.fields, end))
    torch.testing.assert_close(after["mass"], before["mass"], rtol=0, atol=1e-14)
    torch.testing.assert_close(after["momentum"], before["momentum"], rtol=1e-5, atol=0)


def test_errors_fall_with_the_fourth_power_of_the_step() -> None:
    pde = KortewegDeVriesConfig().build()
    state = pde.initial(2, [0], (24, 24))

    def at(dt: float) -> torch.Tensor:
        return pde.propagate(state.fields, state.static, state.scalars, 0.2, dt)

    errors = [(at(dt) - at(0.0005)).abs().max().item() for dt in (0.01, 0.005)]
    assert math.log2(errors[0] / errors[1]) > 3.6
