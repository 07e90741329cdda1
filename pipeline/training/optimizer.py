"""Optimiser: AdamW, with parameter groups by role; on request Muon for matrices."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import nn

from pelagos.models.layers.conditioning import ConditionalLayerNorm
from pelagos.models.layers.network_layers import layers_of
from pelagos.models.networks.scot.scot import ScOT
from pelagos.pipeline.engine.matrix_optimizer import MatrixOptimizer
from pelagos.pipeline.training.parameter_parts import Part, PartRates, body_matrices, norm_weights
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

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
        rate: their highest learning rate; 0 if they are frozen.
        decay: their weight decay.
        parameters: parameters by name.
        matrices: whether they are matrices that Muon updates.
    """

    role: Part
    rate: float
    decay: float
    parameters: dict[str, nn.Parameter]
    matrices: bool = False

    def __str__(self) -> str:
        numbers = sum(parameter.numel() for parameter in self.parameters.values())
        if not self.rate:
            return f"{self.role}, frozen: {numbers} parameters in {len(self.parameters)} tensors"
        return (
            f"{self.role}, learning rate up to {self.rate:g}, weight decay {self.decay:g}:"
            f" {numbers} parameters in {len(self.parameters)} {'matrices, by Muon' if self.matrices else 'tensors'}"
        )


