"""Resampling keeps waves that both grids carry, and their amplitudes."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.layers.fourier_resample import fourier_resample


def waves(height: int, width: int) -> Tensor:
    """(1, 2, height, width): a constant and waves of at most 3 periods, on a grid of any size."""
    y = torch.arange(height, dtype=torch.float64)[:, None] * 2 * math.pi / height
    x = torch.arange(width, dtype=torch.float64) * 2 * math.pi / width
    return torch.stack([2 + (3 * y).sin() * (2 * x).cos(), (y - 3 * x).cos()])[None]


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (16, 10), (32, 64)])
def test_waves_of_both_grids_are_the_same_on_either(size: tuple[int, int]) -> None:
    assert_close(fourier_resample(waves(16, 12), size), waves(*size), rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [(9, 11), (15, 21)])
def test_odd_sizes_are_served_where_the_difference_is_even(size: tuple[int, int]) -> None:
    assert_close(fourier_resample(waves(*size), (21, 31)), waves(21, 31), rtol=0, atol=1e-13)


def test_the_same_size_changes_nothing() -> None:
    x_BCHW = torch.randn(2, 3, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_close(fourier_resample(x_BCHW, (6, 10)), x_BCHW, rtol=0, atol=1e-14)


def test_going_to_a_finer_grid_and_back_keeps_every_resolved_wave() -> None:
    x_BCHW = torch.randn(1, 1, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_close(fourier_resample(fourier_resample(x_BCHW, (21, 19)), (7, 9)), x_BCHW, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [(9, 8), (8, 9)])
def test_odd_differences_are_errors_that_name_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"\(8, 8\).*\({size[0]}, {size[1]}\).*odd"):
        fourier_resample(torch.zeros(1, 1, 8, 8), size)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_precision_is_float32_at_least(dtype: torch.dtype, result: torch.dtype) -> None:
    assert fourier_resample(torch.zeros(1, 1, 8, 8, dtype=dtype), (4, 4)).dtype == result
