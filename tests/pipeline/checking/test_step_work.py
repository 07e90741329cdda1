"""What a micro-batch takes is what it was counted to take by hand, and recomputing takes less."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pelagos.models.context import Signature
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.pipeline.checking.pretended_gpu import WorkMeter, pretended_gpu
from pelagos.pipeline.checking.step_work import (
    MicroBatchWork,
    StepWork,
    can_checkpoint,
    checkpoints,
    switch_checkpointing,
    without_values,
)

CREDIT = WXFormerConfig(
    form="credit",
    dims=(128, 256, 512, 1024),
    depths=(2, 2, 8, 2),
    local_window=10,
    global_window=(10, 5, 2, 1),
)
"""CREDIT's network of 0.28 degrees: 640 x 1280 points, padded to 800 x 1440."""


@pytest.fixture(scope="module")
def wxformer() -> nn.Module:
    names = tuple(f"v{number}" for number in range(74))
    with torch.device("meta"):
        return CREDIT.build(Signature(names, names[:71]))


def saved(network: nn.Module, *, checkpointing: bool) -> float:
    """Bytes that live between the passes, for one sample in bf16; without casts of weights, which samples share."""
    with pretended_gpu() as device:
        network = without_values(network, device).train()
        switch_checkpointing(network, checkpointing)
        x, lead = torch.empty(1, 74, 800, 1440, device=device), torch.ones(1, device=device)
        with WorkMeter() as meter:
            for held in (x, *network.parameters(), *network.buffers()):
                meter.leave_out(held)
            with torch.autocast(device.type, torch.bfloat16):
                out = network(x, lead)
            casts = 0 if checkpointing else 2 * sum(weight.numel() for weight in network.parameters())
            assert out.shape == (1, 71, 800, 1440)
            graph = out.grad_fn  # which holds what is saved, when the output has gone
            del out
            assert graph is not None
            return float(meter.now - casts)


@pytest.mark.parametrize(("checkpointing", "by_hand"), [(False, 18.4e9), (True, 3.3e9)])
def test_activations_of_credits_wxformer_are_as_counted_by_hand(
    wxformer: nn.Module, checkpointing: bool, by_hand: float
) -> None:
    assert can_checkpoint(wxformer)
    assert saved(wxformer, checkpointing=checkpointing) == pytest.approx(by_hand, rel=0.05)
    assert not checkpoints(wxformer)


def test_work_grows_with_the_samples_beside_what_is_always_there() -> None:
    one = MicroBatchWork(activations=5.0, peak=7.0, flops=2.0, kernels=10.0)
    four = replace(one, activations=11.0, peak=13.0, flops=8.0)
    work = StepWork((1, 4), (one, four))
    assert [work.of(1), work.of(4)] == [one, four]
    assert work.constant == 3.0
    assert work.of(8).activations == 19.0
    assert work.of(8).kernels == 10.0
