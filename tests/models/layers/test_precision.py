"""Autocast on the CPU: bf16 where it pays, exact elsewhere; and gradients in float32 either way."""

import pytest
import torch

from pelagos.models.layers.precision import Linear


@pytest.mark.parametrize(
    ("rows", "dims", "dtype"), [(16, (384, 1536), torch.float32), (256, (192, 768), torch.bfloat16)]
)
def test_autocast_lowers_the_precision_of_layers_with_work_enough(
    rows: int, dims: tuple[int, int], dtype: torch.dtype
) -> None:
    layer = Linear(*dims)
    x = torch.randn(rows, dims[0])
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == dtype
    assert layer(x).dtype == torch.float32
    y.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_a_layer_too_thin_for_bf16_is_exact_under_autocast_whatever_it_is_given() -> None:
    layer = Linear(48, 48)
    x = torch.randn(1024, 48).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y, layer(x.float()))


def test_a_weight_kept_in_low_precision_is_not_stale_after_an_optimiser_step() -> None:
    layer = Linear(384, 1536).eval()
    x = torch.randn(16, 384)

    def low_precision() -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            out: torch.Tensor = layer(x)
        return out

    before = low_precision()
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(x).sum().backward()
    optimiser.step()
    assert low_precision().dtype == torch.bfloat16
    assert not torch.equal(low_precision(), before)
    torch.testing.assert_close(low_precision().float(), layer(x), rtol=0.02, atol=0.5)
