"""Padding against indexing by hand; convolutions against the symmetries that padding must keep."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.layers.padding import convolve, pad


@pytest.fixture(name="x_BCHW")
def fields() -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("amounts", [(1, 2), (0, 3), (4, 4), (9, 6)])
def test_periodic_axes_go_on_from_the_other_side_however_far(
    x_BCHW: Tensor, amounts: tuple[int, int]
) -> None:
    before, after = amounts
    padded = pad(x_BCHW, amounts, amounts, (True, True))
    rows = [i % 4 for i in range(-before, 4 + after)]
    columns = [j % 5 for j in range(-before, 5 + after)]
    assert_close(padded, x_BCHW[:, :, rows][:, :, :, columns], rtol=0, atol=0)


def test_other_axes_are_filled_with_zeros_or_edges(x_BCHW: Tensor) -> None:
    zeros = pad(x_BCHW, (2, 1), (0, 3), (False, False))
    assert zeros.shape == (2, 3, 7, 8)
    assert_close(zeros[:, :, 2:6, :5], x_BCHW, rtol=0, atol=0)
    assert int(zeros.count_nonzero()) == x_BCHW.numel()
    edges = pad(x_BCHW, (2, 1), (0, 3), (False, False), "edge")
    assert_close(edges, nn.ReplicationPad2d((0, 3, 2, 1))(x_BCHW), rtol=0, atol=0)


def test_each_axis_has_its_own_boundary(x_BCHW: Tensor) -> None:
    padded = pad(x_BCHW, (1, 1), (1, 1), (False, True), "edge")
    assert_close(padded[:, :, 1:-1, 0], x_BCHW[..., -1], rtol=0, atol=0)
    assert_close(padded[:, :, 0, 1:-1], x_BCHW[:, :, 0], rtol=0, atol=0)


def test_axes_can_be_any_of_a_tensors(x_BCHW: Tensor) -> None:
    last = pad(x_BCHW, (1, 0), (0, 2), (True, False))
    middle = pad(x_BCHW.permute(0, 2, 3, 1), (1, 0), (0, 2), (True, False), axes=(1, 2))
    assert_close(middle.permute(0, 3, 1, 2), last, rtol=0, atol=0)


def test_periodic_convolution_commutes_with_shifts(x_BCHW: Tensor) -> None:
    conv = nn.Conv2d(3, 3, 5, dtype=torch.float64)

    def apply(x: Tensor) -> Tensor:
        return convolve(conv, x, periodic=(True, True), fill="zeros")

    assert_close(apply(x_BCHW.roll((1, 2), (2, 3))), apply(x_BCHW).roll((1, 2), (2, 3)), rtol=0, atol=1e-12)


def test_convolution_with_edge_values_keeps_a_constant_field() -> None:
    conv = nn.Conv2d(1, 1, 5, bias=False, dtype=torch.float64)
    y_BCHW = convolve(conv, torch.ones(1, 1, 3, 4, dtype=torch.float64), periodic=(False, True), fill="edge")
    assert_close(y_BCHW, conv.weight.sum().expand(1, 1, 3, 4), rtol=0, atol=1e-12)


def test_convolution_with_zeros_is_pytorchs() -> None:
    conv = nn.Conv2d(3, 2, 3, padding=1, dtype=torch.float64)
    x_BCHW = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    assert_close(convolve(conv, x_BCHW, periodic=(False, False), fill="zeros"), conv(x_BCHW), rtol=0, atol=0)
