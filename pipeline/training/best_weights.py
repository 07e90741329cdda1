"""Best weights: those with the lowest held-out loss so far, and how long there have been none better."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


class BestWeights:
    """The best validation of a run, and the weights that it scored; checkpoints hold both.

    Attributes:
        score: the lowest held-out loss so far.
        step: the optimiser step of that validation, 0 before the first.
        waited: the number of validations since then.
        share: what this process holds of the weights, on its host; empty before the first validation.
        buffers: the network's, on the host.
    """

    def __init__(self) -> None:
        self.score, self.step, self.waited = math.inf, 0, 0
        self.share: list[Tensor] = []
        self.buffers: dict[str, Tensor] = {}

    def improved(self, score: float, step: int) -> bool:
        """Record a validation; returns whether it is the best so far."""
        # Not at equal scores: of two the earlier is kept. NaN is never lower.
        if score < self.score:
            self.score, self.step, self.waited = score, step, 0
            return True
        self.waited += 1
        return False

    def keep(self, share: Sequence[Tensor], buffers: Mapping[str, Tensor]) -> None:
        """Keep copies of weights and buffers."""
        # On the host, since they would take room on the device.
        self.share = [tensor.detach().to("cpu", copy=True) for tensor in share]
        self.buffers = {name: tensor.detach().to("cpu", copy=True) for name, tensor in buffers.items()}

    def values(self) -> dict[str, Any]:
        """What a checkpoint's JSON holds: nothing before the first validation, since JSON has no infinity."""
        return {"score": self.score, "step": self.step, "waited": self.waited} if self.step else {}

    def load(self, values: Mapping[str, Any]) -> None:
        """Continue from the values of a checkpoint."""
        if values:
            self.score, self.step, self.waited = values["score"], values["step"], values["waited"]
