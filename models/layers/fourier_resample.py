"""Resampling of periodic fields by their Fourier coefficients.

Legend: B batch, C channels, H rows, W columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


def fourier_resample(x_BCHW: Tensor, size: Pair) -> Tensor:
    """Fields at another size by cutting or padding their spectrum; amplitudes are kept.

    Of an even size's two highest frequencies only the negative is kept or given, as in Poseidon's code.

    Raises:
        ValueError: an axis changes by an odd number, which would shift the spectrum.
    """
    old = (x_BCHW.shape[-2], x_BCHW.shape[-1])
    if any((n - m) % 2 for n, m in zip(size, old, strict=True)):
        raise ValueError(f"fields of {old} cannot be resampled to {size}: the difference is odd")
    # There is no transform of bfloat16.
    x_BCHW = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
    spectrum = torch.fft.fftshift(torch.fft.fft2(x_BCHW, norm="forward"), dim=(-2, -1))
    # A negative margin cuts.
    rows, columns = ((n - m) // 2 for n, m in zip(size, old, strict=True))
    spectrum = F.pad(spectrum, (columns, columns, rows, rows))
    resampled: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1)), norm="forward").real
    return resampled
