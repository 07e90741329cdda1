"""Fields whose rows several processes share are interpolated as those of one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pelagos.models.layers.row_interpolation import interpolated
from pelagos.models.layers.row_layout import RowLayout
from tests.models.row_threads import together


@pytest.mark.parametrize("rows", [14, 10, 5])
def test_values_and_gradients_are_those_of_one_process(rows: int) -> None:
    x = torch.randn(2, 3, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = x.clone().requires_grad_()
    expected = F.interpolate(whole, (rows, 6), mode="bilinear", align_corners=False)
    expected.sin().sum().backward()
    assert whole.grad is not None

    def work(layout: RowLayout) -> tuple[Tensor, Tensor]:
        before, after = layout.of(7), layout.of(rows)
        own = x[:, :, before.own.start : before.own.stop].clone().requires_grad_()
        y = interpolated(own, before, after, 6)
        y.sin().sum().backward()
        assert own.grad is not None
        return y.detach(), own.grad

    found, gradients = zip(*together(3, work), strict=True)
    torch.testing.assert_close(torch.cat(found, 2), expected.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.cat(gradients, 2), whole.grad, rtol=0, atol=1e-13)
