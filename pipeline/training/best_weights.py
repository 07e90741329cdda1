"""Best weights: those with the lowest held-out loss so far, and how long there have been none better."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class BestWeights:
    """The best validation of a run, and the weights that it scored; checkpoints hold both.

    Attributes:
        score: the lowest held-out loss so far.
        step: the optimiser step of that validation, 0 before the first.
        waited: the number of validations since then.
        weights: tensors by name, on the host of rank 0; empty elsewhere.
    """

    def __init__(self) -> None:
        self.score, self.step, self.waited = math.inf, 0, 0
        # On the host, since they would take the room of a second network on the device.
        self.weights: dict[str, Tensor] = {}

    def improved(self, score: float, step: int) -> bool:
        """Record a validation; returns whether it is the best so far."""
        # Not at equal scores: of two the earlier is kept. NaN is never lower.
        if score < self.score:
            self.score, self.step, self.waited = score, step, 0
            return True
        self.waited += 1
        return False

    def values(self) -> dict[str, Any]:
        """What a checkpoint's JSON holds: nothing before the first validation, since JSON has no infinity."""
        return {"score": self.score, "step": self.step, "waited": self.waited} if self.step else {}

    def load(self, values: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        """Continue from a checkpoint."""
        if values:
            self.score, self.step, self.waited = values["score"], values["step"], values["waited"]
            self.weights = weights
