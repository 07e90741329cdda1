"""Best: which weights scored best on held-out samples so far, and when to give up hope for better ones."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Best:
    """The best validation of a run and its weights; checkpoints carry both.

    Attributes:
        score: the lowest so far.
        step: after how many optimiser steps.
        waited: validations since then.
        weights: by name, on the host of rank 0; empty elsewhere.
    """

    def __init__(self) -> None:
        self.score, self.step, self.waited = math.inf, 0, 0
        self.weights: dict[str, Tensor] = {}

    def improved(self, score: float, step: int) -> bool:
        """Take in a validation; whether it is the best so far."""
        if score < self.score:
            self.score, self.step, self.waited = score, step, 0
            return True
        self.waited += 1
        return False

    def values(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {"score": self.score, "step": self.step, "waited": self.waited} if self.step else {}

    def load(self, values: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        """Continue from a checkpoint."""
        if values:
            self.score, self.step, self.waited = values["score"], values["step"], values["waited"]
            self.weights = weights
