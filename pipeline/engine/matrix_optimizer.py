"""Matrix optimiser: AdamW, but for matrices, which torch's Muon updates."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class MatrixOptimizer(torch.optim.AdamW):
    """AdamW, except that Muon updates the matrices that groups name, each as a whole.

    The engine packs each group into one vector; Muon works on slices of it. What it keeps, a momentum, lies where AdamW
    would have its first moment, so that checkpoints and other numbers of processes need to know nothing of it; the
    second moment of these groups stays zero.

    Source: K. Jordan, Muon: an optimizer for hidden layers (2024); the factor of the rate, by which an update is as
    large as AdamW's, from section 2.2 of arXiv:2502.16982.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, **options: Any) -> None:
        """Take AdamW's groups and options.

        Args:
            groups: with the names of their weights as `matrices` where these are matrices, and none otherwise.
            momentum: the decay of the running mean of a matrix's gradient.
            options: AdamW's.
        """
        super().__init__(groups, **options)
        self._momentum = momentum
        self._muon: torch.optim.Muon | None = None

    @property
    def _matrix_groups(self) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["matrices"]]

    def link(
        self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], momenta: Mapping[str, Tensor]
    ) -> None:
        """Let Muon work on views, by name, of what the groups' parameters, gradients and first moments hold."""
        groups = []
        for group in self._matrix_groups:
            members = [nn.Parameter(weights[name]) for name in group["matrices"]]
            for member, name in zip(members, group["matrices"], strict=True):
                member.grad = gradients[name]
            groups.append({"params": members, "weight_decay": group["weight_decay"]})
        self._muon = torch.optim.Muon(groups, momentum=self._momentum, adjust_lr_fn="match_rms_adamw")
        for group, own in zip(self._matrix_groups, self._muon.param_groups, strict=True):
            for name, member in zip(group["matrices"], own["params"], strict=True):
                self._muon.state[member]["momentum_buffer"] = momenta[name]

    def step(self, closure: Any = None) -> Any:
        """One step of both, at the rates of the groups."""
        assert self._muon is not None, "the engine links the matrices"
        for group, own in zip(self._matrix_groups, self._muon.param_groups, strict=True):
            own["lr"] = group["lr"]
            for vector in group["params"]:
                # AdamW passes over what has no gradient; Muon has views of the same memory.
                vector.grad = None
        self._muon.step()
        return super().step(closure)
