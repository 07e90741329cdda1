"""Octaves: how much of a field is in waves of 1 to 2, 2 to 4, 4 to 8, ... to a side.

Shapes: B samples, C channels, H rows, W columns, K octaves; h and w of transforms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pelagos.models.layers.padding import Periodic
from pelagos.models.layers.weight_cache import cache_tensors


def octave_norms(field_BCHW: Tensor, periodic: Periodic) -> Tensor:
    """(B, C, K) the root mean square of what each octave of waves holds of a field; the first holds the mean as well.

    Octave n has from 2^n waves along the longer side to fewer than 2^(n + 1).
    """
    for axis, wraps in zip((-2, -1), periodic, strict=True):
        if not wraps:
            field_BCHW = torch.cat([field_BCHW, field_BCHW.flip(axis)], axis)
    modes_BChw = torch.fft.rfft2(field_BCHW, norm="forward")
    energy_BChw = modes_BChw.real.square() + modes_BChw.imag.square()
    height, width = field_BCHW.shape[-2:]
    (share_Khw,) = _octaves(height, width, periodic, field_BCHW.device, energy_BChw.dtype)
    energy_BCK = energy_BChw.flatten(-2) @ share_Khw.flatten(1).T
    # The root of zero has no finite gradient.
    there_BCK = energy_BCK > 0
    return torch.where(there_BCK, torch.where(there_BCK, energy_BCK, 1).sqrt(), 0)


@cache_tensors
def _octaves(
    rows: int, columns: int, periodic: Periodic, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor]:
    """(K, h, w) how often each mode of a real transform counts in each octave."""
    sides = [
        length if wraps else length // 2 for length, wraps in zip((rows, columns), periodic, strict=True)
    ]
    y_h1, x_w = torch.fft.fftfreq(rows)[:, None], torch.fft.rfftfreq(columns)
    waves_hw = max(sides) * torch.hypot(y_h1, x_w.abs())
    # A margin for rounding, which must not put 2^n waves into the octave before.
    octave_hw = (waves_hw.clamp(min=1) * (1 + 1e-6)).log2().floor().long()
    # Modes of negative wave numbers along x are not kept: those of the others stand for two.
    own = torch.arange(len(x_w)).mul(2).remainder(columns) == 0
    times_w = torch.where(own, 1.0, 2.0)
    return ((F.one_hot(octave_hw).permute(2, 0, 1) * times_w).to(device, dtype),)
