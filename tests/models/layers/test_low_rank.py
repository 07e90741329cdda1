"""Low-rank adapters: nothing at first, what they learnt merged exactly, and ordinary weights at the end."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.context import Signature
from pelagos.models.layers.low_rank import add_adapters, is_adapter, merged
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.fourier.sfno import SFNOConfig
from pelagos.models.networks.fourier.spherical_fno import SphericalFNOConfig
from pelagos.models.networks.network import NetworkConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.models.networks.unet import UNetConfig
from pelagos.preprocessing.errors import ConfigError

SIGNATURE = Signature(("u", "v"), ("u", "v"), shape=(16, 16))
NETWORKS: Mapping[str, tuple[NetworkConfig, tuple[str, ...]]] = {
    "scot": (
        ScOTConfig(
            embed_dim=8,
            depths=(1, 1),
            num_heads=(2, 2),
            skip_connections=(1, 0),
            window_size=4,
            position_bias_dim=8,
        ),
        ("attention", "mlp"),
    ),
    "fno": (FNOConfig(width=4, modes=(2, 2), num_layers=1), ("mlp",)),
    "spherical_fno": (SphericalFNOConfig(width=4, degrees=4, num_layers=1), ("mlp",)),
    "sfno": (SFNOConfig(width=4, modes=(2, 2, 2), num_layers=2), ("mlp",)),
    "unet": (UNetConfig(dims=(4, 8), depth=1), ("mlp",)),
    "fuxi": (FuXiConfig(dim=8, depth=1, num_heads=2, window=2, groups=2, patch=(2, 2)), ("attention", "mlp")),
    "wxformer": (
        WXFormerConfig(
            dims=(8, 8, 8, 8),
            depths=(1, 0, 0, 0),
            head_dim=8,
            local_window=2,
            global_window=2,
            kernels=((2, 4),) * 4,
        ),
        ("attention", "mlp"),
    ),
}


def output(net: nn.Module) -> Tensor:
    x_BCHW = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y_BCHW: Tensor = net(x_BCHW, torch.tensor([0.5]))
    return y_BCHW


@pytest.mark.parametrize("kind", NETWORKS)
def test_merged_weights_are_ordinary_and_give_the_same_outputs(kind: str) -> None:
    config, targets = NETWORKS[kind]
    net = config.build(SIGNATURE).eval()
    names, before = set(net.state_dict()), output(net)
    add_adapters(net, targets, rank=2, alpha=4.0)
    # Nothing is added before a step is taken.
    assert_close(output(net), before, rtol=0, atol=0)
    adapters = {name: p for name, p in net.named_parameters() if is_adapter(name)}
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert len(adapters) == 2 * len(frozen)
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.normal_(std=0.3)
    net.eval()  # as writes past autograd's counter have to be followed by
    after, plain = output(net), merged(net)
    assert set(plain.state_dict()) == names
    assert_close(output(plain), after, rtol=1e-6, atol=1e-6)
    assert (after - before).abs().max() > 1e-3
    fresh = config.build(SIGNATURE)
    fresh.load_state_dict(plain.state_dict())
    assert_close(output(fresh.eval()), output(plain), rtol=0, atol=0)


def test_a_weight_changes_by_no_more_than_the_rank() -> None:
    net = nn.Sequential(nn.Linear(6, 5))
    weight = net.state_dict()["0.weight"].clone()
    add_adapters(net, ["0"], rank=2, alpha=1.0)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        net(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
    change = merged(net).state_dict()["0.weight"] - weight
    assert int(torch.linalg.matrix_rank(change, atol=1e-6)) == 2


def test_a_network_without_adapters_is_published_as_it_is() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    assert merged(net) is net


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"lora.layers: a FNO has no layers of attention: choose others"):
        add_adapters(NETWORKS["fno"][0].build(SIGNATURE), ["mlp", "attention"], 2, 1.0)
