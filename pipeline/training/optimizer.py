"""Optimiser: AdamW, with parameter groups by role."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from pelagos.models.layers.conditioning import ConditionalLayerNorm
from pelagos.models.networks.fourier.fno import FNO
from pelagos.models.networks.scot.scot import ScOT
from pelagos.models.networks.unet import UNet
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

ParameterRole = Literal["embedding", "norm", "body"]
_READS_AND_WRITES: dict[type[nn.Module], tuple[str, ...]] = {
    ScOT: ("embeddings.", "patch_recovery."),
    FNO: ("lifting.", "projection."),
    UNet: ("stem.", "head."),
}
"""How the names begin of weights that read and write variables, for networks that tell them from the body."""
_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a role, a learning rate and a weight decay.

    Attributes:
        role: what the parameters do in the network.
        rate: their highest learning rate.
        decay: their weight decay.
        parameters: parameters by name.
    """

    role: ParameterRole
    rate: float
    decay: float
    parameters: dict[str, nn.Parameter]

    def __str__(self) -> str:
        numbers = sum(parameter.numel() for parameter in self.parameters.values())
        return (
            f"{self.role}, learning rate up to {self.rate:g}, weight decay {self.decay:g}:"
            f" {numbers} parameters in {len(self.parameters)} tensors"
        )


class OptimizerConfig(Config):
    """AdamW (arXiv 1711.05101) with a learning rate for each role.

    Attributes:
        groups: which parameters are decayed: `pelagos` decays matrices and kernels; `poseidon`, for scOT alone, what
            Poseidon's code decays, which goes by names.
        lr: the highest learning rate of the body.
        lr_embedding: that of the layers that read and write variables, of scot, fno and unet; `lr` by default.
        lr_norm: that of norms and their conditioning; `lr` by default.
        weight_decay: the decay of parameters that are decayed.
        betas: the decays of the running means of the gradient and of its square.
        eps: what is added to the denominator.
    """

    groups: Literal["pelagos", "poseidon"] = "pelagos"
    lr: float = Field(default=1e-3, gt=0)
    lr_embedding: float | None = Field(default=None, gt=0)
    lr_norm: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)

    def build(self, network: nn.Module) -> torch.optim.AdamW:
        """The optimiser; each group has its role and, as `peak`, its highest learning rate.

        Raises:
            ConfigError: the groups are for another kind of network, or it has no layers that `lr_embedding` is for.
        """
        # The schedule scales `peak`, since `lr` is what it sets.
        groups = [
            {
                "params": list(group.parameters.values()),
                "role": group.role,
                "lr": group.rate,
                "peak": group.rate,
                "weight_decay": group.decay,
            }
            for group in self.parameter_groups(network)
        ]
        # Fused: one kernel for all tensors of a group.
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def parameter_groups(self, network: nn.Module) -> Iterator[ParameterGroup]:
        """The groups of `build`, without empty ones.

        Raises:
            ConfigError: the groups are for another kind of network, or it has no layers that `lr_embedding` is for.
        """
        self._check_embedding(network)
        rates = {"embedding": self.lr_embedding or self.lr, "norm": self.lr_norm or self.lr, "body": self.lr}
        members: dict[tuple[ParameterRole, bool], dict[str, nn.Parameter]] = {}
        for name, parameter, role, decayed in self._members(network):
            if parameter.requires_grad:
                members.setdefault((role, decayed), {})[name] = parameter
        for (role, decayed), parameters in sorted(members.items()):
            yield ParameterGroup(role, rates[role], self.weight_decay if decayed else 0.0, parameters)

    def _check_embedding(self, network: nn.Module) -> None:
        if self.lr_embedding is not None and not isinstance(network, tuple(_READS_AND_WRITES)):
            kinds = ", ".join(sorted(kind.__name__ for kind in _READS_AND_WRITES))
            raise ConfigError(
                f"optimizer.lr_embedding: {self.lr_embedding:g} is for {kinds}, whose layers that read and write"
                f" variables are known; of a {type(network).__name__} they are not: leave it out"
            )

    def _members(self, network: nn.Module) -> Iterator[tuple[str, nn.Parameter, ParameterRole, bool]]:
        """Name, parameter, role and whether it is decayed."""
        if self.groups == "poseidon":
            if not isinstance(network, ScOT):
                raise ConfigError(
                    f"optimizer.groups: poseidon goes by the names of scOT's weights, and the network is a"
                    f" {type(network).__name__}; take groups: pelagos, or a network of kind scot"
                )
            yield from _poseidon(network, apart=self.lr_embedding is not None)
            return
        convolved = {
            p for m in network.modules() if isinstance(m, _CONVOLUTIONS) for p in m.parameters(recurse=False)
        }
        prefixes = _prefixes(network, apart=self.lr_embedding is not None)
        for name, parameter in network.named_parameters():
            norm = "norm" in name
            # Of another layer's, a last axis of length 1 is a gain or bias in the shape of a kernel.
            wide = parameter.ndim > 2 and (parameter in convolved or parameter.shape[-1] > 1)
            yield (
                name,
                parameter,
                _role(name, prefixes, norm=norm),
                not norm and (parameter.ndim == 2 or wide),
            )


def _poseidon(network: ScOT, *, apart: bool) -> Iterator[tuple[str, nn.Parameter, ParameterRole, bool]]:
    """The groups of Poseidon's code (camlab-ethz/poseidon at b8fa28f); its paper describes others.

    Norms are not decayed, nor is any parameter with "bias" in its name, which includes the networks of position biases
    but not logit scales or layer scales. With a learning rate of their own (`apart`), the layers that read and write
    variables form one group, which is decayed, the norm of the embedding included.
    """
    norms: dict[nn.Parameter, bool] = {
        parameter: isinstance(module, ConditionalLayerNorm)
        for module in network.modules()
        if isinstance(module, ConditionalLayerNorm | nn.LayerNorm)
        for parameter in module.parameters()
    }
    for name, parameter in network.named_parameters():
        role = _role(name, _READS_AND_WRITES[ScOT], norm=norms.get(parameter, False))
        exempt = parameter in norms or "bias" in name
        yield name, parameter, role, not exempt or (apart and role == "embedding")


def _prefixes(network: nn.Module, *, apart: bool) -> tuple[str, ...]:
    """How the names of the weights of role `embedding` begin."""
    # Without a rate of their own they stay in one group with the body, as the checkpoints of such runs have them.
    if not apart and not isinstance(network, ScOT):
        return ()
    return next((names for kind, names in _READS_AND_WRITES.items() if isinstance(network, kind)), ())


def _role(name: str, prefixes: tuple[str, ...], *, norm: bool) -> ParameterRole:
    if name.startswith(prefixes):
        return "embedding"
    return "norm" if norm else "body"