class OptimizerConfig(Config):
    """AdamW (arXiv 1711.05101) with a learning rate for each role, and Muon for matrices where it is chosen.

    Attributes:
        matrices: what updates the weights of linear layers in the body and in `last`, but for those that make position
            biases: `adamw`, or torch's `muon`, whose updates are scaled to the size of AdamW's, so that rates and decay
            mean the same. It needs whole matrices: `engine.zero_stage: 0` with several processes.
        momentum: of Muon, the decay of the running mean of the gradient, with Nesterov's step; 0.95 by default.
        groups: which parameters are decayed: `pelagos` decays matrices and kernels; `poseidon`, for scOT alone, what
            Poseidon's code decays, which goes by names.
        lr: the highest learning rate of the body.
        lr_embedding: that of the layers that read and write variables; `lr` by default.
        lr_norm: that of norms and their conditioning; `lr` by default.
        parts: rates of parts of the network, or `frozen`: `embedding` reads variables and `recovery` writes them,
            `last` is the layer before that, `norm` are norms and their conditioning, `adapter` what `lora` adds, `body`
            the rest. A pattern such as `encoder.*` chooses weights by name and goes before; of several the last counts.
        layer_decay: the factor from each layer to the one before it, from `recovery` back to `embedding`, of rates that
            `parts` does not give.
        weight_decay: the decay of parameters that are decayed.
        betas: the decays of the running means of the gradient and of its square.
        eps: what is added to the denominator.
    """

    # Not `kind`: merging configurations would drop the rates beside it.
    matrices: Literal["adamw", "muon"] = "adamw"
    momentum: float | None = Field(default=None, ge=0, lt=1)
    groups: Literal["pelagos", "poseidon"] = "pelagos"
    lr: float = Field(default=1e-3, gt=0)
    lr_embedding: float | None = Field(default=None, gt=0)
    lr_norm: float | None = Field(default=None, gt=0)
    parts: dict[str, PositiveFloat | Literal["frozen"]] = Field(default_factory=dict)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)

    @model_validator(mode="after")
    def _momentum_of_muon(self) -> Self:
        if self.momentum is not None and self.matrices == "adamw":
            raise ValueError(
                "momentum is Muon's, and AdamW's the first of betas; leave it out, or set matrices: muon"
            )
        return self

    @model_validator(mode="after")
    def _one_rate_each(self) -> Self:
        for key, parts in (("lr_embedding", ("embedding", "recovery")), ("lr_norm", ("norm",))):
            if getattr(self, key) is not None and (twice := sorted(set(parts) & set(self.parts))):
                raise ValueError(f"{key} and parts.{twice[0]} are rates of the same weights; keep one")
        return self

    def build(self, network: nn.Module) -> torch.optim.AdamW:
        """The optimiser of what is not frozen; each group has its role and, as `peak`, its highest learning rate.

        Raises:
            ConfigError: as `parameter_groups`.
        """
        found = list(self.parameter_groups(network))
        for group in found:
            if not group.rate:
                for parameter in group.parameters.values():
                    parameter.requires_grad_(False)
        # The schedule scales `peak`, since `lr` is what it sets.
        groups = [
            {
                "params": list(group.parameters.values()),
                "role": group.role,
                "lr": group.rate,
                "peak": group.rate,
                "weight_decay": group.decay,
                "matrices": tuple(group.parameters) if group.matrices else (),
            }
            for group in found
            if group.rate
        ]
        # Fused: one kernel for all tensors of a group.
        options: dict[str, Any] = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "fused": True}
        if self.matrices == "adamw":
            return torch.optim.AdamW(groups, **options)
        return MatrixOptimizer(groups, momentum=0.95 if self.momentum is None else self.momentum, **options)

    def parameter_groups(self, network: nn.Module) -> Iterator[ParameterGroup]:
        """The groups of `build`, without empty ones, and what is frozen.

        Raises:
            ConfigError: the groups are for another kind of network, it has no weights that a rate, or Muon, is for, or
                all of its weights are frozen.
        """
        self._check_rates(network)
        rates = PartRates(network, self.parts, self.layer_decay) if self._by_part else None
        matrices = set[nn.Parameter]() if self.matrices == "adamw" else body_matrices(network)
        members: dict[tuple[Part, bool, float, bool], dict[str, nn.Parameter]] = {}
        for name, parameter, role, decayed in self._members(network):
            rate = {"embedding": self.lr_embedding, "norm": self.lr_norm}.get(role) or self.lr
            if rates is not None:
                role, rate = rates.parts[name], rates.rate(name, rate)
            if not parameter.requires_grad:
                rate = 0.0
            key = (role, decayed and rate > 0, rate, parameter in matrices and rate > 0)
            members.setdefault(key, {})[name] = parameter
        if not any(rate for _, _, rate, _ in members):
            raise ConfigError("optimizer.parts: all weights are frozen; leave at least one part to train")
        if self.matrices == "muon" and not any(matrix for *_, matrix in members):
            raise ConfigError(
                "optimizer.matrices: muon is for the weights of linear layers, and this"
                f" {type(network).__name__} trains none in its body; take adamw"
            )
        for (role, decayed, rate, matrix), parameters in sorted(members.items(), key=lambda item: item[0]):
            yield ParameterGroup(role, rate, self.weight_decay if decayed else 0.0, parameters, matrix)

    @property
    def _by_part(self) -> bool:
        return bool(self.parts) or self.layer_decay < 1

    def _check_rates(self, network: nn.Module) -> None:
        if self.lr_embedding is not None and layers_of(network) is None:
            raise ConfigError(
                f"optimizer.lr_embedding: {self.lr_embedding:g} is for networks that tell which layers read and write"
                f" variables; a {type(network).__name__} does not: choose its weights by optimizer.parts and patterns"
                " of their names, or give it a method layer_names()"
            )
        if self.lr_norm is not None and not norm_weights(network):
            raise ConfigError(f"optimizer.lr_norm: a {type(network).__name__} has no norms: leave it out")

    def _members(self, network: nn.Module) -> Iterator[tuple[str, nn.Parameter, Part, bool]]:
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
        apart = set() if self.lr_norm is None else norm_weights(network)
        for name, parameter in network.named_parameters():
            norm = "norm" in name
            # Of another layer's, a last axis of length 1 is a gain or bias in the shape of a kernel.
            wide = parameter.ndim > 2 and (parameter in convolved or parameter.shape[-1] > 1)
            yield (
                name,
                parameter,
                _role(name, prefixes, norm=norm or parameter in apart),
                not norm and (parameter.ndim == 2 or wide),
            )


def _poseidon(network: ScOT, *, apart: bool) -> Iterator[tuple[str, nn.Parameter, Part, bool]]:
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
        role = _role(name, _reads_and_writes(network), norm=norms.get(parameter, False))
        exempt = parameter in norms or "bias" in name
        yield name, parameter, role, not exempt or (apart and role == "embedding")


def _prefixes(network: nn.Module, *, apart: bool) -> tuple[str, ...]:
    """How the names of the weights of role `embedding` begin."""
    # Without a rate of their own they stay in one group with the body, as the checkpoints of such runs have them.
    return _reads_and_writes(network) if apart or isinstance(network, ScOT) else ()


def _reads_and_writes(network: nn.Module) -> tuple[str, ...]:
    layers = layers_of(network)
    return () if layers is None else (*layers[0], *layers[-1])


def _role(name: str, prefixes: tuple[str, ...], *, norm: bool) -> Part:
    if name.startswith(prefixes):
        return "embedding"
    return "norm" if norm else "body"
