"""Parameter groups by role, and AdamW over them."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from pelagos.preprocessing.config import Config

Role = Literal["embedding", "norm", "body"]


class OptimizerConfig(Config):
    """AdamW with one learning rate a role.

    Attributes:
        lr: the highest learning rate of the body.
        lr_embedding: of what reads and writes variables, `lr` where absent.
        lr_norm: of norms and their conditioning, `lr` where absent.
        weight_decay: on matrices and kernels only.
    """

    lr: float = Field(default=1e-3, gt=0)
    lr_embedding: float | None = Field(default=None, gt=0)
    lr_norm: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)

    def build(self, network: nn.Module) -> torch.optim.AdamW:
        """The optimiser; each group carries its role and its highest learning rate as `peak`."""
        groups = list(self._groups(network))
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def _groups(self, network: nn.Module) -> Iterable[dict[str, object]]:
        rates = {"embedding": self.lr_embedding or self.lr, "norm": self.lr_norm or self.lr, "body": self.lr}
        members: dict[tuple[Role, bool], list[nn.Parameter]] = {}
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                members.setdefault(_member(name, parameter), []).append(parameter)
        for (role, decayed), parameters in sorted(members.items()):
            decay = self.weight_decay if decayed else 0.0
            rate = rates[role]
            yield {"params": parameters, "role": role, "lr": rate, "peak": rate, "weight_decay": decay}


def _member(name: str, parameter: nn.Parameter) -> tuple[Role, bool]:
    """The role by the module's name, and whether weight decay applies.

    Poseidon exempts by the word "bias" in a name, which spares its position-bias networks too;
    here everything that scales or shifts is exempt and every kernel is decayed.
    """
    parts = name.split(".")
    if parts[0] in ("embeddings", "patch_recovery"):
        return "embedding", parameter.ndim > 1
    if any("norm" in part for part in parts):
        return "norm", False
    matrix = (parameter.ndim > 1 and parameter.shape[-1] > 1) or parameter.ndim == 2
    return "body", matrix
