"""Blocks on skip connections: what they leave alone, what they commute with, and their formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.networks.scot.skips import ConvNeXtSkipBlock, ResNetSkipBlock

CONDITIONS_BK = torch.tensor([[0.2], [0.9]], dtype=torch.float64)


def tokens(batch: int = 2) -> Tensor:
    return torch.randn(batch, 8, 9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def convnext(layer_scale: float = 1.0) -> ConvNeXtSkipBlock:
    torch.manual_seed(0)
    return ConvNeXtSkipBlock(6, 1, 1e-5, layer_scale).double().eval()


def resnet() -> ResNetSkipBlock:
    torch.manual_seed(0)
    return ResNetSkipBlock(6).double().eval()


BLOCKS = pytest.mark.parametrize("block", [convnext(), resnet()], ids=["convnext", "resnet"])


@BLOCKS
@torch.no_grad()
def test_blocks_commute_with_shifts_along_periodic_axes(block: nn.Module) -> None:
    moved = block(tokens().roll((3, 2), (1, 2)), CONDITIONS_BK, (True, True))
    expected = block(tokens(), CONDITIONS_BK, (True, True)).roll((3, 2), (1, 2))
    assert_close(moved, expected, rtol=0, atol=1e-12)


@BLOCKS
@torch.no_grad()
def test_each_axis_has_its_own_boundary(block: nn.Module) -> None:
    moved = block(tokens().roll(2, 2), CONDITIONS_BK, (False, True))
    wrapped = block(tokens(), CONDITIONS_BK, (False, True))
    assert_close(moved, wrapped.roll(2, 2), rtol=0, atol=1e-12)
    assert (wrapped - block(tokens(), CONDITIONS_BK, (True, True)))[:, 0].abs().max() > 1e-6


@torch.no_grad()
def test_convnext_block_is_its_formula() -> None:
    block = convnext(0.5)
    x_BDhw = tokens().permute(0, 3, 1, 2)
    y_BhwD = block.norm(block.dwconv(x_BDhw).permute(0, 2, 3, 1), CONDITIONS_BK)
    expected = tokens() + 0.5 * block.pwconv2(F.gelu(block.pwconv1(y_BhwD)))
    assert_close(block(tokens(), CONDITIONS_BK, (False, False)), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_layer_scale_of_zero_is_the_identity() -> None:
    assert_close(convnext(0.0)(tokens(), CONDITIONS_BK, (True, False)), tokens(), rtol=0, atol=0)


@torch.no_grad()
def test_convnext_block_depends_on_conditions_and_resnet_block_does_not() -> None:
    for block, depends in ((convnext(), True), (resnet(), False)):
        first, second = (block(tokens(), c, (False, False)) for c in (CONDITIONS_BK, 2 * CONDITIONS_BK))
        assert bool((first - second).abs().max() > 1e-6) is depends


def test_resnet_block_normalises_over_the_batch_in_training() -> None:
    block = resnet().train()
    block(tokens(), CONDITIONS_BK, (True, True))
    assert block.bn1.num_batches_tracked is not None
    assert int(block.bn1.num_batches_tracked) == 1
    assert block.bn1.running_mean is not None
    assert block.bn1.running_mean.abs().max() > 0
