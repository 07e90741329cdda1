"""Octaves of waves whose octave is known."""

import math

import pytest
import torch

from pelagos.models.layers.octaves import octave_norms

POINTS = 16


def test_octaves_hold_what_parsevals_theorem_says() -> None:
    field = torch.randn(2, 3, 12, POINTS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for periodic in ((True, True), (False, True), (False, False)):
        found = octave_norms(field, periodic).square().sum(-1)
        torch.testing.assert_close(found, field.square().mean((-2, -1)))


@pytest.mark.parametrize(("number", "octave"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3)])
def test_a_wave_is_in_the_octave_of_its_number(number: int, octave: int) -> None:
    row = torch.cos(2 * math.pi * number * torch.arange(POINTS, dtype=torch.float64) / POINTS)
    found = octave_norms(row.expand(1, 1, POINTS, POINTS), (True, True))[0, 0]
    # The shortest wave is at its crests in every point.
    assert found[octave].item() == pytest.approx(1 if number == 8 else math.sqrt(0.5))
    assert found.sum().item() == pytest.approx(found[octave].item())


def test_a_cosine_between_walls_is_its_own_mirror_image() -> None:
    # Three half waves from wall to wall, with values in the middle of the cells.
    middle = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    found = octave_norms(torch.cos(3 * math.pi * middle).expand(1, 1, POINTS, POINTS), (False, False))[0, 0]
    assert found[0].item() == pytest.approx(math.sqrt(0.5))
    assert found[1:].abs().max().item() < 1e-12
