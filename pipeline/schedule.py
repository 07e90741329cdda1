"""Learning rates as pure functions of the step, so that a resumed run needs no scheduler's state."""

import math
from typing import Literal

from pydantic import Field

from pelagos.preprocessing.config import Config


class ScheduleConfig(Config):
    """Linear warm-up, then cosine, linear or no decay.

    Attributes:
        kind: the decay after the warm-up.
        warmup: steps of the linear rise from zero.
        final: the last learning rate as a fraction of the highest.
    """

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate of this step (from 0) is multiplied by in a run of so many steps.

        >>> schedule = ScheduleConfig(warmup=2)
        >>> [round(schedule.factor(step, 4), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        decay = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}
        return self.final + (1 - self.final) * decay[self.kind]
