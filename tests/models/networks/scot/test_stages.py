"""Stages: the grids that they lead to, what they pass on, and blocks recomputed in the backward pass."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.networks.scot.attention import Tiling
from pelagos.models.networks.scot.patches import PatchMerging, PatchUnmerging
from pelagos.models.networks.scot.stages import (
    BlockSizes,
    DecoderStage,
    EncoderStage,
    ScOTBlock,
    Stages,
    apply_blocks,
)

SIZES = BlockSizes(num_conditions=1, mlp_ratio=2.0, qkv_bias=True, bias_dim=8, eps=1e-5)
CONDITIONS_BK = torch.tensor([[0.3], [0.8]], dtype=torch.float64)
PERIODIC = (False, True)


def tokens(dim: int = 4) -> Tensor:
    return torch.randn(2, 5, 6, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def block(dim: int = 4) -> ScOTBlock:
    torch.manual_seed(0)
    return ScOTBlock(dim, 2, Tiling(3), SIZES).double()


def test_a_block_keeps_the_shape_and_depends_on_the_conditions() -> None:
    with torch.no_grad():
        first, second = (block()(tokens(), c, PERIODIC) for c in (CONDITIONS_BK, 2 * CONDITIONS_BK))
    assert first.shape == tokens().shape
    assert (first - second).abs().max() > 1e-6


def test_a_block_whose_norms_are_zero_is_the_identity() -> None:
    """Each part is normalised before it is added, so that gains of zero switch it off."""
    part = block()
    with torch.no_grad():
        for norm in (part.layernorm_before, part.layernorm_after):
            for parameter in norm.parameters():
                parameter.zero_()
        assert_close(part(tokens(), CONDITIONS_BK, PERIODIC), tokens(), rtol=0, atol=0)


def test_recomputed_blocks_give_the_same_outputs_and_gradients() -> None:
    blocks = [block(), block()]
    results = []
    for checkpointing in (False, True):
        x_BhwD = tokens().requires_grad_()
        y_BhwD = apply_blocks(blocks, x_BhwD, CONDITIONS_BK, PERIODIC, checkpointing=checkpointing)
        (gradient,) = torch.autograd.grad(y_BhwD.square().sum(), x_BhwD)
        results.append((y_BhwD.detach(), gradient))
    assert_close(results[0], results[1], rtol=0, atol=0)


def test_an_encoder_stage_passes_its_blocks_output_on_and_halves_the_grid() -> None:
    downsample = PatchMerging(4, 1, 1e-5).double()
    stage = EncoderStage([block()], downsample, checkpointing=False)
    with torch.no_grad():
        y_BhwD, coarser = stage(tokens(), CONDITIONS_BK, PERIODIC)
        assert_close(y_BhwD, block()(tokens(), CONDITIONS_BK, PERIODIC), rtol=0, atol=0)
        expected = downsample(y_BhwD + tokens(), CONDITIONS_BK, PERIODIC)
    assert coarser.shape == (2, 3, 3, 8)
    assert_close(coarser, expected, rtol=0, atol=0)


def test_the_last_encoder_stage_stays_on_its_grid() -> None:
    with torch.no_grad():
        y_BhwD, same = EncoderStage([block()], None, checkpointing=False)(tokens(), CONDITIONS_BK, PERIODIC)
    assert same is y_BhwD


@pytest.mark.parametrize("grid", [(9, 12), (10, 11)])
def test_a_decoder_stage_comes_to_the_finer_grid(grid: tuple[int, int]) -> None:
    stage = DecoderStage([block()], PatchUnmerging(4, 1, 1e-5).double(), checkpointing=False)
    assert stage(tokens(), CONDITIONS_BK, PERIODIC, grid).shape == (2, *grid, 2)


def test_the_last_decoder_stage_stays_on_its_grid() -> None:
    with torch.no_grad():
        found = DecoderStage([block()], None, checkpointing=False)(tokens(), CONDITIONS_BK, PERIODIC, (5, 6))
        assert_close(found, block()(tokens(), CONDITIONS_BK, PERIODIC), rtol=0, atol=0)


def test_names_of_weights_are_the_published_ones() -> None:
    stages = Stages([EncoderStage([block()], None, checkpointing=False)])
    names = set(stages.state_dict())
    assert "layers.0.blocks.0.attention.self.query.weight" in names
    assert "layers.0.blocks.0.attention.output.dense.weight" in names
    assert "layers.0.blocks.0.intermediate.dense.bias" in names
    assert "layers.0.blocks.0.layernorm_after.bias.weight" in names
