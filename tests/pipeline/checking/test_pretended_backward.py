"""A pretended backward pass gives the gradients of PyTorch's own."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.layers.masked_attention import scaled_heads
from pelagos.pipeline.checking.pretended_backward import pretended_backward


class Mixed(nn.Module):
    """Broadcasts, views that are written to, a function in Python, a weight that is used twice and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.scale, self.unused = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))
        self.lengths = nn.Parameter(torch.rand(2, 1, 1))

    def block(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers[1](self.layers[0](x).relu()) * self.scale
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.block, self.block(x), use_reentrant=False)
        heads = scaled_heads(x, self.lengths).transpose(1, 2).flatten(2)
        parts = list(self.layers[2](heads).unbind(1))
        out = torch.stack(parts[::-1]).clone()
        out[0] *= 2
        return out.double().square().mean() + x.detach().mean()


def test_gradients_are_those_of_the_engine() -> None:
    torch.manual_seed(0)
    network, x = Mixed(), torch.rand(4, 6, 8)
    network(x).backward()
    expected = {name: weight.grad for name, weight in network.named_parameters()}
    network.zero_grad()
    for _ in range(2):
        pretended_backward(network(x))
    assert expected.pop("unused") is None
    assert network.unused.grad is None
    for name, gradient in expected.items():
        assert gradient is not None
        found = network.get_parameter(name).grad
        # Two passes, in which sums have another order.
        torch.testing.assert_close(found, 2 * gradient, rtol=1e-5, atol=1e-7)


def test_what_is_saved_goes_with_the_pass() -> None:
    x = torch.rand(1000, requires_grad=True)
    loss = (x.exp().sin()).sum()
    pretended_backward(loss)
    assert loss.grad_fn is None
