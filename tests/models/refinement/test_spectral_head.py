"""The spectral head: what it can express and what it conserves."""

import pytest
import torch

from pelagos.models.refinement.spectral_head import SpectralHead
from pelagos.preprocessing.errors import DataError
from tests.models.refinement.periodic_fields import smooth, torus, wave_numbers

GRID = torus()


@pytest.mark.parametrize("shape", [(16, 12), (15, 11), (8, 9), (9, 8)])
def test_the_head_starts_as_the_identity_and_reaches_every_mode(shape: tuple[int, int]) -> None:
    grid = torus(*shape)
    frames = smooth(grid, 3, 2)
    head = SpectralHead((3, 2, *shape), grid, gain=True)
    assert torch.equal(head(frames), frames)
    wanted = torch.randn(3, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    head.bias.data = torch.fft.rfft2(wanted, norm="forward")
    torch.testing.assert_close(head(frames), frames + wanted, rtol=0, atol=1e-14)


def test_the_gain_mixes_channels_mode_by_mode() -> None:
    head = SpectralHead((1, 2, *GRID.shape), GRID, gain=True)
    frames = smooth(GRID, 5, 2)
    assert head.gain is not None
    head.gain.data[0, 1] = 1j * wave_numbers(GRID)[1].expand(head.gain.shape[2:])
    derivative = torch.fft.irfft2(1j * wave_numbers(GRID)[1] * torch.fft.rfft2(frames[:, 1]), s=GRID.shape)
    torch.testing.assert_close(head(frames)[:, 0], frames[:, 0] + derivative)
    assert torch.equal(head(frames)[:, 1], frames[:, 1])


def test_a_frozen_mean_is_conserved_whatever_the_coefficients() -> None:
    head = SpectralHead((3, 2, *GRID.shape), GRID, gain=True, freeze_mean=True)
    for parameter in head.parameters():
        parameter.data += 0.3
    frames = smooth(GRID, 3, 2) + 1
    assert not torch.allclose(head(frames), frames)
    torch.testing.assert_close(head(frames).mean((2, 3)), frames.mean((2, 3)))


def test_bounded_domains_are_refused() -> None:
    walls = torus(boundary_y=("wall", "wall"))
    message = r"periodic along y and x.*found boundary_y \('wall', 'wall'\)"
    with pytest.raises(DataError, match=message):
        SpectralHead((6, 2, *walls.shape), walls)
