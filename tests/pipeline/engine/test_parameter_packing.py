"""Packed parameters: the network computes what it did, and its gradients arrive in one partition."""

import pytest
import torch
from torch import Tensor, nn

from pelagos.models.context import Context, Signature
from pelagos.models.networks.scot.scot import ScOT, ScOTConfig
from pelagos.pipeline.engine.parameter_packing import ALIGNMENT, ParameterPacking
from pelagos.pipeline.training.optimizer import OptimizerConfig

VARIABLES = ("velocity_x", "velocity_y")
CONTEXT = Context(inputs=(0, 1), outputs=(0, 1), residual=(0, 1), periodic=(True, True))


def scot(*, checkpointing: bool = False) -> ScOT:
    torch.manual_seed(0)
    sizes = {"embed_dim": 8, "depths": (2, 1), "num_heads": (2, 2), "skip_connections": (1, 0)}
    config = ScOTConfig.model_validate({**sizes, "window_size": 4, "checkpointing": checkpointing})
    return config.build(Signature(VARIABLES, VARIABLES, shape=(16, 16)))


def loss(network: nn.Module) -> Tensor:
    x_BCHW = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    out: Tensor = network(x_BCHW, torch.tensor([0.5, 1.0]), CONTEXT)
    return out.square().mean()


def gradients(packing: ParameterPacking) -> dict[str, Tensor]:
    """By name, of the packed parameters that have one."""
    return {
        member.name: flat.grad[member.offset : member.offset + member.size]
        for flat, members in zip(packing.flats, packing.vectors, strict=True)
        if flat.grad is not None
        for member in members
    }


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("largest", [1, 2000, float("inf")])
def test_packed_parameters_get_the_networks_gradients(largest: float, checkpointing: bool) -> None:
    plain, packed = scot(), scot(checkpointing=checkpointing)
    packing = ParameterPacking(packed, OptimizerConfig().build(packed).param_groups, largest)
    packing.link()
    loss(plain).backward()
    with packing.unpacked():
        loss(packed).backward()
    found = gradients(packing)
    wanted = {name: p.grad for name, p in plain.named_parameters()}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], grad.flatten()) for name, grad in wanted.items() if grad is not None)
    assert all(p.grad is None and isinstance(p, nn.Parameter) for p in packed.parameters())


@pytest.mark.parametrize("largest", [1, 2000])
def test_packs_are_no_larger_than_asked_unless_a_parameter_is(largest: int) -> None:
    network = scot()
    count = len(list(network.parameters()))
    packing = ParameterPacking(network, OptimizerConfig().build(network).param_groups, largest)
    assert all(len(v) == 1 or sum(member.size for member in v) <= largest for v in packing.vectors)
    assert sum(map(len, packing.vectors)) == count
    assert all(member.offset % ALIGNMENT == 0 for vector in packing.vectors for member in vector)


def test_a_weight_that_two_layers_share_gets_both_gradients_and_one_that_is_not_used_gets_zeros() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.idle, self.last = (nn.Linear(3, 3, bias=False) for _ in range(3))
            self.last.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.first(x).tanh())
            return out.sum()

    network = Tied()
    network(torch.eye(3)).backward()
    assert network.first.weight.grad is not None
    wanted = network.first.weight.grad.flatten()
    packing = ParameterPacking(network, [{"params": list(network.parameters())}])
    packing.link()
    with packing.unpacked():
        network(torch.eye(3)).backward()
    found = gradients(packing)
    assert torch.equal(found["first.weight"], wanted)
    assert not found["idle.weight"].any()
    assert network.last.weight is network.first.weight


def test_the_networks_own_parameters_are_back_after_a_failure() -> None:
    network = scot()
    mine = list(network.parameters())
    packing = ParameterPacking(network, OptimizerConfig().build(network).param_groups)
    packing.link()
    with pytest.raises(ZeroDivisionError), packing.unpacked():
        raise ZeroDivisionError
    assert all(a is b for a, b in zip(network.parameters(), mine, strict=True))
