"""The spectral head: a last layer that corrects the Fourier coefficients of frames.

Shapes: M frames, C channels, H rows, W columns, K = W // 2 + 1 modes of the real transform, whose coefficients are
amplitudes (norm "forward").
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pelagos.models.refinement.spectral_modes import (
    VelocityPairs,
    project_solenoidal,
    require_periodic,
    to_fields,
    to_modes,
)
from pelagos.preprocessing.grid import Grid


class SpectralHead(nn.Module):
    """Adds b + G·ŵ to the spectrum ŵ of each frame, in float64; initially the identity.

    b belongs to one forecast; G, a linear filter that mixes channels, can be trained once for all forecasts
    (Spectral-Refiner, Cao et al., 2025, arXiv:2405.17211, has b alone).

    Args:
        shape: (M, C, H, W) of the frames; with M = 1 all frames of any batch share b.
        grid: the periodic grid of the frames.
        gain: whether there is a G, of shape (C, C, H, K).
        freeze_mean: whether the mean of every channel stays as it is.
        velocity: pairs of channels whose corrected frames are made free of divergence.

    Raises:
        DataError: the grid is not periodic along both axes.
    """

    def __init__(
        self,
        shape: Sequence[int],
        grid: Grid,
        *,
        gain: bool = False,
        freeze_mean: bool = False,
        velocity: VelocityPairs = (),
    ) -> None:
        super().__init__()
        require_periodic(grid)
        frames, channels, height, width = shape
        assert grid.shape == (height, width), f"frames {shape} on a grid {grid.shape}"
        modes = (height, width // 2 + 1)
        self.grid = grid
        self.freeze_mean = freeze_mean
        self.velocity = velocity
        self.bias = nn.Parameter(torch.zeros(frames, channels, *modes, dtype=torch.complex128))
        self.gain = (
            nn.Parameter(torch.zeros(channels, channels, *modes, dtype=torch.complex128)) if gain else None
        )

    def forward(self, frames_MCHW: Tensor) -> Tensor:
        """The corrected frames (M, C, H, W), float64."""
        frames_MCHW = frames_MCHW.double()
        change_MCHK: Tensor = self.bias
        if self.gain is not None:
            change_MCHK = change_MCHK + torch.einsum("cdhk,mdhk->mchk", self.gain, to_modes(frames_MCHW))
        if self.freeze_mean:
            free_HK = torch.ones(change_MCHK.shape[-2:], dtype=torch.float64, device=change_MCHK.device)
            # The mode of wave number 0 is the mean.
            free_HK[0, 0] = 0
            change_MCHK = change_MCHK * free_HK
        frames_MCHW = frames_MCHW + to_fields(change_MCHK, self.grid)
        return project_solenoidal(frames_MCHW, self.grid, self.velocity)
