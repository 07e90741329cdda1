"""How many kernels scOT starts on a GPU: with few samples, their number bounds its speed."""

import re
from functools import partial

import pytest
import torch
from torch import nn
from torch._inductor.utils import run_and_get_code

from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import ConditionalLayerNorm, Conditioned, project_conditions
from pelagos.models.networks.scot.attention import Tiling
from pelagos.models.networks.scot.scot import ScOT, ScOTConfig
from pelagos.models.networks.scot.skips import ConvNeXtSkipBlock
from pelagos.models.networks.scot.stages import BlockSizes, ScOTBlock
from tests.models.kernels import count_kernels, pretended_gpu

VARIABLES = ("density", "velocity_x", "velocity_y", "pressure")


DEPTH = 8  # blocks at each level of Poseidon-L's encoder and decoder


def largest(depth: int) -> ScOT:
    """Poseidon-L with so many of them."""
    config = ScOTConfig(embed_dim=192, depths=(depth,) * 4)
    return config.build(Signature(VARIABLES, VARIABLES, shape=(128, 128)))


def counted(monkeypatch: pytest.MonkeyPatch, *left_out: type[nn.Module]) -> int:
    """The kernels of a forward pass with two blocks at each level and those of some types left out."""
    with pretended_gpu(monkeypatch):
        network, fields, times = largest(2), torch.randn(2, 4, 128, 128), torch.rand(2)
        for modules in network.modules():
            if isinstance(modules, nn.ModuleList):
                for number, module in enumerate(modules):
                    if isinstance(module, left_out):
                        modules[number] = Nothing()
        network(fields, times)  # makes the tables of sizes that later calls find
        return count_kernels(monkeypatch, partial(network, fields, times)).total()


class Nothing(nn.Module):
    """A block that returns what it is given."""

    def norms(self) -> tuple[nn.Module, ...]:
        """None."""
        return ()

    def forward(self, x_BhwD: torch.Tensor, *_: object) -> torch.Tensor:
        """The same tensor."""
        return x_BhwD


def test_a_forward_pass_of_the_largest_starts_few_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = counted(monkeypatch, ScOTBlock)
    assert beside + DEPTH // 2 * (counted(monkeypatch) - beside) <= 3100


@pytest.mark.slow
def test_compiled_blocks_of_the_largest_start_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, shifted = (
        ScOTBlock(16, 2, Tiling(4, shift), BlockSizes(1, 4.0, True, 8, 1e-5)) for shift in (False, True)
    )
    # On the finest level windows are parts of the grid, on the others they are the grid.
    blocks = 6 * DEPTH * compiled(plain, 4) + 2 * DEPTH * compiled(shifted, 8)
    blocks += 6 * compiled(ConvNeXtSkipBlock(16, 1, 1e-5, 0.1), 8)
    assert blocks + counted(monkeypatch, ScOTBlock, ConvNeXtSkipBlock) <= 1500


def compiled(block: nn.Module, side: int) -> int:
    """The kernels that PyTorch's compiler leaves of a block, in float32, on the CPU: their number is a GPU's."""
    assert isinstance(block, Conditioned)
    norms = [norm for norm in block.norms() if isinstance(norm, ConditionalLayerNorm)]
    torch.compiler.reset()
    block.compile(dynamic=False)
    with torch.no_grad():
        conditions = tuple(project_conditions(norms, torch.rand(2, 1)))
        _, [*_, code] = run_and_get_code(block, torch.randn(2, side, side, 16), conditions, (False, False))
    called = code[code.index("def call(") :]
    return len(
        re.findall(r"^ +(?:\w+ = )?(?:extern_kernels\.|cpp_fused|torch\.ops\.)\S*\(", called, re.MULTILINE)
    )
