import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.burgers import BurgersConfig

NO_STATIC = torch.empty(1, 0, 1, 1)


def heat_solution(x: Tensor, viscosity: float, time: float) -> Tensor:
    """u = -2 nu d(log p)/dx for p = 2 + exp(-nu k^2 t) cos(k x), which obeys the heat equation (Cole, Hopf)."""
    k = 2 * math.pi
    decay = math.exp(-viscosity * k**2 * time)
    return 2 * viscosity * k * decay * torch.sin(k * x) / (2 + decay * torch.cos(k * x))


@pytest.mark.parametrize("components", [1, 2])
def test_the_solution_of_cole_and_hopf_is_followed_on_a_single_row_and_in_the_plane(components: int) -> None:
    pde = BurgersConfig(components=components).build()
    viscosity, rows = 0.05, 1 if components == 1 else 4
    x = torch.from_numpy(np.arange(32) / 32).expand(rows, -1)
    start, expected = (
        torch.stack([heat_solution(x, viscosity, time), torch.zeros_like(x)][:components])[None]
        for time in (0.0, 0.5)
    )
    scalars = torch.tensor([[viscosity]], dtype=torch.float64)
    end = pde.propagate(start, NO_STATIC, scalars, 0.5)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-8)


def test_a_flow_of_one_component_keeps_its_momentum_and_one_in_the_plane_does_not() -> None:
    one, two = BurgersConfig(components=1).build(), BurgersConfig().build()
    assert list(one.conserved(torch.ones(1, 1, 4, 4), NO_STATIC, torch.empty(1, 1))) == ["mean_velocity_x"]
    assert two.conserved(torch.ones(1, 2, 4, 4), NO_STATIC, torch.empty(1, 1)) == {}
