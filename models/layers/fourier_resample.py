"""Resampling of periodic fields by their Fourier coefficients.

Shapes: B batch, C channels, H rows, W columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pelagos.models.layers.padding import GridSize


def fourier_resample(x_BCHW: Tensor, size: GridSize) -> Tensor:
    """(B, C, H, W) to (B, C, *size) by cutting or padding the spectrum; waves keep their amplitude.

    An even axis keeps only the negative one of its two highest frequencies, as Poseidon's code does
    (Herde et al., 2024, arXiv:2405.19101).

    Raises:
        ValueError: an axis changes by an odd number of points, which would shift the spectrum.
    """
    old = (x_BCHW.shape[-2], x_BCHW.shape[-1])
    if any((n - m) % 2 for n, m in zip(size, old, strict=True)):
        raise ValueError(f"fields of {old} cannot be resampled to {size}: the difference is odd")
    # PyTorch has no transform of bfloat16.
    x_BCHW = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
    spectrum = torch.fft.fftshift(torch.fft.fft2(x_BCHW, norm="forward"), dim=(-2, -1))
    # A negative margin cuts.
    rows, columns = ((n - m) // 2 for n, m in zip(size, old, strict=True))
    spectrum = F.pad(spectrum, (columns, columns, rows, rows))
    resampled: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1)), norm="forward").real
    return resampled
