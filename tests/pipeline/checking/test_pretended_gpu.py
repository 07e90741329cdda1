"""On a pretended GPU, tensors have the sizes that they would have, and networks find nothing left of them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pelagos.models.layers.device_constants import constant
from pelagos.pipeline.checking.pretended_backward import pretended_backward
from pelagos.pipeline.checking.pretended_gpu import WorkMeter, pretended_gpu

ROWS, DIM = 4096, 256
PRODUCT = 2 * ROWS * DIM * DIM


@pytest.mark.parametrize("bf16", [False, True])
def test_a_product_keeps_its_factors_in_the_type_it_is_computed_in(bf16: bool) -> None:
    size = 2 if bf16 else 4
    with pretended_gpu() as device:
        layer, x = nn.Linear(DIM, DIM, bias=False, device=device), torch.empty(ROWS, DIM, device=device)
        layer.weight.grad = torch.zeros_like(layer.weight)
        with WorkMeter() as meter:
            for held in (x, layer.weight, layer.weight.grad):
                meter.leave_out(held)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = layer(x).sum()
            # x in bf16; not the weight, since x needs no gradient.
            cast = size * ROWS * DIM if bf16 else 0
            assert meter.now == pytest.approx(cast, abs=2048)  # and the loss
            pretended_backward(loss)
            assert meter.now <= 2048
            # That of the forward pass, and the one for the weight.
            assert meter.flops == 2 * PRODUCT
            assert meter.peak >= cast + size * ROWS * DIM


def test_what_is_left_out_counts_for_nothing_even_if_it_was_counted() -> None:
    with pretended_gpu() as device, WorkMeter() as meter:
        x = torch.empty(1024, device=device)
        assert meter.now == 4096
        meter.leave_out(x)
        y = x.view(2, -1)
        y += 1
        assert meter.now == 0
        del x, y
        assert meter.now == 0


def test_attention_keeps_no_logits() -> None:
    with pretended_gpu() as device, WorkMeter() as meter:
        q = torch.empty(8, 4, 1024, 16, device=device, requires_grad=True)
        bias = torch.empty(1, 4, 1024, 1024, device=device, requires_grad=True)
        before = meter.now
        loss = F.scaled_dot_product_attention(q, q, q, bias, scale=1.0).sum()
        logits = 4 * 8 * 4 * 1024 * 1024
        assert meter.now - before < logits / 10
        pretended_backward(loss)
        assert q.grad is not None
        assert q.grad.shape == q.shape


def test_constants_that_networks_keep_have_values_afterwards() -> None:
    known = constant((3, 1), torch.device("cpu"))
    with pretended_gpu() as device:
        assert type(constant((3, 1), device)) is not torch.Tensor
    assert constant((3, 1), torch.device("cpu")).tolist() == known.tolist() == [3, 1]
