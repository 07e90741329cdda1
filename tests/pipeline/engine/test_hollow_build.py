"""A hollow network takes no memory for weights, and is otherwise what it would be."""

import warnings

import torch
from torch import nn

from pelagos.models.context import Signature
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.engine.hollow_build import hollow_build, on_host


def scot() -> nn.Module:
    sizes = {"embed_dim": 8, "depths": (2, 1), "num_heads": (2, 2), "skip_connections": (1, 0)}
    return ScOTConfig.model_validate({**sizes, "window_size": 4}).build(
        Signature(("u",), ("u",), shape=(16, 16))
    )


def test_weights_take_no_memory_and_all_else_is_as_in_a_whole_network() -> None:
    whole = scot()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with hollow_build():
            hollow = scot()
            # A model's weights are for those who have room for them, without a word for each.
            hollow.load_state_dict(whole.state_dict())
    assert not said
    on_host(hollow)
    weights = dict(hollow.named_parameters())
    assert {name: p.shape for name, p in weights.items()} == {n: p.shape for n, p in whole.named_parameters()}
    assert all(parameter.untyped_storage().nbytes() == 4 for parameter in weights.values())
    for mine, theirs in zip(hollow.buffers(), whole.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    # Only within the context.
    assert not any(parameter.is_meta for parameter in scot().parameters())


def test_a_single_weight_can_be_viewed_as_bytes() -> None:
    with hollow_build():
        network = nn.Linear(3, 1)
    on_host(network)
    # As DeepSpeed does when it sends it.
    assert network.bias.data.contiguous().view(torch.uint8).tolist() == [0, 0, 0, 0]


def test_what_layers_share_they_share_still() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
            self.last.weight = self.first.weight

    with hollow_build():
        network = Tied()
    on_host(network)
    assert network.last.weight is network.first.weight
    assert len(list(network.parameters())) == 3
