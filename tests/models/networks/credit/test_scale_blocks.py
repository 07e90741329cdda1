"""Blocks that halve and double a grid: sizes, residuals, and a start without a checkerboard."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pelagos.models.networks.credit.scale_blocks import (
    DownBlock,
    ShuffleUpBlock,
    TransposedUpBlock,
    add_residual,
    shuffle_convolution,
)


@pytest.mark.parametrize(("size", "expected"), [((8, 6), (4, 3)), ((7, 5), (4, 3)), ((1, 2), (1, 1))])
def test_halving_rounds_up(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert DownBlock(4, 6, 2)(torch.randn(2, 4, *size)).shape == (2, 6, *expected)


@pytest.mark.parametrize("block", [TransposedUpBlock(4, 6, 2), ShuffleUpBlock(4, 6, 2)])
def test_doubling_is_exact(block: nn.Module) -> None:
    assert block(torch.randn(2, 4, 3, 5)).shape == (2, 6, 6, 10)


def test_a_residual_is_added_to_the_input() -> None:
    layer, x = nn.Linear(3, 3), torch.randn(2, 3)
    assert_close(add_residual(x, layer), x + layer(x), rtol=0, atol=0)


def test_blocks_whose_convolutions_are_zero_scale_alone() -> None:
    block, x_BCHW = DownBlock(4, 6, 2).double(), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    for parameter in block.b.parameters():
        nn.init.zeros_(parameter)
    assert_close(block(x_BCHW), block.conv(x_BCHW), rtol=0, atol=0)


def test_a_pixel_shuffle_starts_as_a_repetition_of_each_cell() -> None:
    conv = shuffle_convolution(3, 2)
    fine = nn.functional.pixel_shuffle(conv(torch.randn(1, 3, 4, 5)), 2)
    coarse = fine[..., ::2, ::2]
    assert_close(fine, coarse.repeat_interleave(2, -1).repeat_interleave(2, -2), rtol=0, atol=1e-6)
    assert conv.bias is not None
    assert not conv.bias.any()


def test_names_of_weights_are_the_published_ones() -> None:
    assert {"conv.weight", "conv.bias", "b.0.weight", "b.1.bias", "b.3.weight"} <= set(
        DownBlock(4, 6, 2).state_dict()
    )
    assert "sharp.weight" in ShuffleUpBlock(4, 6, 2).state_dict()
