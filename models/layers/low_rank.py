"""Low-rank adapters: a weight as it was, plus a product of two thin matrices that alone are trained.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022 (arXiv:2106.09685), section 4.1.

Shapes: E rows and D columns of a weight seen as a matrix, R the rank.
"""

import math
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pelagos.preprocessing.errors import ConfigError

_ADAPTER = re.compile(r"\.lora_(?:up|down)$")
# What attention and MLPs are called in the networks here, after the references whose weights they load.
TARGETS = {
    "attention": re.compile(
        r"\.attention\.(?:self\.(?:query|key|value)|output\.dense)$|\.attn\.(?:qkv|proj)$|\.to_(?:qkv|out)$"
    ),
    "mlp": re.compile(
        r"\.blocks\.\d+\.(?:intermediate|output)\.dense$|\.pwconv[12]$|\.(?:widen|narrow)$|\bmlp\."
        r"|\.layers\.\d+\.[13]\.layers\.[14]$"
    ),
}
"""The names of the layers of attention and of MLPs."""


class LowRank(nn.Module):
    """The sum of a weight and a matrix of low rank; at first the weight itself."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = len(weight), math.prod(weight.shape[1:])
        rank = min(rank, rows, columns)
        self.factor = alpha / rank
        # As in the paper: one matrix random, the other zero, so that training starts from the weight.
        self.lora_down = nn.Parameter(weight.new_empty(rank, columns))
        self.lora_up = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """(E, D), or a kernel that is one as a matrix, to the same shape."""
        return torch.add(weight, (self.lora_up @ self.lora_down).view_as(weight), alpha=self.factor)


def is_adapter(name: str) -> bool:
    """Whether a weight of this name belongs to an adapter."""
    return _ADAPTER.search(name) is not None


def adapted_layers(network: nn.Module, target: str) -> Iterator[tuple[nn.Module, str]]:
    """Each layer that adapters are for, and what its weight is called there.

    Args:
        network: a network without adapters.
        target: a key of `TARGETS`, or a pattern of the names of layers.
    """
    for name, module in network.named_modules():
        pattern = TARGETS.get(target)
        meant = pattern.search(name) if pattern else fnmatchcase(name, target)
        if meant and _is_matrix(module):
            # A layer with a spectral norm divides what it keeps under another name.
            yield module, "weight" if "weight" in module._parameters else "weight_orig"


def _is_matrix(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return True
    return isinstance(module, nn.Conv2d | nn.Conv3d) and module.groups == 1 and set(module.kernel_size) == {1}


def add_adapters(network: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> None:
    """Give the chosen layers adapters, in place, and freeze what these are added to.

    Args:
        network: a network without adapters.
        targets: as of `adapted_layers`.
        rank: of what is added to a weight; no higher than the weight's own.
        alpha: the factor of the product, times the rank.

    Raises:
        ConfigError: one of the targets fits no layer.
    """
    found: dict[nn.Module, str] = {}
    for target in targets:
        if not (layers := dict(adapted_layers(network, target))):
            raise ConfigError(
                f"lora.layers: a {type(network).__name__} has no layers of {target}: choose others, or linear layers by"
                " a pattern of their names"
            )
        found |= layers
    for module, key in found.items():
        weight = module._parameters[key]
        assert weight is not None
        weight.requires_grad_(False)
        parametrize.register_parametrization(module, key, LowRank(weight, rank, alpha))


def merged(network: nn.Module) -> nn.Module:
    """A copy of the network without adapters, whose weights hold what they added; itself where it has none."""
    if not any(isinstance(module, LowRank) for module in network.modules()):
        return network
    copy = deepcopy(network)
    for module in list(copy.modules()):
        if parametrize.is_parametrized(module):
            kinds = module.parametrizations
            assert isinstance(kinds, nn.ModuleDict)
            for key in list(kinds):
                parametrize.remove_parametrizations(module, key, leave_parametrized=True)
    return copy.requires_grad_()
