"""Operations of a network are counted as training makes them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pelagos.models.context import Signature
from pelagos.models.networks.network import NetworkConfig
from pelagos.pipeline.runs.model_folder import context_of, signature_of
from pelagos.pipeline.training.network_cost import UNKNOWN, network_cost
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable

FINE = Grid(kind="cartesian", y=np.arange(16.0), x=np.arange(16.0))
LAYOUT = Layout("d", (Variable(name="u"),), (Variable(name="u"),), FINE)
NETWORKS: dict[str, dict[str, Any]] = {
    "scot": {
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "skip_connections": [1, 0],
        "window_size": 4,
        "patch_size": 2,
    },
    "fuxi": {"dim": 32, "depth": 2, "num_heads": 4, "window": 4, "patch": (2, 2), "groups": 4},
    "fno": {"width": 8, "modes": [4, 4], "num_layers": 2},
    "spherical_fno": {"width": 8, "degrees": 4, "num_layers": 2},
    "unet": {},
    "wxformer": {},
    "sfno": {},
}


def network_of(kind: str, signature: Signature, **more: Any) -> nn.Module:
    config: NetworkConfig = TypeAdapter(NetworkConfig).validate_python(
        {"kind": kind, **NETWORKS[kind], **more}
    )
    return config.build(signature)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_without_memory_is_counted_like_one_with_it(kind: str) -> None:
    """`pelagos check` counts the one, training the other, which CPUs compute by operations of their own."""
    signature = signature_of([LAYOUT])
    counted = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            counted.append(network_cost(network_of(kind, signature), signature, [LAYOUT], 3).flops["d"])
    assert counted[0] == pytest.approx(counted[1])
    assert counted[0] > 0


@pytest.mark.parametrize("kind", ["scot", "fuxi"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_call_is_counted_as_training_makes_it(kind: str, checkpointing: bool) -> None:
    """Without gradients attention is done by other operations, and nothing is computed again."""
    layouts = [replace(LAYOUT, dataset=name) for name in "de"]
    signature, lead_time = signature_of(layouts), torch.ones(3)
    network = network_of(kind, signature, checkpointing=checkpointing)
    context = context_of(signature, layouts[0], torch.empty(3, 0), lead_time)
    products = {torch.ops.aten.addmm_: UNKNOWN[torch.ops.aten.addmm_]}
    with FlopCounterMode(display=False, custom_mapping=products) as counter:
        network(torch.zeros(3, 1, 16, 16), lead_time, context)
    counted = network_cost(network, signature, layouts, 3).flops
    assert 3 * counted["d"] == pytest.approx(counter.get_total_flops())
    assert counted["e"] == counted["d"] > 0


def test_parameters_are_counted_and_the_mode_stays() -> None:
    network = nn.Sequential(nn.Linear(2, 3)).train()
    assert network_cost(network, signature_of([LAYOUT]), [], 3).parameters == 9
    assert network.training


def test_what_samples_share_is_counted_once_a_call() -> None:
    class Shared(nn.Module):
        """A product for each sample, and one for the call."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(16))

        def forward(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
            return x @ (self.weight @ self.weight)

    signature = signature_of([LAYOUT])
    sample, call = 2 * 16**3, 2 * 16**3
    for samples in (1, 4):
        assert network_cost(Shared(), signature, [LAYOUT], samples).flops["d"] == sample + call / samples
