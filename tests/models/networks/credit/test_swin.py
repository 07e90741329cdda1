"""Swin V2 stages are timm's in outputs, gradients and names of weights."""

import pytest
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2Stage
from torch.testing import assert_close

from pelagos.models.networks.credit.swin import CosineAttention, SwinStage


def stage(window: tuple[int, int], *, checkpointing: bool = False) -> SwinStage:
    torch.manual_seed(0)
    net = SwinStage(8, 2, 2, window, checkpointing=checkpointing)
    # Zero at the start, these two would hide how they are used.
    for name, parameter in net.named_parameters():
        if name.endswith(("q_bias", "v_bias")):
            torch.nn.init.normal_(parameter)
    return net.double()


@pytest.mark.parametrize(
    ("size", "window"),
    [((6, 9), (3, 3)), ((4, 8), (4, 4)), ((8, 4), (4, 4)), ((4, 4), (4, 4)), ((6, 4), (3, 2))],
)
@pytest.mark.parametrize("gradients", [True, False])
def test_stage_is_timms(size: tuple[int, int], window: tuple[int, int], gradients: bool) -> None:
    net = stage(window)
    reference = SwinTransformerV2Stage(8, 8, size, 2, 2, window)
    reference.load_state_dict(net.float().state_dict(), strict=True)
    net, reference = net.double(), reference.double()
    x_BHWC = torch.randn(3, *size, 8, dtype=torch.float64)
    with torch.set_grad_enabled(gradients):
        assert_close(net(x_BHWC), reference(x_BHWC), rtol=0, atol=1e-12)


def test_gradients_are_timms() -> None:
    net = stage((3, 3))
    reference = SwinTransformerV2Stage(8, 8, (6, 9), 2, 2, (3, 3))
    reference.load_state_dict(net.float().state_dict(), strict=True)
    net, reference = net.double(), reference.double()
    x_BHWC = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    for network in (net, reference):
        network(x_BHWC).square().sum().backward()
    expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
    assert_close({n: p.grad for n, p in net.named_parameters()}, expected, rtol=1e-9, atol=1e-9)


def test_position_bias_is_kept_in_evaluation_and_follows_the_weights() -> None:
    attention = stage((3, 3)).eval().get_submodule("blocks.0.attn")
    assert isinstance(attention, CosineAttention)
    with torch.no_grad():
        first = attention.position_bias()
        assert attention.position_bias() is first
        next(attention.cpb_mlp.parameters()).mul_(2)
        assert not torch.equal(attention.position_bias(), first)


def test_checkpointing_changes_nothing() -> None:
    x_BHWC = torch.randn(2, 6, 6, 8, dtype=torch.float64)
    results = []
    for checkpointing in (False, True):
        net = stage((3, 3), checkpointing=checkpointing)
        y_BHWC = net(x_BHWC)
        y_BHWC.square().sum().backward()
        results.append((y_BHWC, [parameter.grad for parameter in net.parameters()]))
    assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)
