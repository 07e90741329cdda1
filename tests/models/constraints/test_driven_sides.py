"""A region's sides are what is given from outside, and its middle is its own."""

import numpy as np
import pytest
import torch

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep, check_use
from pelagos.models.constraints.driven_sides import DrivenSides
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable
from tests.models.constraints.atmospheres import Said

FIELDS = (Variable(name="t"), Variable(name="rain", role="diagnostic"))


def dataset(y: Sides = ("open", "open"), x: Sides = ("open", "open")) -> ConstrainedDataset:
    grid = Grid("latlon", np.linspace(50, 60, 9), np.linspace(-6, 4, 11), y, x, "degrees")
    return ConstrainedDataset(
        Layout("region", FIELDS[:1], FIELDS, grid), {"t": Said(280.0, 5.0), "rain": Said(0.0, 1.0)}
    )


def test_sides_are_given_and_the_middle_is_the_forecast() -> None:
    step = ConstrainedStep([DrivenSides(width=3)], dataset())
    after, outside = torch.randn(2, 2, 9, 11), torch.randn(2, 1, 9, 11)
    made = step(after[:, :1], after, torch.ones(2), None, outside)
    assert torch.equal(made[:, 1], after[:, 1]), "diagnostic fields are the network's"
    for side in (made[:, 0, 0] - outside[:, 0, 0], made[:, 0, :, -1] - outside[:, 0, :, -1]):
        assert side.abs().max() < 1e-6
    assert torch.equal(made[:, 0, 3:-3, 3:-3], after[:, 0, 3:-3, 3:-3])
    # A cell further in, cos^2(30 degrees) of it is given.
    torch.testing.assert_close(made[:, 0, 1, 5], 0.25 * after[:, 0, 1, 5] + 0.75 * outside[:, 0, 1, 5])


def test_poles_walls_and_seams_are_left_alone() -> None:
    shares = DrivenSides(width=2).shares(dataset(("pole", "open"), ("periodic", "periodic")).layout.grid)
    assert (shares[:7] == 0).all()
    assert (shares[8] == 1).all()
    with pytest.raises(ConfigError, match="no dataset has an open side"):
        check_use([DrivenSides(width=2)], [dataset(("wall", "wall"), ("periodic", "periodic"))])


def test_what_is_not_given_stays_the_forecasts_own() -> None:
    step = ConstrainedStep([DrivenSides(width=2)], dataset())
    after, outside = torch.randn(1, 2, 9, 11), torch.full((1, 1, 9, 11), torch.nan)
    torch.testing.assert_close(step(after[:, :1], after, torch.ones(1), None, outside), after)
