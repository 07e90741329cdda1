"""CrossFormer's parts: what attention sees, position biases, embeddings, and the sizes of grids."""

from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.networks.credit.crossformer import (
    CrossEmbedding,
    CrossFormer,
    PositionBias,
    ShortLongAttention,
    StridedConv2d,
)


def attention(*, long: bool) -> ShortLongAttention:
    torch.manual_seed(0)
    return ShortLongAttention(8, 4, 2, long=long, published=False).double()


@pytest.mark.parametrize("window", [1, 2, 3])
def test_position_bias_is_a_function_of_the_offset(window: int) -> None:
    bias = PositionBias(8, window, published=False).double()
    table = bias()
    for query in range(window**2):
        for key in range(window**2):
            offset = [query // window - key // window, query % window - key % window]
            expected = bias.layers(torch.tensor(offset, dtype=torch.float64))[0]
            assert_close(table[query, key], expected, rtol=0, atol=1e-14)


def test_published_position_bias_reads_another_offsets_value() -> None:
    """credit.md 1.3: entry k of a (2w-1)² table holds the value at (k // (2w+1) - w, k % (2w+1) - w)."""
    window, bias = 3, PositionBias(8, 3, published=True).double()
    table = bias()
    for query in range(window**2):
        for key in range(window**2):
            dy, dx = query // window - key // window, query % window - key % window
            entry = (dy + window - 1) * (2 * window - 1) + dx + window - 1
            read_at = [entry // (2 * window + 1) - window, entry % (2 * window + 1) - window]
            expected = bias.layers(torch.tensor(read_at, dtype=torch.float64))[0]
            assert_close(table[query, key], expected, rtol=0, atol=1e-14)


def test_position_bias_is_computed_once_in_evaluation_and_again_after_a_step() -> None:
    bias = PositionBias(8, 3, published=False).eval()
    with torch.no_grad():
        first = bias()
        assert bias() is first
        bias.get_parameter("layers.0.weight").add_(1)
        assert not torch.equal(bias(), first)


def seen(layer: ShortLongAttention) -> Tensor:
    """(6, 4): which cells the output at the first cell depends on."""
    x_BHWC = torch.randn(1, 6, 4, 8, dtype=torch.float64, requires_grad=True)
    layer(x_BHWC)[0, 0, 0].sum().backward()
    assert x_BHWC.grad is not None
    return x_BHWC.grad.abs().sum(-1)[0] > 0


def test_short_attention_sees_neighbours() -> None:
    expected = torch.zeros(6, 4, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(seen(attention(long=False)), expected)


def test_long_attention_sees_cells_spread_evenly() -> None:
    expected = torch.zeros(6, 4, dtype=torch.bool)
    expected[::3, ::2] = True
    assert torch.equal(seen(attention(long=True)), expected)


def test_attention_is_softmax_of_scaled_products_and_bias() -> None:
    layer = attention(long=False)
    x_BHWC = torch.randn(2, 2, 2, 8, dtype=torch.float64)
    qkv = layer.norm(x_BHWC).flatten(1, 2) @ layer.to_qkv.weight.flatten(1).T
    q, k, v = (rearrange(part, "b m (h d) -> b h m d", d=4) for part in qkv.chunk(3, -1))
    weights = torch.softmax(q @ k.mT / 2 + layer.dpb(), -1)
    out = layer.to_out(rearrange(weights @ v, "b h m d -> b m (h d)"))
    for no_grad in (False, True):
        with torch.set_grad_enabled(not no_grad):
            assert_close(layer(x_BHWC), out.view(2, 2, 2, 8), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kernel", "left", "right"), [(2, 0, 0), (3, 0, 1), (4, 1, 1), (5, 1, 2)])
def test_cross_embedding_pads_the_odd_cell_behind(kernel: int, left: int, right: int) -> None:
    """credit.md 8.10: of a total padding of kernel - stride the floor of a half comes first."""
    layer = CrossEmbedding(1, 1, [kernel], 2).double()
    x_BCHW = torch.randn(1, 1, 6, 10, dtype=torch.float64)
    padded = torch.nn.functional.pad(x_BCHW, (left, right, left, right))
    conv = layer.convs[0]
    assert isinstance(conv, StridedConv2d)
    expected = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, stride=2)
    assert expected.shape[-2:] == (3, 5)
    assert_close(layer(x_BCHW), expected, rtol=0, atol=1e-14)


def test_cross_embedding_halves_the_channels_from_kernel_to_kernel() -> None:
    layer = CrossEmbedding(3, 128, (32, 4, 16, 8), 2)
    found = [
        (conv.kernel_size[0], conv.out_channels)
        for conv in layer.convs.children()
        if isinstance(conv, StridedConv2d)
    ]
    assert found == [(4, 64), (8, 32), (16, 16), (32, 16)]


def body(**changes: Any) -> CrossFormer:
    arguments: dict[str, Any] = {
        "dims": (4, 8, 16, 32),
        "depths": (1, 1, 1, 1),
        "head_dim": 4,
        "local_windows": (3, 3, 3, 3),
        "global_windows": (4, 2, 2, 1),
        "kernels": ((4, 8), (2,), (2,), (2,)),
        "strides": (2, 2, 2, 2),
        "groups": 2,
    }
    return CrossFormer(2, 3, **(arguments | changes))


@pytest.mark.parametrize("decoder", ["pixel_shuffle", "transposed"])
def test_decoder_ends_at_sixteen_times_the_coarsest_grid(decoder: str) -> None:
    net = body(decoder=decoder)
    assert net(torch.randn(1, 2, 49, 97)).shape == (1, 3, 48, 96)


def test_pixel_shuffles_start_without_a_checkerboard() -> None:
    conv = body().up_block1.conv
    assert conv.bias is not None
    sub_grids = conv.weight.unflatten(0, (-1, 4))
    assert_close(sub_grids, sub_grids[:, :1].expand_as(sub_grids), rtol=0, atol=0)
    assert conv.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((40, 48), "40 rows with padding are 20 cells at stage 1, which windows of 3 do not divide"),
        ((48, 8), "8 columns with padding are 4 cells at stage 1, which windows of 3"),
        ((48, 50), "50 columns with padding are 25 cells at stage 1"),
    ],
)
def test_grids_that_windows_do_not_divide_are_errors(size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        body()(torch.zeros(1, 2, *size))


def test_grids_that_do_not_halve_are_errors() -> None:
    net = body(local_windows=(1, 1, 1, 1), global_windows=(1, 1, 1, 1))
    with pytest.raises(ValueError, match=r"50 rows with padding become \[25, 12, 6, 3\] cells"):
        net(torch.zeros(1, 2, 50, 48))


def test_checkpointing_with_dropout_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = body(checkpointing=checkpointing, dropouts=(0.2, 0.2)).double()
        torch.manual_seed(1)
        net(torch.ones(1, 2, 48, 48, dtype=torch.float64)).square().mean().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)
